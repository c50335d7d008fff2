//! How an attempt fails, and the one map from there to what may follow, what the client is told and
//! what is counted.

use super::body::{Broken, ClientFault};
use crate::cluster::counters::Class;
use crate::health::FailureList;
use crate::reason::Reason;
use crate::retry::Failure;
use crate::upstream::ConnectError;

/// Why an attempt brought no response head.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// The node had no place left: somebody else took it in the meantime.
    #[error("the node has as much under way as it may")]
    Full,
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
    /// The node said by HTTP/2 how long its answer is, more than once.
    #[error("the node gave several lengths of its answer")]
    Lengths,
    /// More informational responses came than any node means.
    #[error("the node sends nothing but informational responses")]
    Interims,
    /// The node did not answer in time.
    #[error("no response head within the attempt's time")]
    TimedOut {
        /// Whether keyway looked so late that the node is not to blame.
        late: bool,
    },
    /// The node left rotation while it was waited for, and another may be tried.
    #[error("the node left rotation before it answered")]
    Left,
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
            Self::Protocol(_) | Self::Switched | Self::Lengths | Self::Interims => {
                Some(Failure::Protocol)
            }
            Self::TimedOut { .. } => Some(Failure::Timeout),
            Self::Left => Some(Failure::Left),
            Self::Full | Self::Deadline | Self::SlowClient | Self::Client(_) => None,
        }
    }

    /// The answer when this was the last attempt; `sent` says whether any attempt sent a byte.
    pub(super) fn reason(&self, sent: bool) -> Reason {
        match self {
            Self::Full
            | Self::Connect(ConnectError::Limit { .. } | ConnectError::Exhausted { .. }) => {
                Reason::Overloaded
            }
            Self::Connect(_) if sent => Reason::ConnectFailed,
            Self::Connect(_) => Reason::NoHealthyNode,
            Self::Unsent(_) | Self::Reset { .. } => Reason::UpstreamReset,
            Self::Protocol(_) | Self::Switched | Self::Lengths | Self::Interims => {
                Reason::UpstreamProtocol
            }
            Self::TimedOut { .. } | Self::Left => Reason::AttemptTimeout,
            Self::Deadline => Reason::Timeout,
            Self::SlowClient => Reason::RequestTimeout,
            Self::Client(fault) => fault.reason(),
        }
    }

    /// Whether the node refused a connection, or did not take one in time.
    pub(super) fn blames_connection(&self) -> bool {
        use ConnectError::{
            Alpn, Exhausted, Handshake, Limit, Refused, TimedOut, Tls, Unnamed, Unresolved,
        };
        match self {
            Self::Connect(
                Refused { .. } | TimedOut { .. } | Handshake { .. } | Tls { .. } | Alpn { .. },
            ) => true,
            Self::Connect(Limit { .. } | Exhausted { .. } | Unresolved(_) | Unnamed { .. })
            | Self::Full
            | Self::Unsent(_)
            | Self::Reset { .. }
            | Self::Protocol(_)
            | Self::Switched
            | Self::Lengths
            | Self::Interims
            | Self::TimedOut { .. }
            | Self::Left
            | Self::Deadline
            | Self::SlowClient
            | Self::Client(_) => false,
        }
    }

    /// Whether it is one of the failures `on` that count against a node, beside those of making a
    /// connection.
    pub(super) fn blames_node(&self, on: &FailureList) -> bool {
        match self {
            Self::Reset { pooled: false, .. }
            | Self::Protocol(_)
            | Self::Switched
            | Self::Lengths
            | Self::Interims => on.reset,
            Self::TimedOut { late: false } => on.timeout,
            // The node may just have closed it as idle.
            Self::Reset { pooled: true, .. }
            | Self::Full
            | Self::Unsent(_)
            | Self::Connect(_)
            | Self::TimedOut { late: true }
            | Self::Left
            | Self::Deadline
            | Self::SlowClient
            | Self::Client(_) => false,
        }
    }

    /// Whether it says how much the node can bear: that it does not answer in time, or breaks.
    pub(super) fn is_overload(&self) -> bool {
        matches!(
            self,
            Self::TimedOut { late: false } | Self::Reset { pooled: false, .. }
        )
    }

    /// Whether a connection that had served before was found closed.
    pub(super) fn met_stale(&self) -> bool {
        matches!(self, Self::Unsent(_) | Self::Reset { pooled: true, .. })
    }

    /// What the attempt counts as: the client's faults are not the node's errors.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::SlowClient | Self::Client(_) => Class::Aborted,
            _ => Class::Error,
        }
    }
}

/// What h2's error says of how far a request came whose stream was opened.
pub(super) fn classify(error: h2::Error, pooled: bool) -> AttemptError {
    // Streams above GOAWAY's last id and refused ones were not processed (RFC 9113 6.8, 8.7).
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM)
        || error.is_go_away() && error.is_remote();
    if refused {
        AttemptError::Unsent(error.into())
    } else if error.is_library() {
        AttemptError::Protocol(error.into())
    } else {
        let source = error.into();
        AttemptError::Reset { pooled, source }
    }
}
