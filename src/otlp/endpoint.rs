//! Pure: where spans go.

use std::sync::Arc;

use http::Uri;

use crate::tls::ClientTls;

/// The path of traces below an endpoint that has none (OTLP 1.x, "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";

/// An OTLP receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Its host, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What is sent as Host.
    pub authority: String,
    /// The target of requests.
    pub path: String,
    /// Whether connections are under TLS.
    pub is_https: bool,
    /// The TLS; `None` until it is made, and without it.
    pub tls: Option<Arc<ClientTls>>,
}

/// Why a text is no receiver's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no absolute URL.
    #[error("expected off, or a URL such as http://127.0.0.1:4318, found {0:?}")]
    NoUrl(String),
    /// Another protocol.
    #[error("expected http:// or https:// (OTLP by HTTP; gRPC is not spoken), found {0:?}")]
    Scheme(String),
    /// A name and a password.
    #[error("expected a URL without a user, found one in {0:?}")]
    User(String),
}

impl Endpoint {
    /// The receiver at `url`; its TLS is the caller's to add.
    ///
    /// # Errors
    /// When it is no URL, or one of another scheme.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let no_url = || EndpointError::NoUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| no_url())?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(no_url)?;
        let is_https = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(EndpointError::Scheme(url.to_owned())),
        };
        if authority.as_str().contains('@') {
            return Err(EndpointError::User(url.to_owned()));
        }
        let port = authority.port_u16();
        let has_port = authority.host().len() < authority.as_str().len();
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() || has_port && port.is_none() {
            return Err(no_url());
        }
        let path = match uri.path_and_query().map_or("/", |it| it.as_str()) {
            "/" => TRACES,
            path => path,
        };
        Ok(Self {
            host: host.to_owned(),
            port: port.unwrap_or(if is_https { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
            is_https,
            tls: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_where_spans_go() {
        for (url, host, port, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1", 4318, "/v1/traces"),
            ("http://127.0.0.1:4318/", "127.0.0.1", 4318, "/v1/traces"),
            (
                "http://[::1]:4318/a/v1/traces?b=c",
                "::1",
                4318,
                "/a/v1/traces?b=c",
            ),
            ("http://otel.local", "otel.local", 80, "/v1/traces"),
            ("https://otel.local/in", "otel.local", 443, "/in"),
        ] {
            let found = Endpoint::parse(url).unwrap();
            let found = (found.host.as_str(), found.port, found.path.as_str());
            assert_eq!(found, (host, port, path), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused() {
        for url in [
            "",
            "on",
            "127.0.0.1:4318",
            "/v1/traces",
            "http://",
            "http://a:b",
            "http://a:99999",
        ] {
            let no_url = EndpointError::NoUrl(url.to_owned());
            assert_eq!(Endpoint::parse(url), Err(no_url), "{url}");
        }
        for url in ["grpc://a:4317", "unix://a/b"] {
            let scheme = EndpointError::Scheme(url.to_owned());
            assert_eq!(Endpoint::parse(url), Err(scheme), "{url}");
        }
        let user = EndpointError::User("http://a:b@c".to_owned());
        assert_eq!(Endpoint::parse("http://a:b@c"), Err(user));
    }
}
