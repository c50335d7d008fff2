//! Pure: one reading of a request's head, for routing, key, log and forwarding alike.

use std::net::IpAddr;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Version, header, request};

use super::answer::Refusal;
use super::fields::Pseudonym;
use crate::head::{FieldTable, Fields, Known, RequestHead, Span};
use crate::http1::{self, RequestLine};
use crate::reason::Reason;

/// A request's head as its protocol brought it, read once.
#[derive(Debug)]
pub(super) enum Received {
    /// By HTTP/1.1 or 1.0: the bytes, and what is where in them.
    Http1 {
        bytes: Bytes,
        line: RequestLine,
        table: FieldTable,
        /// Of the target or of Host; empty only in HTTP/1.0.
        authority: Span,
    },
    /// By HTTP/2.
    Http2 {
        parts: request::Parts,
        authority: Option<Authority>,
    },
}

impl Received {
    /// The request that these bytes hold.
    pub(super) fn http1(bytes: Bytes, line: RequestLine, table: FieldTable) -> Self {
        let authority = line.target.authority;
        Self::Http1 {
            bytes,
            line,
            table,
            authority,
        }
    }

    /// The request of an HTTP/2 stream.
    pub(super) fn http2(parts: request::Parts) -> Self {
        let authority = parts.uri.authority().cloned();
        Self::Http2 { parts, authority }
    }

    pub(super) fn method(&self) -> &Method {
        match self {
            Self::Http1 { line, .. } => &line.method,
            Self::Http2 { parts, .. } => &parts.method,
        }
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Self::Http1 { line, .. } if line.is_http_11 => Version::HTTP_11,
            Self::Http1 { .. } => Version::HTTP_10,
            Self::Http2 { .. } => Version::HTTP_2,
        }
    }

    /// Whom the request is for; empty when it does not say, which only HTTP/1.0 may.
    pub(super) fn authority(&self) -> &str {
        match self {
            Self::Http1 {
                bytes, authority, ..
            } => text(bytes, *authority),
            Self::Http2 { authority, .. } => authority.as_ref().map_or("", Authority::as_str),
        }
    }

    /// The path, byte for byte as it came; `/` when the target has none.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Http1 { bytes, line, .. } => match text(bytes, line.target.path) {
                "" => "/",
                path => path,
            },
            Self::Http2 { parts, .. } => parts.uri.path(),
        }
    }

    pub(super) fn query(&self) -> Option<&str> {
        match self {
            Self::Http1 { bytes, line, .. } => line.target.query.map(|it| text(bytes, it)),
            Self::Http2 { parts, .. } => parts.uri.query(),
        }
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        match self {
            Self::Http1 { bytes, table, .. } => Fields::Lines(bytes, table),
            Self::Http2 { parts, .. } => Fields::from(&parts.headers),
        }
    }

    /// The target in origin form, byte for byte as it came.
    pub(super) fn target(&self) -> String {
        match self.query() {
            Some(query) => format!("{}?{query}", self.path()),
            None => self.path().to_owned(),
        }
    }

    /// The target in origin form as HTTP/2 sends it; `None` where `http` does not take what came.
    pub(super) fn path_and_query(&self) -> Option<PathAndQuery> {
        match self {
            Self::Http2 { parts, .. } => {
                let root = || PathAndQuery::from_static("/");
                Some(parts.uri.path_and_query().cloned().unwrap_or_else(root))
            }
            Self::Http1 { bytes, line, .. } => {
                let (path, query) = (line.target.path, line.target.query);
                if path.len == 0 {
                    let query = query.map(|it| text(bytes, it));
                    let target = query.map_or_else(|| "/".to_owned(), |it| format!("/?{it}"));
                    return PathAndQuery::from_maybe_shared(Bytes::from(target)).ok();
                }
                let begin = path.at as usize;
                let end = query.unwrap_or(path);
                let end = (end.at + end.len) as usize;
                PathAndQuery::from_maybe_shared(bytes.slice(begin..end)).ok()
            }
        }
    }

    /// What routes and keys see.
    pub(super) fn view<'a>(&'a self, client: Option<IpAddr>, listener: &'a str) -> RequestHead<'a> {
        RequestHead {
            method: self.method(),
            authority: self.authority(),
            path: self.path(),
            query: self.query(),
            fields: self.fields(),
            client,
            listener,
        }
    }

    /// Whether the request is gRPC: by its content type, as the protocol asks.
    pub(super) fn is_grpc(&self) -> bool {
        let mut media_types = self.fields().known(Known::ContentType);
        let media_type = media_types.next();
        media_type.is_some_and(|it| it.starts_with(b"application/grpc"))
    }

    /// Whether the client sends the body only once it is told to (RFC 9110 10.1.1), which
    /// HTTP/1.0 cannot mean.
    pub(super) fn expects_continue(&self) -> bool {
        matches!(self, Self::Http1 { line, .. } if line.is_http_11)
            && self.fields().has(Known::Expect)
    }

    /// Takes the head for one that keyway forwards, and settles whom it is for.
    ///
    /// # Errors
    /// Why it is not forwarded.
    pub(super) fn accept(&mut self, pseudonym: &Pseudonym) -> Result<(), Refusal> {
        let method = self.method();
        if *method == Method::CONNECT || *method == Method::TRACE {
            return Err(Reason::MethodNotAllowed.into());
        }
        let mut expectations = self.fields().known(Known::Expect);
        if expectations.any(|it| !it.eq_ignore_ascii_case(b"100-continue")) {
            return Err(Reason::ExpectationFailed.into());
        }
        drop(expectations);
        if pseudonym.has_seen(self.fields()) {
            return Err(Reason::Loop.into());
        }
        if *method != Method::OPTIONS && self.path() == "*" {
            let detail = "only OPTIONS can be asked of *";
            return Err(Refusal::because(Reason::BadRequest, detail));
        }
        self.settle_authority()
    }

    /// The one authority: of an absolute-form target or `:authority`, else of Host
    /// (RFC 9112 3.2, RFC 9113 8.3.1).
    fn settle_authority(&mut self) -> Result<(), Refusal> {
        let bad = |detail: &str| Refusal::because(Reason::BadRequest, detail);
        let mut hosts = self.fields().known(Known::Host);
        let (host, second) = (hosts.next(), hosts.next());
        drop(hosts);
        if second.is_some() {
            return Err(bad("expected one Host, found several"));
        }
        if host.is_some_and(|it| !http1::is_authority(it)) {
            return Err(bad("Host is no authority"));
        }
        if self.authority().contains('@') {
            return Err(bad("expected an authority without userinfo"));
        }
        let has_host = host.is_some();
        match self {
            Self::Http1 {
                bytes,
                table,
                line,
                authority,
            } => match Fields::Lines(bytes, table).known(Known::Host).next() {
                // The target replaces Host, whatever that says.
                _ if authority.len > 0 => Ok(()),
                Some(host) => {
                    *authority = Span::of(host, bytes);
                    Ok(())
                }
                None if !line.is_http_11 => Ok(()),
                None => Err(bad("expected a Host, found none")),
            },
            Self::Http2 { parts, authority } => {
                let host = has_host.then(|| parts.headers.get(header::HOST)).flatten();
                let host = host.and_then(|it| Authority::try_from(it.as_bytes()).ok());
                match (&authority, host) {
                    // Two names in one HTTP/2 request are two readings of it.
                    (Some(target), Some(host)) if *target != host => {
                        return Err(bad(":authority and host differ"));
                    }
                    (None, None) => return Err(bad("expected a Host, found none")),
                    (None, host) => *authority = host,
                    (Some(_), _) => {}
                }
                Ok(())
            }
        }
    }
}

/// What the codec found to be text.
fn text(bytes: &[u8], span: Span) -> &str {
    str::from_utf8(span.of_bytes(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn http1(head: &str) -> Received {
        let bytes = Bytes::from(head.to_owned());
        let mut table = FieldTable::new();
        let line = http1::parse_request(&bytes, &mut table);
        let line = line
            .expect("the head must be one")
            .expect("the head must be whole");
        Received::http1(bytes, line, table)
    }

    fn accepted(mut received: Received) -> Result<String, Reason> {
        let accepted = received.accept(&Pseudonym::new(1));
        accepted.map_err(|it| it.reason)?;
        Ok(received.authority().to_owned())
    }

    #[test]
    fn there_is_one_authority() {
        let h1 = |target: &str, hosts: &[&str]| {
            let hosts: Vec<_> = hosts.iter().map(|it| format!("host: {it}\r\n")).collect();
            let hosts = hosts.concat();
            accepted(http1(&format!("GET {target} HTTP/1.1\r\n{hosts}\r\n")))
        };
        let h2 = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().version(Version::HTTP_2).uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            accepted(Received::http2(request.body(()).unwrap().into_parts().0))
        };
        let a = || Ok("a.test".to_owned());
        let bad = Err(Reason::BadRequest);
        assert_eq!(h1("/", &["a.test"]), a());
        assert_eq!(h1("/", &["a.test:81"]), Ok("a.test:81".to_owned()));
        assert_eq!(h1("/", &[]), bad);
        assert_eq!(h1("/", &["a.test", "a.test"]), bad);
        assert_eq!(h1("/", &["u@a.test"]), bad);
        assert_eq!(h1("/", &["a, b"]), bad);
        assert_eq!(h1("/", &["a:x"]), bad);
        // The target replaces Host, whatever that says.
        assert_eq!(h1("http://a.test/", &["b.test"]), a());
        assert_eq!(h2("http://a.test/", &[]), a());
        assert_eq!(h2("http://a.test/", &["a.test"]), a());
        assert_eq!(h2("http://u@a.test/", &[]), bad);
        assert_eq!(h2("http://a.test/", &["b.test"]), bad);
        assert_eq!(h2("/", &[]), bad);
        assert_eq!(accepted(http1("GET / HTTP/1.0\r\n\r\n")), Ok(String::new()));
    }

    #[test]
    fn what_is_never_forwarded() {
        let refused = |line: &str, field: &str| {
            accepted(http1(&format!(
                "{line} HTTP/1.1\r\nhost: a.test\r\n{field}\r\n"
            )))
            .err()
        };
        assert_eq!(refused("TRACE /", ""), Some(Reason::MethodNotAllowed));
        assert_eq!(
            refused("CONNECT a.test:1", ""),
            Some(Reason::MethodNotAllowed)
        );
        // The codec refuses this of HTTP/1.1 already.
        let star = Request::get("*")
            .version(Version::HTTP_2)
            .header(header::HOST, "a");
        let star = Received::http2(star.body(()).unwrap().into_parts().0);
        assert_eq!(accepted(star), Err(Reason::BadRequest));
        assert_eq!(refused("OPTIONS *", ""), None);
        let via = |number| format!("via: 1.1 keyway-{number:016x}\r\n");
        assert_eq!(refused("GET /", &via(1)), Some(Reason::Loop));
        assert_eq!(refused("GET /", &via(2)), None);
        let expects = |what| format!("expect: {what}\r\n");
        let failed = Some(Reason::ExpectationFailed);
        assert_eq!(refused("GET /", &expects("100-continuey")), failed);
        assert_eq!(refused("GET /", &expects("100-Continue")), None);
    }

    #[test]
    fn the_target_goes_on_as_it_came() {
        for (target, path, query, whole) in [
            ("/a?b=c", "/a", Some("b=c"), "/a?b=c"),
            ("/a?", "/a", Some(""), "/a?"),
            ("//a/%2F", "//a/%2F", None, "//a/%2F"),
            ("http://a.test", "/", None, "/"),
            ("http://a.test?x", "/", Some("x"), "/?x"),
            ("http://a.test/b?x", "/b", Some("x"), "/b?x"),
        ] {
            let received = http1(&format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n\r\n"));
            assert_eq!((received.path(), received.query()), (path, query));
            assert_eq!(received.path_and_query().unwrap().as_str(), whole);
        }
    }
}
