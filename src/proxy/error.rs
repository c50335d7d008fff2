//! How an attempt fails, and the one map from there to what may follow, what the client is told and
//! what is counted.

use std::error::Error as _;

use super::body::{Broken, ClientFault};
use crate::cluster::counters::Class;
use crate::reason::Reason;
use crate::retry::Failure;
use crate::upstream::ConnectError;

/// Why an attempt brought no response head.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// There is no connection: nothing was sent.
    #[error("no connection")]
    Connect(#[source] ConnectError),
    /// The connection was closed before a byte of the request was written to it, or the node
    /// refused the request unprocessed.
    #[error("the node took nothing of the request")]
    Unsent(#[source] Broken),
    /// The connection broke after something was sent.
    #[error("the connection broke before the response's head")]
    Reset {
        pooled: bool,
        #[source]
        source: Broken,
    },
    /// What came back is no response.
    #[error("the node's answer is no response")]
    Protocol(#[source] Broken),
    /// The node changed the protocol, which nobody had asked for.
    #[error("the node switched protocols unasked")]
    Switched,
    /// More informational responses came than any node means.
    #[error("the node sends nothing but informational responses")]
    Interims,
    /// The node did not answer in time.
    #[error("no response head within the attempt's time")]
    TimedOut,
    /// The route's time is over.
    #[error("the route's time is over")]
    Deadline,
    /// The client did not send its body in time.
    #[error("the client sent its body too slowly")]
    SlowClient,
    /// The client spoiled its request.
    #[error("the client spoiled its request")]
    Client(#[source] ClientFault),
}

impl AttemptError {
    /// What the retry policy is asked about; `None` when no attempt may follow.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self {
            Self::Connect(_) => Some(Failure::Connect),
            Self::Unsent(_) => Some(Failure::Unsent),
            Self::Reset { pooled, .. } => Some(Failure::Reset { pooled: *pooled }),
            Self::Protocol(_) | Self::Switched | Self::Interims => Some(Failure::Protocol),
            Self::TimedOut => Some(Failure::Timeout),
            Self::Deadline | Self::SlowClient | Self::Client(_) => None,
        }
    }

    /// The answer when this was the last attempt; `sent` says whether any attempt sent a byte.
    pub(super) fn reason(&self, sent: bool) -> Reason {
        match self {
            Self::Connect(ConnectError::Limit { .. }) => Reason::Overloaded,
            Self::Connect(_) if sent => Reason::ConnectFailed,
            Self::Connect(_) => Reason::NoHealthyNode,
            Self::Unsent(_) | Self::Reset { .. } => Reason::UpstreamReset,
            Self::Protocol(_) | Self::Switched | Self::Interims => Reason::UpstreamProtocol,
            Self::TimedOut => Reason::AttemptTimeout,
            Self::Deadline => Reason::Timeout,
            Self::SlowClient => Reason::RequestTimeout,
            Self::Client(_) => Reason::BadRequest,
        }
    }

    /// Whether the node refused a connection, or did not take one in time.
    pub(super) fn blames_connection(&self) -> bool {
        use ConnectError::{Handshake, Limit, Refused, TimedOut, Unresolved};
        match self {
            Self::Connect(Refused { .. } | TimedOut { .. } | Handshake { .. }) => true,
            Self::Connect(Limit { .. } | Unresolved(_))
            | Self::Unsent(_)
            | Self::Reset { .. }
            | Self::Protocol(_)
            | Self::Switched
            | Self::Interims
            | Self::TimedOut
            | Self::Deadline
            | Self::SlowClient
            | Self::Client(_) => false,
        }
    }

    /// What the attempt counts as: the client's faults are not the node's errors.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::SlowClient | Self::Client(_) => Class::Aborted,
            _ => Class::Error,
        }
    }
}

/// What hyper's error says of how far a request by HTTP/2 came.
pub(super) fn classify(error: hyper::Error, unsent: bool, pooled: bool) -> AttemptError {
    let h2 = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    // Streams above GOAWAY's last id and refused ones were not processed (RFC 9113 6.8, 8.7).
    let refused = h2.is_some_and(|it| {
        it.reason() == Some(h2::Reason::REFUSED_STREAM) || it.is_go_away() && it.is_remote()
    });
    let malformed = h2.is_some_and(|it| it.is_library() && !it.is_io());
    if unsent || refused {
        AttemptError::Unsent(error.into())
    } else if error.is_parse() || malformed {
        AttemptError::Protocol(error.into())
    } else {
        let source = error.into();
        AttemptError::Reset { pooled, source }
    }
}
