//! Pure: the HTTP/1.1 codec: bytes in, heads and bodies out, and back (RFC 9112).
//!
//! A head is parsed into offsets into the bytes that it came in: nothing is copied and nothing is
//! allocated. A body is a machine that is fed what was read, in whatever pieces, and says which of
//! it is data. There is no socket and no clock here, and no policy: what is forwarded, and how, is
//! decided above.
//!
//! The codec is strict: what RFC 9112 lets a recipient refuse is refused, because two readings of
//! one message are how requests are smuggled. It accepts
//! - lines that end with CRLF only (section 2.2), and at most one empty line before a request;
//! - no white space before a colon and no folded line (5.1, 5.2);
//! - one Content-Length of digits, or `Transfer-Encoding: chunked`, never both (6.1 to 6.3);
//! - chunk sizes of at most 16 hexadecimal digits, extensions within a bound (7.1).
//!
//! Everything it accepts, hyper accepts and reads alike: the tests hold the codec against it.

mod body;
mod encode;
mod framing;
mod request;
mod response;

pub use body::{Decoded, Decoder, Step, parse_trailers};
pub use encode::{ChunkSize, end_head, field, last_chunk, request_line, status_line};
pub use framing::{Length, Persistence};
pub(crate) use request::is_authority;
pub use request::{PREFACE, RequestLine, Target, parse_request};
pub use response::{StatusLine, parse_response};

use crate::head::FieldTable;
use crate::limits::HeadLimits;

/// The largest head of a response that is read, in bytes; `HAProxy` and nginx end at 16 and 32 KiB
/// by default.
pub const HEAD_MAX: usize = HeadLimits::MAX.bytes;

/// The most fields of a response's head or of a trailer section (`HAProxy`'s `tune.http.maxhdr` is
/// 101).
pub const FIELDS_MAX: usize = 100;

/// The largest trailer section, in bytes; hyper refuses at 16 KiB.
pub const TRAILERS_MAX: usize = (16 << 10) - 1;

/// The most bytes of chunk extensions in one body; hyper refuses at 16 KiB. They are read and
/// dropped, so a sender that sends little else only costs time.
pub const EXTENSIONS_MAX: u64 = (16 << 10) - 1;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first line is none.
    #[error("expected a start line, found something else")]
    StartLine,
    /// The request's target is of no form of RFC 9112 section 3.2.
    #[error("expected a request target, found something else")]
    Target,
    /// The target is longer than it may be.
    #[error("the target has more bytes than it may")]
    TargetTooLong,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("expected HTTP/1.1 or HTTP/1.0, found another version")]
    Version,
    /// A field line is none.
    #[error("expected a field line, found something else")]
    Field,
    /// A line ended otherwise than with CRLF.
    #[error("expected CRLF at the end of a line, found something else")]
    LineEnd,
    /// The head is larger than it may be.
    #[error("the head has more bytes than it may")]
    HeadTooLarge,
    /// The head has more fields than it may.
    #[error("the head has more fields than it may")]
    TooManyFields,
    /// Content-Length is not one number.
    #[error("expected one number as Content-Length, found something else")]
    ContentLength,
    /// Both ways of framing a body at once, or Transfer-Encoding where there can be none.
    #[error("expected one framing of the body, found a contradiction")]
    Framing,
    /// A transfer coding other than `chunked`.
    #[error("expected the transfer coding chunked, found another")]
    Coding,
    /// A chunk is not framed as one.
    #[error("expected a chunk, found something else")]
    Chunk,
    /// Chunk extensions beyond [`EXTENSIONS_MAX`] or trailers beyond [`TRAILERS_MAX`].
    #[error("the chunks bring too much beside their data")]
    ChunkOverhead,
    /// The input ended within a body.
    #[error("the body broke off")]
    Truncated,
}

impl From<httparse::Error> for Error {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName | httparse::Error::HeaderValue => Self::Field,
            httparse::Error::NewLine => Self::LineEnd,
            httparse::Error::Status | httparse::Error::Token => Self::StartLine,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
        }
    }
}

/// Whether more may come of a head of at most `max` bytes, of which `head` is there.
fn unfinished(head: &[u8], max: usize) -> Result<(), Error> {
    if head.len() < max {
        Ok(())
    } else {
        Err(Error::HeadTooLarge)
    }
}

/// Puts the fields of the whole `head`, a part of `bytes`, into `table`.
fn take_fields(
    bytes: &[u8],
    head: &[u8],
    fields: &[httparse::Header<'_>],
    table: &mut FieldTable,
) -> Result<(), Error> {
    if !ends_lines_with_crlf(head) {
        return Err(Error::LineEnd);
    }
    for field in fields {
        table.push(bytes, field.name.as_bytes(), field.value);
    }
    Ok(())
}

/// Whether the start line of `head`, and every field line of it, ends with CRLF: httparse takes a
/// bare LF too. An obsolete fold never gets here.
fn ends_lines_with_crlf(head: &[u8]) -> bool {
    // Without an early end, so that it is a few vector instructions.
    let bare = |pair: &[u8; 2]| pair[1] == b'\n' && pair[0] != b'\r';
    let has_bare = head
        .array_windows()
        .fold(false, |any, pair| any | bare(pair));
    !has_bare && head.first() != Some(&b'\n')
}

#[cfg(test)]
mod tests;
