//! Pure: the field names that a proxy must understand, each recognised once.

use http::header;
use http::{HeaderMap, HeaderName};

/// A field that decides how a message is framed, forwarded or answered, or none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// `Host` (RFC 9110 7.2).
    Host,
    /// `Connection` (RFC 9110 7.6.1).
    Connection,
    /// `Content-Length` (RFC 9110 8.6).
    ContentLength,
    /// `Content-Type` (RFC 9110 8.3).
    ContentType,
    /// `Transfer-Encoding` (RFC 9112 6.1).
    TransferEncoding,
    /// `TE` (RFC 9110 10.1.4).
    Te,
    /// `Upgrade` (RFC 9110 7.8).
    Upgrade,
    /// `Keep-Alive`, of one connection only (RFC 9110 7.6.1).
    KeepAlive,
    /// `Proxy-Connection`, which some clients send for Connection (RFC 9110 7.6.1).
    ProxyConnection,
    /// `Proxy-Authorization`, for the next proxy only (RFC 9110 11.7.2).
    ProxyAuthorization,
    /// `HTTP2-Settings`, of one connection only (RFC 9113 3.1).
    Http2Settings,
    /// `Expect` (RFC 9110 10.1.1).
    Expect,
    /// `Via` (RFC 9110 7.6.3).
    Via,
    /// `Date` (RFC 9110 6.6.1).
    Date,
    /// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
    IdempotencyKey,
    /// `X-Forwarded-For`, the list of whom proxies had a request from.
    ForwardedFor,
    /// `X-Forwarded-Proto`.
    ForwardedProto,
    /// `X-Forwarded-Host`.
    ForwardedHost,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `traceparent` (W3C Trace Context 3.2).
    Traceparent,
    /// `tracestate` (W3C Trace Context 3.3).
    Tracestate,
    /// Any other.
    Other,
}

/// Which known fields a message has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u32);

// The map of HTTP/2 is asked with references: names of the crate `http` are constants, not places.
static HOST: HeaderName = header::HOST;
static CONNECTION: HeaderName = header::CONNECTION;
static CONTENT_LENGTH: HeaderName = header::CONTENT_LENGTH;
static CONTENT_TYPE: HeaderName = header::CONTENT_TYPE;
static TRANSFER_ENCODING: HeaderName = header::TRANSFER_ENCODING;
static TE: HeaderName = header::TE;
static UPGRADE: HeaderName = header::UPGRADE;
static EXPECT: HeaderName = header::EXPECT;
static VIA: HeaderName = header::VIA;
static DATE: HeaderName = header::DATE;
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static PROXY_AUTHORIZATION: HeaderName = header::PROXY_AUTHORIZATION;
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED: HeaderName = header::FORWARDED;
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static OTHER: HeaderName = HeaderName::from_static("other");

impl Known {
    /// What a field of this name is; names are compared without case.
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::Other;
        };
        // Length and first letter leave one candidate.
        let (candidate, spelled): (Self, &[u8]) = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => (Self::Te, b"te"),
            (3, b'v') => (Self::Via, b"via"),
            (4, b'h') => (Self::Host, b"host"),
            (4, b'd') => (Self::Date, b"date"),
            (6, b'e') => (Self::Expect, b"expect"),
            (7, b'u') => (Self::Upgrade, b"upgrade"),
            (9, b'f') => (Self::Forwarded, b"forwarded"),
            (10, b'c') => (Self::Connection, b"connection"),
            (10, b't') => (Self::Tracestate, b"tracestate"),
            (11, b't') => (Self::Traceparent, b"traceparent"),
            (10, b'k') => (Self::KeepAlive, b"keep-alive"),
            (12, b'c') => (Self::ContentType, b"content-type"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (14, b'h') => (Self::Http2Settings, b"http2-settings"),
            (15, b'i') => (Self::IdempotencyKey, b"idempotency-key"),
            (15, b'x') => (Self::ForwardedFor, b"x-forwarded-for"),
            (16, b'x') => (Self::ForwardedHost, b"x-forwarded-host"),
            (17, b'x') => (Self::ForwardedProto, b"x-forwarded-proto"),
            (16, b'p') => (Self::ProxyConnection, b"proxy-connection"),
            (19, b'p') => (Self::ProxyAuthorization, b"proxy-authorization"),
            (17, b't') => (Self::TransferEncoding, b"transfer-encoding"),
            _ => return Self::Other,
        };
        if is_spelled(name, spelled) {
            candidate
        } else {
            Self::Other
        }
    }

    /// Its name; of [`Other`](Self::Other) one that stands for nothing.
    pub fn name(self) -> &'static HeaderName {
        match self {
            Self::Host => &HOST,
            Self::Connection => &CONNECTION,
            Self::ContentLength => &CONTENT_LENGTH,
            Self::ContentType => &CONTENT_TYPE,
            Self::TransferEncoding => &TRANSFER_ENCODING,
            Self::Te => &TE,
            Self::Upgrade => &UPGRADE,
            Self::KeepAlive => &KEEP_ALIVE,
            Self::ProxyConnection => &PROXY_CONNECTION,
            Self::ProxyAuthorization => &PROXY_AUTHORIZATION,
            Self::Http2Settings => &HTTP2_SETTINGS,
            Self::Expect => &EXPECT,
            Self::Via => &VIA,
            Self::Date => &DATE,
            Self::IdempotencyKey => &IDEMPOTENCY_KEY,
            Self::ForwardedFor => &FORWARDED_FOR,
            Self::ForwardedProto => &FORWARDED_PROTO,
            Self::ForwardedHost => &FORWARDED_HOST,
            Self::Forwarded => &FORWARDED,
            Self::Traceparent => &TRACEPARENT,
            Self::Tracestate => &TRACESTATE,
            Self::Other => &OTHER,
        }
    }
}

/// Whether `name` is `spelled`, which is as long and in lower case. No other byte of a token becomes
/// a lower letter, digit or hyphen by this bit, and without an early end it is a few words' work.
fn is_spelled(name: &[u8], spelled: &[u8]) -> bool {
    let (words, rest) = name.as_chunks::<8>();
    let (spelled_words, spelled_rest) = spelled.as_chunks::<8>();
    let lower = |it: &[u8; 8]| u64::from_le_bytes(*it) | 0x2020_2020_2020_2020;
    let words = words.iter().zip(spelled_words);
    let words = words.fold(0, |odd, (it, spelled)| {
        odd | (lower(it) ^ u64::from_le_bytes(*spelled))
    });
    let rest = rest.iter().zip(spelled_rest);
    words == 0 && rest.fold(0, |odd, (it, spelled)| odd | ((it | 0x20) ^ spelled)) == 0
}

impl KnownSet {
    /// Those of `map`.
    pub fn of(map: &HeaderMap) -> Self {
        let mut set = Self::default();
        map.keys()
            .for_each(|name| set.insert(Known::of(name.as_str().as_bytes())));
        set
    }

    /// Adds `known`.
    pub fn insert(&mut self, known: Known) {
        self.0 |= 1 << known as u16;
    }

    /// Whether `known` is in it.
    pub fn contains(self, known: Known) -> bool {
        self.0 & (1 << known as u16) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        let all = [
            Known::Host,
            Known::Connection,
            Known::ContentLength,
            Known::ContentType,
            Known::TransferEncoding,
            Known::Te,
            Known::Upgrade,
            Known::KeepAlive,
            Known::ProxyConnection,
            Known::ProxyAuthorization,
            Known::Http2Settings,
            Known::Expect,
            Known::Via,
            Known::Date,
            Known::IdempotencyKey,
            Known::ForwardedFor,
            Known::ForwardedProto,
            Known::ForwardedHost,
            Known::Forwarded,
            Known::Traceparent,
            Known::Tracestate,
        ];
        let mut set = KnownSet::default();
        for known in all {
            assert!(!set.contains(known), "{known:?}");
            set.insert(known);
            assert!(set.contains(known));
            let name = known.name().as_str();
            assert_eq!(Known::of(name.as_bytes()), known);
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known);
            let near = name.replace('e', "x").replace("via", "vix");
            if near != name {
                assert_eq!(Known::of(near.as_bytes()), Known::Other, "{near}");
            }
        }
        assert_eq!(Known::of(b""), Known::Other);
    }
}
