use http::{Method, StatusCode};

use super::*;
use crate::head::{FieldTable, Fields, Known, Span};

mod bodies;
mod bounds;
mod encoders;
mod lengths;
mod oracle;
mod requests;
mod responses;
mod splits;
mod targets;

/// The widest limits but for the fields, of which hyper takes no more either.
const LIMITS: HeadLimits = HeadLimits {
    fields: FIELDS_MAX,
    ..HeadLimits::MAX
};

/// What is left of a request's head when its fields are asked for no more.
fn request(bytes: &[u8]) -> Result<Option<RequestLine>, Error> {
    parse_request(bytes, &LIMITS, &mut FieldTable::new())
}

/// The head of a request that is whole and right.
fn accepted(bytes: &[u8]) -> RequestLine {
    let parsed = request(bytes).unwrap_or_else(|error| panic!("{}: {error}", shown(bytes)));
    parsed.unwrap_or_else(|| panic!("{} is not whole", shown(bytes)))
}

/// What is wrong with a request.
fn refused(bytes: &[u8]) -> Error {
    match request(bytes) {
        Err(error) => error,
        Ok(parsed) => panic!("{}: {parsed:?}", shown(bytes)),
    }
}

/// The head of a response to `asked`.
fn response_to(asked: &Method, bytes: &[u8]) -> Result<Option<StatusLine>, Error> {
    parse_response(bytes, asked, &mut FieldTable::new())
}

fn response(bytes: &[u8]) -> Result<Option<StatusLine>, Error> {
    response_to(&Method::GET, bytes)
}

/// A request with these field lines, each with its line end.
fn with_fields(lines: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\n{lines}\r\n").into_bytes()
}

/// Name and value of each line.
fn lines(message: &[u8], table: &FieldTable) -> Vec<(String, Vec<u8>)> {
    let mut lines = Vec::new();
    Fields::Lines(message, table).each(|it| {
        let name = String::from_utf8(it.name().to_vec()).unwrap();
        lines.push((name, it.value().to_vec()));
    });
    lines
}

fn text(span: Span, message: &[u8]) -> &str {
    str::from_utf8(span.of_bytes(message)).unwrap()
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// A body as it came out of its framing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    /// The trailer section, its empty line included.
    trailers: Vec<u8>,
    /// Where it ended in the input; `None` when it did not.
    end: Option<usize>,
}

/// Reads a body of `length` as `reads` bring it; with it why it broke off, if it did.
fn read_body<'a>(
    length: Length,
    reads: impl IntoIterator<Item = &'a [u8]>,
) -> (Body, Result<(), Error>) {
    let mut decoder = Decoder::new(length);
    let (mut body, mut input, mut at) = (Body::default(), Vec::new(), 0);
    for read in reads {
        input.extend_from_slice(read);
        while body.end.is_none() {
            let Decoded { skip, step } = match decoder.decode(&input[at..]) {
                Ok(decoded) => decoded,
                Err(error) => return (body, Err(error)),
            };
            at += skip;
            match step {
                Step::Data(len) => {
                    assert!(len > 0, "data is one byte at least");
                    body.data.extend_from_slice(&input[at..at + len]);
                    at += len;
                }
                Step::Trailers(len) => {
                    assert!(decoder.is_at_end(), "trailers end the body");
                    body.trailers.extend_from_slice(&input[at..at + len]);
                    at += len;
                    body.end = Some(at);
                }
                Step::End => body.end = Some(at),
                Step::Incomplete => break,
            }
        }
    }
    let ended = decoder.end_of_input();
    if ended.is_ok() {
        body.end.get_or_insert(at);
    }
    (body, ended)
}
