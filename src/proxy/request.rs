//! Pure: one reading of a request's head, for routing, key, log and forwarding alike.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri, Version, header, request};

use super::answer::Refusal;
use super::body::Tunnel;
use super::fields::{Pseudonym, protocols};
use super::websocket;
use crate::head::{FieldTable, Fields, Known, KnownSet, RequestHead, Span};
use crate::http1::{self, Length, RequestLine};
use crate::limits::{HeadLimits, Limit};
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
        known: KnownSet,
        authority: Option<Authority>,
        /// Where the client waits for the WebSocket that it asks for.
        tunnel: Option<Rc<Tunnel>>,
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
    pub(super) fn http2(mut parts: request::Parts) -> Self {
        trim(&mut parts.headers);
        let authority = parts.uri.authority().cloned();
        Self::Http2 {
            known: KnownSet::of(&parts.headers),
            parts,
            authority,
            tunnel: None,
        }
    }

    /// The request of an HTTP/2 stream that is to be a WebSocket, as the GET that it stands for.
    pub(super) fn websocket(mut parts: request::Parts, bits: [u64; 2], stream: Rc<Tunnel>) -> Self {
        trim(&mut parts.headers);
        websocket::cross(&mut parts, bits);
        let authority = parts.uri.authority().cloned();
        Self::Http2 {
            known: KnownSet::of(&parts.headers),
            parts,
            authority,
            tunnel: Some(stream),
        }
    }

    /// Where an HTTP/2 client waits for its tunnel.
    pub(super) fn tunnel(&self) -> Option<&Rc<Tunnel>> {
        match self {
            Self::Http1 { .. } => None,
            Self::Http2 { tunnel, .. } => tunnel.as_ref(),
        }
    }

    /// Whether a node that switches to another protocol, and says `fields`, switches to what it was
    /// offered: it must say to what (RFC 9110 15.2.2), and to HTTP/2's WebSocket that it understood.
    pub(super) fn is_switch(&self, fields: Fields<'_>) -> bool {
        let says_so = || {
            let key = self.fields().first(&SEC_WEBSOCKET_KEY);
            let accept = fields.first(&SEC_WEBSOCKET_ACCEPT);
            let accepts = |(key, accept)| websocket::accepts(key, accept);
            key.zip(accept).is_some_and(accepts)
        };
        fields.has(Known::Upgrade) && (self.tunnel().is_none() || says_so())
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
        text(self.authority_bytes())
    }

    /// The same as bytes, which cost no second look at whether they are text; so below.
    pub(super) fn authority_bytes(&self) -> &[u8] {
        match self {
            Self::Http1 {
                bytes, authority, ..
            } => authority.of_bytes(bytes),
            Self::Http2 { authority, .. } => {
                authority.as_ref().map_or("", Authority::as_str).as_bytes()
            }
        }
    }

    /// `name` as HTTP/2 sends it, shared where it is what came; `None` where it is no authority.
    pub(super) fn authority_as(&self, name: &[u8]) -> Option<Authority> {
        match self {
            Self::Http2 {
                authority: Some(came),
                ..
            } if came.as_str().as_bytes() == name => Some(came.clone()),
            _ => Authority::try_from(name).ok(),
        }
    }

    /// The path, byte for byte as it came; where the target has none `/`, or `*` when it asks for the
    /// options of the whole server (RFC 9112 3.2.4).
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Http1 { .. } => text(self.path_bytes()),
            Self::Http2 { parts, .. } => parts.uri.path(),
        }
    }

    pub(super) fn path_bytes(&self) -> &[u8] {
        match self {
            Self::Http1 { bytes, line, .. } => match line.target.path.of_bytes(bytes) {
                b"" if line.method == Method::OPTIONS && line.target.query.is_none() => b"*",
                b"" => b"/",
                path => path,
            },
            Self::Http2 { parts, .. } => parts.uri.path().as_bytes(),
        }
    }

    /// Puts `path` in the place of the one that came; `None` when it is none.
    pub(super) fn set_path(&mut self, path: &str) -> Option<()> {
        let target = match self.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        match self {
            Self::Http1 { bytes, line, .. } => {
                // Behind the head, so that all that was found in it stays where it is.
                let at = u32::try_from(bytes.len()).ok()?;
                *bytes = Bytes::from([bytes, target.as_bytes()].concat());
                let len = u32::try_from(path.len()).ok()?;
                line.target.path = Span { at, len };
                if let Some(query) = &mut line.target.query {
                    query.at = at + len + 1;
                }
            }
            Self::Http2 { parts, .. } => {
                let mut uri = std::mem::take(&mut parts.uri).into_parts();
                uri.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
                parts.uri = Uri::from_parts(uri).ok()?;
            }
        }
        Some(())
    }

    pub(super) fn query(&self) -> Option<&str> {
        match self {
            Self::Http1 { .. } => self.query_bytes().map(text),
            Self::Http2 { parts, .. } => parts.uri.query(),
        }
    }

    pub(super) fn query_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Http1 { bytes, line, .. } => line.target.query.map(|it| it.of_bytes(bytes)),
            Self::Http2 { parts, .. } => parts.uri.query().map(str::as_bytes),
        }
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        match self {
            Self::Http1 { bytes, table, .. } => Fields::Lines(bytes, table),
            Self::Http2 { parts, known, .. } => Fields::Map(&parts.headers, *known),
        }
    }

    /// What the head takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Http1 { bytes, .. } => bytes.len(),
            Self::Http2 { parts, .. } => {
                let fields = parts.headers.iter();
                let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
                self.path().len() + fields.sum::<usize>()
            }
        }
    }

    /// Writes the target in origin form, byte for byte as it came, in place of what is in `target`.
    pub(super) fn write_target(&self, target: &mut String) {
        target.clear();
        target.push_str(self.path());
        if let Some(query) = self.query() {
            target.push('?');
            target.push_str(query);
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
                    let mut target = String::new();
                    self.write_target(&mut target);
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
        let may = match self {
            Self::Http1 { line, .. } => line.is_http_11,
            Self::Http2 { .. } => true,
        };
        may && self.fields().has(Known::Expect)
    }

    /// Whether the client offers to speak another protocol on this connection (RFC 9110 7.8). With
    /// a body it does not: where that ends, and the other protocol begins, was read in two ways too
    /// often.
    pub(super) fn offers_upgrade(&self) -> bool {
        let may = match self {
            Self::Http1 { line, .. } => line.is_http_11 && line.length == Length::Empty,
            Self::Http2 { tunnel, .. } => tunnel.is_some(),
        };
        may && self.fields().has(Known::Upgrade)
            && self.fields().lists(Known::Connection, "upgrade")
            && protocols(self.fields()).next().is_some()
    }

    /// The limit that the head exceeds: that of HTTP/1.1 would not have been read.
    pub(super) fn exceeds(&self, limits: &HeadLimits) -> Option<Limit> {
        let Self::Http2 { parts, .. } = self else {
            return None;
        };
        let target = parts.uri.path_and_query().map_or("", |it| it.as_str());
        if target.len() > limits.target {
            Some(Limit::TargetBytes)
        } else if parts.headers.len() > limits.fields {
            Some(Limit::HeadFields)
        } else if list_size(parts) > limits.bytes {
            Some(Limit::HeadBytes)
        } else {
            None
        }
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
        if *method != Method::OPTIONS && self.path_bytes() == b"*" {
            let detail = "only OPTIONS can be asked of *";
            return Err(Refusal::because(Reason::BadRequest, detail));
        }
        self.read_in_one_way()?;
        self.settle_authority()
    }

    /// HTTP/2 brings what the codec of HTTP/1.1 has refused.
    fn read_in_one_way(&self) -> Result<(), Refusal> {
        let Self::Http2 {
            parts, authority, ..
        } = self
        else {
            return Ok(());
        };
        let bad = |detail: &str| Err(Refusal::because(Reason::BadRequest, detail));
        let is_authority = |it: &Authority| http1::is_authority(it.as_str().as_bytes());
        if !authority.as_ref().is_none_or(is_authority) {
            return bad(":authority is no authority");
        }
        if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
            return bad("expected the scheme http or https, found another");
        }
        if self.fields().known(Known::ContentLength).nth(1).is_some() {
            return bad("expected one Content-Length, found several");
        }
        if self.tunnel().is_some() && self.fields().has(Known::ContentLength) {
            return bad("expected no Content-Length of a tunnel, found one");
        }
        Ok(())
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
        let has_host = host.is_some();
        match self {
            Self::Http1 {
                bytes,
                table,
                line,
                authority,
            } => match Fields::Lines(bytes, table).known(Known::Host).next() {
                None if line.is_http_11 => Err(bad("expected a Host, found none")),
                // The target replaces Host, whatever that says.
                _ if authority.len > 0 => Ok(()),
                Some(host) => {
                    *authority = Span::of(host, bytes);
                    Ok(())
                }
                None => Ok(()),
            },
            Self::Http2 {
                parts, authority, ..
            } => {
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

/// What a head of HTTP/2 comes to (RFC 9113 6.5.2).
fn list_size(parts: &request::Parts) -> usize {
    let size = |name: usize, value: usize| name + value + 32;
    let fields = parts.headers.iter();
    let fields = fields.map(|(name, value)| size(name.as_str().len(), value.len()));
    let path = parts.uri.path_and_query().map_or(0, |it| it.as_str().len());
    let authority = parts.uri.authority().map_or(0, |it| it.as_str().len());
    fields.sum::<usize>() + size(":path".len(), path) + size(":authority".len(), authority)
}

/// Takes away the white space around values, which nodes would not see by HTTP/1.1; no HTTP/2 message
/// should have any (RFC 9113 8.2.1), but careless clients' do.
fn trim(fields: &mut HeaderMap) {
    for value in fields.values_mut() {
        let bare = value.as_bytes().trim_ascii();
        if bare.len() < value.len()
            && let Ok(mut bare) = HeaderValue::from_bytes(bare)
        {
            bare.set_sensitive(value.is_sensitive());
            *value = bare;
        }
    }
}

/// What the codec found to be text.
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn http1(head: &str) -> Received {
        let bytes = Bytes::from(head.to_owned());
        let mut table = FieldTable::new();
        let line = http1::parse_request(&bytes, &HeadLimits::MAX, &mut table);
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
            ("http://a.test?", "/", Some(""), "/?"),
            ("http://a.test/b?x", "/b", Some("x"), "/b?x"),
        ] {
            let received = http1(&format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n\r\n"));
            assert_eq!((received.path(), received.query()), (path, query));
            assert_eq!(received.path_and_query().unwrap().as_str(), whole);
        }
    }
}
