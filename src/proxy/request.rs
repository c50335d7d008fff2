//! Pure: one reading of a request's head, for routing, key, log and forwarding alike.

use http::header::{EXPECT, HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Version, request};

use super::answer::Refusal;
use super::fields::Pseudonym;
use crate::reason::Reason;

/// Reads the head of a request that keyway forwards: the authority that the request is for, empty
/// only from HTTP/1.0.
///
/// # Errors
/// Why it is not forwarded.
pub(super) fn read(parts: &request::Parts, pseudonym: &Pseudonym) -> Result<String, Refusal> {
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Reason::MethodNotAllowed.into());
    }
    if let Some(expect) = parts.headers.get(EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Reason::ExpectationFailed.into());
    }
    if pseudonym.has_seen(&parts.headers) {
        return Err(Reason::Loop.into());
    }
    let is_star = parts
        .uri
        .path_and_query()
        .is_some_and(|it| it.as_str() == "*");
    if is_star && parts.method != Method::OPTIONS {
        return Err(Refusal::because(
            Reason::BadRequest,
            "only OPTIONS can be asked of *",
        ));
    }
    authority(parts)
}

/// Whether the request is gRPC: by its content type, as the protocol asks.
pub(super) fn is_grpc(parts: &request::Parts) -> bool {
    let media_type = parts.headers.get(http::header::CONTENT_TYPE);
    media_type.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

/// The one authority: of an absolute-form target or `:authority`, else of Host
/// (RFC 9112 3.2, RFC 9113 8.3.1).
fn authority(parts: &request::Parts) -> Result<String, Refusal> {
    let bad = |detail: &str| Refusal::because(Reason::BadRequest, detail);
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(bad("expected one Host, found several")),
        (Some(host), None) => Some(parse_host(host).ok_or_else(|| bad("Host is no authority"))?),
        (None, None) => None,
    };
    match (parts.uri.authority(), host) {
        (Some(target), _) if target.as_str().contains('@') => {
            Err(bad("expected an authority without userinfo"))
        }
        // Two names in one HTTP/2 request are two readings of it.
        (Some(target), Some(host)) if parts.version == Version::HTTP_2 && *target != host => {
            Err(bad(":authority and host differ"))
        }
        (Some(target), _) => Ok(target.as_str().to_owned()),
        (None, Some(host)) => Ok(host.as_str().to_owned()),
        (None, None) if parts.version == Version::HTTP_10 => Ok(String::new()),
        (None, None) => Err(bad("expected a Host, found none")),
    }
}

fn parse_host(host: &HeaderValue) -> Option<Authority> {
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    let after_host = authority.as_str().strip_prefix(authority.host())?;
    let port_is_number = matches!(after_host, "" | ":") || authority.port_u16().is_some();
    port_is_number.then_some(authority)
}

/// The target in origin form, byte for byte as it came.
pub(super) fn target(parts: &request::Parts) -> PathAndQuery {
    let root = || PathAndQuery::from_static("/");
    parts.uri.path_and_query().cloned().unwrap_or_else(root)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read_lines(version: Version, uri: &str, hosts: &[&str]) -> Result<String, Reason> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        read(&parts, &Pseudonym::new(1)).map_err(|it| it.reason)
    }

    #[test]
    fn there_is_one_authority() {
        let h1 = |uri, hosts: &[&str]| read_lines(Version::HTTP_11, uri, hosts);
        let h2 = |uri, hosts: &[&str]| read_lines(Version::HTTP_2, uri, hosts);
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
        assert_eq!(h1("http://u@a.test/", &["a.test"]), bad);
        assert_eq!(h2("http://a.test/", &[]), a());
        assert_eq!(h2("http://a.test/", &["a.test"]), a());
        assert_eq!(h2("http://a.test/", &["b.test"]), bad);
        assert_eq!(h2("/", &[]), bad);
        assert_eq!(read_lines(Version::HTTP_10, "/", &[]), Ok(String::new()));
    }

    fn refused(request: request::Builder) -> Option<Reason> {
        let request = request.header(HOST, "a.test").body(()).unwrap();
        read(&request.into_parts().0, &Pseudonym::new(1))
            .err()
            .map(|it| it.reason)
    }

    #[test]
    fn what_is_never_forwarded() {
        let get = Request::get;
        assert_eq!(
            refused(Request::builder().method("TRACE")),
            Some(Reason::MethodNotAllowed)
        );
        assert_eq!(
            refused(Request::builder().method("CONNECT").uri("a.test:1")),
            Some(Reason::MethodNotAllowed)
        );
        assert_eq!(refused(get("*")), Some(Reason::BadRequest));
        assert_eq!(refused(Request::options("*")), None);
        assert_eq!(
            refused(get("/").header("via", "1.1 keyway-0000000000000001")),
            Some(Reason::Loop)
        );
        assert_eq!(
            refused(get("/").header("via", "1.1 keyway-0000000000000002")),
            None
        );
        assert_eq!(
            refused(get("/").header(EXPECT, "100-continuey")),
            Some(Reason::ExpectationFailed)
        );
        assert_eq!(refused(get("/").header(EXPECT, "100-Continue")), None);
    }
}
