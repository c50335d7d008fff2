//! Who asked, by either protocol, as what comes before the response reaches it.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use super::http2::Unanswered;
use crate::net::Alarm;
use crate::proxy::reply::NodeReply;

/// How long a client that expects 100 is kept waiting for the node's: as long as curl waits before
/// it sends its body anyway.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// The client of a request while the request is at a node.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) enum Asker<'a> {
    /// The connection serves no other request meanwhile.
    Http1(&'a Connection),
    /// One stream's.
    Http2(&'a Unanswered),
}

impl Asker<'_> {
    /// Whether it sends its body only once it is told to.
    pub(in crate::proxy) fn expects_continue(self) -> bool {
        match self {
            Self::Http1(connection) => connection.expects_continue(),
            Self::Http2(stream) => stream.expects_continue(),
        }
    }

    /// Tells it to send its body, if it waits for that.
    pub(in crate::proxy) fn says_continue(self) {
        match self {
            Self::Http1(connection) => connection.says_continue(),
            Self::Http2(stream) => stream.says_continue(),
        }
    }

    /// Passes on a node's 1xx response, if the client takes it.
    pub(in crate::proxy) fn passes_interim(self, reply: &NodeReply) {
        match self {
            Self::Http1(connection) => connection.passes_interim(reply),
            Self::Http2(stream) => stream.passes_interim(reply),
        }
    }

    /// Writes what it is told meanwhile; and tells it to go on once the node had its time to do so,
    /// since `begun`.
    pub(in crate::proxy) fn poll_interims(
        self,
        cx: &mut Context<'_>,
        pause: &mut Alarm,
        begun: Instant,
    ) {
        if self.expects_continue() && pause.poll_until(cx, begun + CONTINUE_WAIT).is_ready() {
            self.says_continue();
        }
        // h2 writes by itself.
        if let Self::Http1(connection) = self {
            connection.flush_interims(cx);
        }
    }
}
