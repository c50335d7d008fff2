//! The answers that keyway makes itself: problem+json (RFC 9457), or a gRPC trailers-only reply.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Response, StatusCode};

use crate::reason::Reason;

/// Tells clients why keyway answered.
pub(super) const ERROR: HeaderName = HeaderName::from_static("x-keyway-error");

/// The methods that keyway forwards, for the Allow field (RFC 9110 10.2.1).
const FORWARDED: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");

/// How long a client should wait before it tries again: a node's shortest back-offs are over by
/// then. In seconds, the only unit of Retry-After.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// An answer to be: the reason, and what is particular to this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) detail: Option<String>,
}

impl Refusal {
    /// Says more than the reason's title: what was expected and what was found.
    pub(super) fn because(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: Some(detail.into()),
        }
    }

    /// The answer, as the client's protocol understands it.
    pub(super) fn response(&self, grpc: bool) -> Response<Bytes> {
        let mut response = if grpc {
            self.trailers_only()
        } else {
            self.problem()
        };
        let fields = response.headers_mut();
        fields.insert(ERROR, HeaderValue::from_static(self.reason.as_str()));
        match self.reason {
            Reason::NoHealthyNode | Reason::Overloaded => {
                fields.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            Reason::MethodNotAllowed => {
                fields.insert(ALLOW, FORWARDED);
            }
            _ => {}
        }
        response
    }

    fn problem(&self) -> Response<Bytes> {
        let problem = serde_json::json!({
            "type": format!("urn:keyway:error:{}", self.reason.as_str()),
            "title": self.reason.title(),
            "status": self.reason.status().as_u16(),
            "detail": self.detail.as_deref().unwrap_or_else(|| self.reason.title()),
            "reason": self.reason.as_str(),
        });
        let mut response = Response::new(Bytes::from(problem.to_string() + "\n"));
        *response.status_mut() = self.reason.status();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }

    /// A response that is all head: status 200 and the gRPC status in its fields.
    fn trailers_only(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::OK;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(
            "grpc-status",
            HeaderValue::from(u16::from(self.reason.grpc_status())),
        );
        let message = self
            .detail
            .as_deref()
            .unwrap_or_else(|| self.reason.title());
        if let Ok(message) = HeaderValue::try_from(percent_encode(message)) {
            fields.insert("grpc-message", message);
        }
        response
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            detail: None,
        }
    }
}

/// gRPC's encoding of messages: printable ASCII but for the percent sign stays
/// (gRPC over HTTP2, "Percent-Encoded").
fn percent_encode(message: &str) -> String {
    const ESCAPED: percent_encoding::AsciiSet = percent_encoding::CONTROLS.add(b'%');
    percent_encoding::utf8_percent_encode(message, &ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_reason_everywhere() {
        let response = Refusal::because(Reason::MissingKey, "no header x-user-id").response(false);
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[ERROR], "missing_key");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(problem["detail"], "no header x-user-id");
        assert_eq!(problem["status"], 400);
    }

    #[test]
    fn grpc_gets_all_in_the_head() {
        let response = Refusal::because(Reason::NoHealthyNode, "100% gone").response(true);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "100%25 gone");
        assert!(response.body().is_empty());
    }

    #[test]
    fn fields_that_some_reasons_owe() {
        let has = |reason: Reason, name| {
            Refusal::from(reason)
                .response(false)
                .headers()
                .contains_key(name)
        };
        assert!(has(Reason::NoHealthyNode, RETRY_AFTER) && has(Reason::Overloaded, RETRY_AFTER));
        assert!(has(Reason::MethodNotAllowed, ALLOW) && !has(Reason::NoRoute, ALLOW));
    }
}
