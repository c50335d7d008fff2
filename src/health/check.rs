//! Pure: what a probe asks of a node, and which answers are good ones.

use std::ops::RangeInclusive;

use http::{Method, StatusCode};
use regex::bytes::{Regex, RegexBuilder};

pub mod grpc;

/// The memory that a compiled pattern may take, in bytes: many times what a health page's needs.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// What a probe asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Check {
    /// Whether a connection can be made, its TLS included.
    #[default]
    Tcp,
    /// A request of HTTP.
    Http(HttpCheck),
    /// A call of `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service that is asked for; empty for the whole server.
        service: String,
    },
}

/// A request of HTTP and the answers to it that are good.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// The method.
    pub method: Method,
    /// The path, with a query if need be.
    pub path: String,
    /// What is sent as Host; `None` for the node's address.
    pub host: Option<String>,
    /// The status codes that are good.
    pub expect: Statuses,
    /// What the beginning of the body must match.
    pub body: Option<BodyPattern>,
}

/// Status codes, as ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

/// A regular expression over the bytes of a body; matching takes time linear in their number.
#[derive(Clone, Debug)]
pub struct BodyPattern(Regex);

impl Check {
    /// Whether a good answer comes from the node's application, not from its system alone.
    pub fn reaches_application(&self) -> bool {
        match self {
            Self::Tcp => false,
            Self::Http(_) | Self::Grpc { .. } => true,
        }
    }
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: "/healthz".to_owned(),
            host: None,
            expect: Statuses::default(),
            body: None,
        }
    }
}

impl Statuses {
    /// Whether `status` is one of them.
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|it| it.contains(&status.as_u16()))
    }
}

impl Default for Statuses {
    /// What Kubernetes takes for a good answer of an HTTP probe.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl BodyPattern {
    /// Compiles `pattern`; `.` and classes are of bytes, so that a body need not be UTF-8.
    ///
    /// # Errors
    /// When it is no regular expression, or too large a one.
    pub fn new(pattern: &str) -> Result<Self, regex::Error> {
        let mut builder = RegexBuilder::new(pattern);
        let builder = builder.unicode(false).size_limit(PATTERN_SIZE_MAX);
        builder.build().map(Self)
    }

    /// Whether it is found in `body`.
    pub fn is_in(&self, body: &[u8]) -> bool {
        self.0.is_match(body)
    }
}

impl PartialEq for BodyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_ranges() {
        let expect = Statuses(vec![200..=204, 301..=301]);
        let found = [199, 200, 204, 205, 301].map(|it| {
            let status = StatusCode::from_u16(it).unwrap();
            expect.contains(status)
        });
        assert_eq!(found, [false, true, true, false, true]);
    }

    #[test]
    fn a_pattern_is_of_bytes_and_bounded() {
        let pattern = BodyPattern::new(r#""role":\s*"(?:primary|é)""#).unwrap();
        assert!(pattern.is_in(b"\xff{\"role\": \"primary\"}"));
        assert!(pattern.is_in("{\"role\":\"é\"}".as_bytes()));
        assert!(!pattern.is_in(b"{\"role\": \"replica\"}"));
        assert!(BodyPattern::new("(").is_err());
        assert!(BodyPattern::new("(?:x{1000}){1000}").is_err());
    }
}
