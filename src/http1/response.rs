//! Pure: the head of a response (RFC 9112 section 4).

use std::mem::MaybeUninit;

use http::{Method, StatusCode};

use super::framing::{self, Length, Persistence};
use super::{Error, FIELDS_MAX, HEAD_MAX, take_fields, unfinished};
use crate::head::{FieldTable, Fields, Span};

/// A response's head, but for its fields, as offsets into the bytes that it was parsed from.
#[derive(Clone, Debug)]
pub struct StatusLine {
    /// The status code.
    pub status: StatusCode,
    /// The reason phrase, which may be empty.
    pub reason: Span,
    /// Whether the sender speaks HTTP/1.1; else it speaks HTTP/1.0.
    pub is_http_11: bool,
    /// How the body ends.
    pub length: Length,
    /// Whether the connection may serve again after this response.
    pub persistence: Persistence,
    /// The bytes of the head, its empty line included.
    pub len: usize,
}

/// Parses the head of a response to a request by `asked` at the start of `bytes` and puts its
/// fields into `table`; `None` when it is not whole yet.
///
/// # Errors
/// What is wrong with it.
pub fn parse_response(
    bytes: &[u8],
    asked: &Method,
    table: &mut FieldTable,
) -> Result<Option<StatusLine>, Error> {
    // What lies beyond the bound is not looked at: it might as well not have come yet.
    let head = &bytes[..bytes.len().min(HEAD_MAX)];
    if matches!(head.first(), Some(b'\r' | b'\n')) {
        return Err(Error::StartLine);
    }
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let whole = config.parse_response_with_uninit_headers(&mut parsed, head, &mut headers)?;
    let (httparse::Status::Complete(len), Some(code), Some(version)) =
        (whole, parsed.code, parsed.version)
    else {
        return unfinished(head, HEAD_MAX).map(|()| None);
    };
    take_fields(bytes, &head[..len], parsed.headers, table)?;
    let status = StatusCode::from_u16(code).map_err(|_| Error::StartLine)?;
    let reason = parsed
        .reason
        .map_or_else(Span::default, |it| Span::of(it.as_bytes(), bytes));
    let is_http_11 = version == 1;
    let fields = Fields::Lines(bytes, table);
    let length = framing::of_response(fields, asked, status, is_http_11)?;
    let persistence = match length {
        Length::UntilClose | Length::Tunnel => Persistence::Close,
        Length::Empty | Length::Exact(_) | Length::Chunked => {
            framing::persistence(fields, is_http_11)
        }
    };
    Ok(Some(StatusLine {
        status,
        reason,
        is_http_11,
        length,
        persistence,
        len,
    }))
}
