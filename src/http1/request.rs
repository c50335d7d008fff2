//! Pure: the head of a request (RFC 9112 section 3).

use std::mem::MaybeUninit;

use http::Method;

use super::framing::{self, Length, Persistence};
use super::{Error, take_fields, unfinished};
use crate::head::{FieldTable, Fields, Span};
use crate::limits::HeadLimits;

/// What a client that speaks HTTP/2 from the start sends first (RFC 9113 3.4): this much of it
/// cannot begin an HTTP/1.1 request.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// A request's head, but for its fields, as offsets into the bytes that it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestLine {
    /// The method.
    pub method: Method,
    /// What the request is for.
    pub target: Target,
    /// Whether the sender speaks HTTP/1.1; else it speaks HTTP/1.0.
    pub is_http_11: bool,
    /// How the body ends.
    pub length: Length,
    /// Whether the client wants to send another request.
    pub persistence: Persistence,
    /// The bytes of the head, its empty line and one that came before it included.
    pub len: usize,
}

/// A request target in one of its four forms (RFC 9112 3.2), taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The authority of an absolute or authority form; empty of the others.
    pub authority: Span,
    /// The path; empty of `http://host` and of an authority form, `*` of an asterisk form.
    pub path: Span,
    /// What follows the first `?`.
    pub query: Option<Span>,
}

/// Parses the head of a request at the start of `bytes` and puts its fields into `table`; `None`
/// when it is not whole yet.
///
/// # Errors
/// What is wrong with it, or which of the `limits` it does not keep.
pub fn parse_request(
    bytes: &[u8],
    limits: &HeadLimits,
    table: &mut FieldTable,
) -> Result<Option<RequestLine>, Error> {
    // A client that ended the last body with one CRLF too many (RFC 9112 2.2).
    let skipped = match bytes {
        b"\r" => return Ok(None),
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    // What lies beyond the bound is not looked at: it might as well not have come yet.
    let head = &bytes[skipped..];
    let head = &head[..head.len().min(limits.bytes)];
    if matches!(head.first(), Some(b'\r' | b'\n')) {
        return Err(Error::StartLine);
    }
    let mut headers = [const { MaybeUninit::uninit() }; HeadLimits::MAX.fields];
    let mut parsed = httparse::Request::new(&mut []);
    let whole = parsed.parse_with_uninit_headers(head, &mut headers);
    if parsed
        .method
        .is_some_and(|it| is_target_too_long(&head[it.len()..], limits.target))
    {
        return Err(Error::TargetTooLong);
    }
    let (httparse::Status::Complete(len), Some(method), Some(path), Some(version)) =
        (whole?, parsed.method, parsed.path, parsed.version)
    else {
        return unfinished(head, limits.bytes).map(|()| None);
    };
    if parsed.headers.len() > limits.fields {
        return Err(Error::TooManyFields);
    }
    take_fields(bytes, &head[..len], parsed.headers, table)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Error::StartLine)?;
    let target = target(&method, path.as_bytes(), bytes)?;
    let is_http_11 = version == 1;
    let fields = Fields::Lines(bytes, table);
    Ok(Some(RequestLine {
        length: framing::of_request(fields, &method, is_http_11)?,
        persistence: framing::persistence(fields, is_http_11),
        method,
        target,
        is_http_11,
        len: skipped + len,
    }))
}

/// Whether the target is too long in what is there of a head after the method: this is found at
/// the same byte whether more of it has come or not.
fn is_target_too_long(rest: &[u8], max: usize) -> bool {
    let is_target_byte = |it: &u8| it.is_ascii_graphic() || !it.is_ascii();
    rest.len() > max
        && rest[1..]
            .iter()
            .take_while(|it| is_target_byte(it))
            .nth(max)
            .is_some()
}

/// RFC 9112 3.2: authority form for CONNECT only, asterisk form for OPTIONS only, else origin or
/// absolute form.
fn target(method: &Method, target: &[u8], bytes: &[u8]) -> Result<Target, Error> {
    if *method == Method::CONNECT {
        return authority_form(target, bytes);
    }
    if target == b"*" && *method == Method::OPTIONS {
        let path = Span::of(target, bytes);
        return Ok(Target {
            path,
            ..Target::default()
        });
    }
    if target.starts_with(b"/") {
        return path_and_query(target, bytes);
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (begin, rest) = target.split_at_checked(scheme.len())?;
        begin
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(rest)
    });
    let rest = rest.ok_or(Error::Target)?;
    let end = rest.iter().position(|it| matches!(it, b'/' | b'?'));
    let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
    if !is_authority(authority) {
        return Err(Error::Target);
    }
    let target = match rest.first() {
        None => Target::default(),
        Some(b'/') => path_and_query(rest, bytes)?,
        Some(_) => Target {
            query: Some(query(&rest[1..], bytes)?),
            ..Target::default()
        },
    };
    Ok(Target {
        authority: Span::of(authority, bytes),
        ..target
    })
}

fn authority_form(target: &[u8], bytes: &[u8]) -> Result<Target, Error> {
    // The port is not optional (RFC 9110 9.3.6); the colons in brackets lead to none.
    let host_end = memchr::memrchr(b']', target).map_or(0, |at| at + 1);
    let colon = memchr::memchr(b':', &target[host_end..]);
    let has_port = colon.is_some_and(|at| host_end + at + 1 < target.len());
    if !has_port || !is_authority(target) {
        return Err(Error::Target);
    }
    Ok(Target {
        authority: Span::of(target, bytes),
        ..Target::default()
    })
}

fn path_and_query(target: &[u8], bytes: &[u8]) -> Result<Target, Error> {
    let mark = memchr::memchr(b'?', target);
    let path = &target[..mark.unwrap_or(target.len())];
    if !consists_of(PATH, path) || !is_text(path) {
        return Err(Error::Target);
    }
    let query = mark.map(|at| query(&target[at + 1..], bytes)).transpose()?;
    Ok(Target {
        authority: Span::default(),
        path: Span::of(path, bytes),
        query,
    })
}

fn query(query: &[u8], bytes: &[u8]) -> Result<Span, Error> {
    if !consists_of(QUERY, query) || !is_text(query) {
        return Err(Error::Target);
    }
    Ok(Span::of(query, bytes))
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.is_ascii() || str::from_utf8(bytes).is_ok()
}

/// What a byte may be part of, as bits of [`CLASSES`].
const PATH: u8 = 1;
const QUERY: u8 = 2;
const NAME: u8 = 4;

/// Looked up, because ranges are compared with one after the other.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = (is_path_byte(byte) as u8 * PATH)
            | (is_query_byte(byte) as u8 * QUERY)
            | (is_name_byte(byte) as u8 * NAME);
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

fn consists_of(class: u8, bytes: &[u8]) -> bool {
    // Without an early end, for there rarely is one.
    let common = |left, it: &u8| left & CLASSES[usize::from(*it)];
    bytes.iter().fold(class, common) != 0
}

/// What browsers send in a path as it is (WHATWG URL, path state), and the quotes and braces that
/// some clients do not encode. A fragment is never sent (RFC 9112 3.2).
const fn is_path_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'"' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'~' | 0x80..)
}

/// The same in a query (WHATWG URL, query state).
const fn is_query_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'~' | 0x80..)
}

/// Whether `host` is a host with an optional port (RFC 3986 3.2.2, 3.2.3): a name or an address of
/// four numbers, or an IPv6 address in brackets. Userinfo is never one.
pub(crate) fn is_authority(host: &[u8]) -> bool {
    let (name, port) = if let Some(bracketed) = host.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', bracketed) else {
            return false;
        };
        let (address, rest) = (&bracketed[..end], &bracketed[end + 1..]);
        let is_address =
            str::from_utf8(address).is_ok_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_address || !(rest.is_empty() || rest.starts_with(b":")) {
            return false;
        }
        (&b"v6"[..], rest.strip_prefix(b":"))
    } else {
        match memchr::memchr(b':', host) {
            None => (host, None),
            Some(at) => (&host[..at], Some(&host[at + 1..])),
        }
    };
    let is_port = |port: &[u8]| port.is_empty() || str::from_utf8(port).is_ok_and(is_port_number);
    !name.is_empty() && consists_of(NAME, name) && port.is_none_or(is_port)
}

fn is_port_number(port: &str) -> bool {
    port.bytes().all(|it| it.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Unreserved and sub-delims (RFC 3986 2.2, 2.3). Host names need no percent-encoding, and two
/// readings of one are worth nothing.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}
