//! Pure: the one borrowed view of a request that routes, keys and plans see.
//!
//! Whatever protocol brought the request, the domain reads it through [`RequestHead`]. What a
//! request is routed by is exactly what is forwarded: a path that is to have its [`normal()`] form has
//! it before anybody looks.

use std::net::IpAddr;

use http::Method;

mod fields;
mod known;
mod normal;
mod pattern;

pub use fields::{FieldLine, FieldTable, Fields, Span, allowed_trailers, content_length};
pub use known::{Known, KnownSet};
pub use normal::{NotNormal, normal};
pub use pattern::{CAPTURES_MAX, Captures, PathPattern, PatternError};
pub(crate) use pattern::{Segment, segments};

/// A request's head, borrowed from wherever the protocol keeps it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The request method.
    pub method: &'a Method,
    /// The authority (`host[:port]`) that the request is for, as received; empty when it named none.
    pub authority: &'a str,
    /// The path, byte for byte as it came, without the query.
    pub path: &'a str,
    /// What followed the first `?`, byte for byte; `None` without a `?`.
    pub query: Option<&'a str>,
    /// The header fields.
    pub fields: Fields<'a>,
    /// The peer's address; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The name of the listener that accepted the connection.
    pub listener: &'a str,
}

impl<'a> RequestHead<'a> {
    /// The authority's host without its port; brackets of an IPv6 literal stay.
    pub fn host(&self) -> &'a str {
        match self.authority.rfind(':') {
            Some(colon) if !self.authority[colon..].contains(']') => &self.authority[..colon],
            _ => self.authority,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn host(authority: &str) -> String {
        let fields = HeaderMap::new();
        let head = RequestHead {
            method: &Method::GET,
            authority,
            path: "/",
            query: None,
            fields: Fields::from(&fields),
            client: None,
            listener: "app",
        };
        head.host().to_owned()
    }

    #[test]
    fn host_drops_the_port_only() {
        assert_eq!(host("a.test:80"), "a.test");
        assert_eq!(host("a.test"), "a.test");
        assert_eq!(host("[::1]:80"), "[::1]");
        assert_eq!(host("[::1]"), "[::1]");
        assert_eq!(host(""), "");
    }
}
