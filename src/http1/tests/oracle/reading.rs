//! What the codec makes of an input.

use http::Method;

use super::super::*;

/// A message as either side reads it, in words that both have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) start: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
    /// Whether its end was seen.
    pub(super) is_whole: bool,
}

/// Messages, and why there are no more.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The whole ones, each with where it ends in the input.
    pub(super) messages: Vec<(Message, usize)>,
    pub(super) stop: Stop,
    /// The head whose body is not right.
    pub(super) broken: Option<Message>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stop {
    /// The input, or what was asked for, is at its end.
    #[default]
    Done,
    /// The last message ends the connection.
    Closed,
    /// The last message ended with the input.
    UntilClose,
    /// The last message began a tunnel.
    Tunnel,
    /// Whether the connection goes on is not compared after the last message.
    Untold,
    /// The input ends within a message.
    Short,
    Refused(Error),
}

/// A head that was read, of either kind.
struct Head {
    start: String,
    length: Length,
    persistence: Persistence,
    len: usize,
}

pub(super) fn requests(input: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut at = 0;
    while at < input.len() && reading.stop == Stop::Done {
        let rest = &input[at..];
        let mut table = FieldTable::new();
        let parsed = parse_request(rest, &LIMITS, &mut table);
        let head = parsed.map(|it| it.map(|it| request_head(rest, &it)));
        at += reading.take(rest, &table, head, at);
    }
    reading
}

/// The responses to requests by these methods.
pub(super) fn responses(input: &[u8], asked: &[Method]) -> Reading {
    let mut reading = Reading::default();
    let (mut at, mut answered) = (0, 0);
    while answered < asked.len() && at < input.len() && reading.stop == Stop::Done {
        let rest = &input[at..];
        let mut table = FieldTable::new();
        let parsed = parse_response(rest, &asked[answered], &mut table);
        if let Ok(Some(line)) = &parsed
            && line.status.is_informational()
            && line.length != Length::Tunnel
        {
            at += line.len;
            continue;
        }
        let head = parsed.map(|it| it.map(|it| response_head(rest, &it)));
        at += reading.take(rest, &table, head, at);
        answered += 1;
    }
    if answered < asked.len() && reading.stop == Stop::Done {
        reading.stop = Stop::Short;
    }
    reading
}

impl Reading {
    /// Adds the message at the start of `rest`, and says how long it is.
    fn take(
        &mut self,
        rest: &[u8],
        table: &FieldTable,
        head: Result<Option<Head>, Error>,
        at: usize,
    ) -> usize {
        let head = match head {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.stop = Stop::Short;
                return 0;
            }
            Err(error) => {
                self.stop = Stop::Refused(error);
                return 0;
            }
        };
        let mut message = Message {
            start: head.start,
            fields: fields(&rest[..head.len], table),
            ..Message::default()
        };
        let (body, ended) = match head.length {
            Length::Tunnel => read_body(Length::Empty, [&b""[..]]),
            length => read_body(length, [&rest[head.len..]]),
        };
        message.body = body.data;
        let (Some(len), Ok(())) = (body.end, ended) else {
            self.stop = ended.map_or_else(Stop::Refused, |()| Stop::Short);
            self.broken = Some(message);
            return 0;
        };
        if !body.trailers.is_empty() {
            message.trailers = shown_map(&parse_trailers(&body.trailers).unwrap());
        }
        message.is_whole = true;
        self.stop = match (head.length, head.persistence) {
            (Length::Tunnel, _) => Stop::Tunnel,
            (Length::UntilClose, _) => Stop::UntilClose,
            _ if message.is_connection_untold() => Stop::Untold,
            (_, Persistence::Close) => Stop::Closed,
            (_, Persistence::KeepAlive) => Stop::Done,
        };
        let len = head.len + len;
        self.messages.push((message, at + len));
        len
    }
}

impl Message {
    /// An exception: of a Connection line that is not ASCII hyper reads no option, the codec those
    /// that are tokens, as every list is read (RFC 9110 5.6.1, 7.6.1).
    fn is_connection_untold(&self) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|(name, value)| name == "connection" && value.contains("\\x"))
    }
}

fn request_head(bytes: &[u8], line: &RequestLine) -> Head {
    let target = line.target;
    let path = match text(target.path, bytes) {
        // hyper has a path for every URI that is no authority form.
        "" if line.method != Method::CONNECT => "/",
        path => path,
    };
    let authority = text(target.authority, bytes);
    let query = target.query.map(|it| text(it, bytes));
    Head {
        start: request_start(&line.method, authority, path, query, line.is_http_11),
        length: line.length,
        persistence: line.persistence,
        len: line.len,
    }
}

pub(super) fn request_start(
    method: &Method,
    authority: &str,
    path: &str,
    query: Option<&str>,
    is_http_11: bool,
) -> String {
    format!("{method} [{authority}] [{path}] {query:?} 1.1: {is_http_11}")
}

fn response_head(bytes: &[u8], line: &StatusLine) -> Head {
    let reason = line.reason.of_bytes(bytes);
    Head {
        start: response_start(line.status, reason, line.is_http_11),
        length: line.length,
        persistence: line.persistence,
        len: line.len,
    }
}

pub(super) fn response_start(status: StatusCode, reason: &[u8], is_http_11: bool) -> String {
    format!("{} [{}] 1.1: {is_http_11}", status.as_u16(), shown(reason))
}

/// The fields, in a map's order. They are those that splitting the head at its line ends and at
/// each first colon gives: a head that is read at all leaves no doubt.
fn fields(head: &[u8], table: &FieldTable) -> Vec<(String, String)> {
    let split = head.strip_prefix(b"\r\n").unwrap_or(head).escape_ascii();
    let split = split.to_string().replace("\\t", "\t");
    let split = split
        .split("\\r\\n")
        .skip(1)
        .take_while(|it| !it.is_empty());
    let split: Vec<_> = split
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            let value = value.trim_matches([' ', '\t']).replace('\t', "\\t");
            (name.replace("\\'", "'"), value)
        })
        .collect();
    let read = lines(head, table).into_iter();
    let read: Vec<_> = read.map(|(name, value)| (name, shown(&value))).collect();
    assert_eq!(read, split, "{}", shown(head));

    let mut map = http::HeaderMap::new();
    Fields::Lines(head, table).each(|line| line.append_to(&mut map).unwrap());
    shown_map(&map)
}

pub(super) fn shown_map(map: &http::HeaderMap) -> Vec<(String, String)> {
    let shown = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), shown(value.as_bytes()))
    };
    map.iter().map(shown).collect()
}
