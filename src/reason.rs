//! Pure: the closed list of answers that keyway makes itself.

use http::StatusCode;

/// Why keyway answered in place of a node: the `x-keyway-error` field and the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No route matches.
    NoRoute,
    /// The route's key is not in the request.
    MissingKey,
    /// The request contradicts itself or the protocol.
    BadRequest,
    /// The method is never forwarded.
    MethodNotAllowed,
    /// The client was too slow to send its request.
    RequestTimeout,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The target is longer than allowed.
    TargetTooLong,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// The head is larger than allowed.
    HeadersTooLarge,
    /// The request passed this very keyway before.
    Loop,
    /// No node could be sent a byte.
    NoHealthyNode,
    /// A bound was reached that protects nodes, or keyway itself.
    Overloaded,
    /// keyway is ending.
    Draining,
    /// The last attempt made no connection, and an earlier one had sent bytes.
    ConnectFailed,
    /// The connection broke before the response's head.
    UpstreamReset,
    /// The node's bytes are no response.
    UpstreamProtocol,
    /// The last attempt's node did not answer in time.
    AttemptTimeout,
    /// The route's whole time is over.
    Timeout,
    /// A transfer coding that is not known.
    UnsupportedCoding,
    /// A bug of ours.
    Internal,
}

/// gRPC's status codes as far as keyway answers with them.
mod grpc {
    pub(super) const CANCELLED: u8 = 1;
    pub(super) const INVALID_ARGUMENT: u8 = 3;
    pub(super) const DEADLINE_EXCEEDED: u8 = 4;
    pub(super) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(super) const UNIMPLEMENTED: u8 = 12;
    pub(super) const INTERNAL: u8 = 13;
    pub(super) const UNAVAILABLE: u8 = 14;
}

impl Reason {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 20] = [
        Self::NoRoute,
        Self::MissingKey,
        Self::BadRequest,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::ExpectationFailed,
        Self::HeadersTooLarge,
        Self::Loop,
        Self::NoHealthyNode,
        Self::Overloaded,
        Self::Draining,
        Self::ConnectFailed,
        Self::UpstreamReset,
        Self::UpstreamProtocol,
        Self::AttemptTimeout,
        Self::Timeout,
        Self::UnsupportedCoding,
        Self::Internal,
    ];

    /// Its place in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in metrics, logs and the `x-keyway-error` field.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// The gRPC status code.
    pub fn grpc_status(self) -> u8 {
        self.row().2
    }

    /// What to tell whoever reads the answer.
    pub fn title(self) -> &'static str {
        self.row().3
    }

    /// The answer in one row: name, status, gRPC status, title.
    #[rustfmt::skip] // A table is read by its columns.
    fn row(self) -> (&'static str, StatusCode, u8, &'static str) {
        use StatusCode as Http;
        match self {
            Self::NoRoute           => ("no_route",           Http::NOT_FOUND,                       grpc::UNIMPLEMENTED,      "No route matches the request"),
            Self::MissingKey        => ("missing_key",        Http::BAD_REQUEST,                     grpc::INVALID_ARGUMENT,   "The request carries no key"),
            Self::BadRequest        => ("bad_request",        Http::BAD_REQUEST,                     grpc::INVALID_ARGUMENT,   "The request is malformed or ambiguous"),
            Self::MethodNotAllowed  => ("method_not_allowed", Http::METHOD_NOT_ALLOWED,              grpc::UNIMPLEMENTED,      "The method is never forwarded"),
            Self::RequestTimeout    => ("request_timeout",    Http::REQUEST_TIMEOUT,                 grpc::CANCELLED,          "The request was sent too slowly"),
            Self::BodyTooLarge      => ("body_too_large",     Http::PAYLOAD_TOO_LARGE,               grpc::RESOURCE_EXHAUSTED, "The body is too large"),
            Self::TargetTooLong     => ("target_too_long",    Http::URI_TOO_LONG,                    grpc::INVALID_ARGUMENT,   "The target is too long"),
            Self::ExpectationFailed => ("expectation_failed", Http::EXPECTATION_FAILED,              grpc::INVALID_ARGUMENT,   "Only 100-continue can be expected"),
            Self::HeadersTooLarge   => ("headers_too_large",  Http::REQUEST_HEADER_FIELDS_TOO_LARGE, grpc::RESOURCE_EXHAUSTED, "The head is too large"),
            Self::Loop              => ("loop",               Http::LOOP_DETECTED,                   grpc::INTERNAL,           "The request passed this proxy before"),
            Self::NoHealthyNode     => ("no_healthy_node",    Http::SERVICE_UNAVAILABLE,             grpc::UNAVAILABLE,        "No node of the shard can be reached"),
            Self::Overloaded        => ("overloaded",         Http::SERVICE_UNAVAILABLE,             grpc::RESOURCE_EXHAUSTED, "As much is under way as may be"),
            Self::Draining          => ("draining",           Http::SERVICE_UNAVAILABLE,             grpc::UNAVAILABLE,        "The proxy is ending"),
            Self::ConnectFailed     => ("connect_failed",     Http::BAD_GATEWAY,                     grpc::UNAVAILABLE,        "The last node tried could not be reached"),
            Self::UpstreamReset     => ("upstream_reset",     Http::BAD_GATEWAY,                     grpc::UNAVAILABLE,        "The node broke the connection before it answered"),
            Self::UpstreamProtocol  => ("upstream_protocol",  Http::BAD_GATEWAY,                     grpc::INTERNAL,           "The node's answer is no valid response"),
            Self::AttemptTimeout    => ("attempt_timeout",    Http::GATEWAY_TIMEOUT,                 grpc::DEADLINE_EXCEEDED,  "The node did not answer in time"),
            Self::Timeout           => ("timeout",            Http::GATEWAY_TIMEOUT,                 grpc::DEADLINE_EXCEEDED,  "The route's time is over"),
            Self::UnsupportedCoding => ("unsupported_coding", Http::NOT_IMPLEMENTED,                 grpc::UNIMPLEMENTED,      "The transfer coding is not known"),
            Self::Internal          => ("internal",           Http::INTERNAL_SERVER_ERROR,           grpc::INTERNAL,           "The proxy failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_index() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), at, "{reason:?}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names = Reason::ALL.map(Reason::as_str).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
