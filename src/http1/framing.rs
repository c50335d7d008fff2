//! Pure: how long a message's body is and whether its connection goes on (RFC 9112 sections 6.3
//! and 9.3).

use http::{Method, StatusCode};

use super::Error;
use crate::head::{Fields, Known, content_length};

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    Empty,
    /// After this many bytes, one at least.
    Exact(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection: a response to the end of it.
    UntilClose,
    /// Never: the connection has become a tunnel (CONNECT, or 101).
    Tunnel,
}

/// Whether a connection may carry another message after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It may.
    KeepAlive,
    /// It ends with this message.
    Close,
}

/// What the fields say of the body, before method and status are looked at.
enum Framing {
    None,
    Sized(u64),
    Chunked,
}

/// RFC 9112 6.3: a request without either field has no body; CONNECT has none whatever it says.
pub(super) fn of_request(
    fields: Fields<'_>,
    method: &Method,
    is_http_11: bool,
) -> Result<Length, Error> {
    Ok(match framing(fields, is_http_11)? {
        Framing::None if *method == Method::CONNECT => Length::Tunnel,
        // What a tunnel's opening should carry has no defined meaning (RFC 9110 9.3.6).
        _ if *method == Method::CONNECT => return Err(Error::Framing),
        Framing::None | Framing::Sized(0) => Length::Empty,
        Framing::Sized(length) => Length::Exact(length),
        Framing::Chunked => Length::Chunked,
    })
}

/// RFC 9112 6.3: what `asked` and `status` decide comes before what the fields say.
pub(super) fn of_response(
    fields: Fields<'_>,
    asked: &Method,
    status: StatusCode,
    is_http_11: bool,
) -> Result<Length, Error> {
    let code = status.as_u16();
    if code == 101 || *asked == Method::CONNECT && status.is_success() {
        return Ok(Length::Tunnel);
    }
    let framing = framing(fields, is_http_11)?;
    if *asked == Method::HEAD || code < 200 || code == 204 || code == 304 {
        return Ok(Length::Empty);
    }
    Ok(match framing {
        Framing::None => Length::UntilClose,
        Framing::Sized(0) => Length::Empty,
        Framing::Sized(length) => Length::Exact(length),
        Framing::Chunked => Length::Chunked,
    })
}

fn framing(fields: Fields<'_>, is_http_11: bool) -> Result<Framing, Error> {
    let coded = fields.has(Known::TransferEncoding);
    if !coded && !fields.has(Known::ContentLength) {
        return Ok(Framing::None);
    }
    let mut lengths = fields.known(Known::ContentLength);
    match (lengths.next(), lengths.next()) {
        (None, _) => coding(fields, is_http_11),
        // Repeated lengths, even equal ones, may be refused (RFC 9112 6.3, 5).
        (Some(_), Some(_)) => Err(Error::ContentLength),
        // The classic smuggling vector (RFC 9112 6.3, 3).
        (Some(_), None) if coded => Err(Error::Framing),
        (Some(value), None) => content_length(value)
            .map(Framing::Sized)
            .ok_or(Error::ContentLength),
    }
}

fn coding(fields: Fields<'_>, is_http_11: bool) -> Result<Framing, Error> {
    // HTTP/1.0 has no transfer codings: its framing is faulty (RFC 9112 6.1).
    if !is_http_11 {
        return Err(Error::Framing);
    }
    let mut codings = fields.known(Known::TransferEncoding);
    let only = codings.next().filter(|_| codings.next().is_none());
    match only {
        Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        _ => Err(Error::Coding),
    }
}

/// RFC 9112 9.3: HTTP/1.1 goes on unless it says `close`, HTTP/1.0 ends unless it says
/// `keep-alive`.
pub(super) fn persistence(fields: Fields<'_>, is_http_11: bool) -> Persistence {
    let goes_on = if fields.has(Known::Connection) {
        // Options have no parameters (RFC 9110 7.6.1): a member is one or is none.
        let has = |option: &str| {
            let mut members = fields.members(Known::Connection);
            members.any(|it| it.eq_ignore_ascii_case(option))
        };
        !has("close") && (is_http_11 || has("keep-alive"))
    } else {
        is_http_11
    };
    if goes_on {
        Persistence::KeepAlive
    } else {
        Persistence::Close
    }
}
