//! The body that a client sends, as its protocol brings it.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{BACKLOG, ClientFault, Incoming, Tunnel};
use crate::proxy::connection::{Connection, STREAM_WINDOW};

/// The body that a client sends.
#[derive(Debug)]
pub(in crate::proxy) enum ClientBody {
    /// The one of the request that the connection serves now. Whoever still holds it later, or
    /// when the connection has ended, gets nothing more.
    Http1 {
        /// Weak, so that an upload which a node does not take cannot hold the client's socket.
        connection: Weak<Connection>,
        /// The number of the request on its connection.
        serial: u32,
    },
    /// An HTTP/2 stream's.
    Http2 {
        incoming: Incoming,
        /// Whether the client sends it once it is told to; `None` where it never waited for that.
        go_on: Option<Rc<Cell<bool>>>,
    },
    /// None: what comes on the stream is for the tunnel that it asks for.
    Empty,
    /// What comes through a tunnel on an HTTP/2 stream.
    Tunnel(Rc<Tunnel>),
}

impl ClientBody {
    /// The next piece of it, or its trailers; `None` at its end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        match self {
            Self::Http1 { .. } => match self.connection() {
                Some(connection) => connection.poll_frame(cx).map_err(|_| ClientFault::Body),
                None => Poll::Ready(Some(Err(ClientFault::Superseded))),
            },
            Self::Http2 { incoming, go_on } => {
                let frame = incoming.poll_frame(cx);
                if let (Poll::Ready(_), Some(go_on)) = (&frame, go_on) {
                    // Whoever sends its body waits for nothing.
                    go_on.set(false);
                }
                frame.map_err(|_reset| ClientFault::Body)
            }
            Self::Empty => Poll::Ready(None),
            Self::Tunnel(tunnel) => tunnel.poll_frame(cx),
        }
    }

    /// The connection of an HTTP/1.1 body, while it serves the body's request.
    fn connection(&self) -> Option<Rc<Connection>> {
        match self {
            Self::Http1 { connection, serial } => {
                connection.upgrade().filter(|it| it.serves(*serial))
            }
            Self::Http2 { .. } | Self::Empty | Self::Tunnel(_) => None,
        }
    }

    /// What may wait of it, in bytes, while it is not read.
    pub(super) fn backlog(&self) -> usize {
        match self {
            Self::Http1 { .. } => BACKLOG,
            Self::Http2 { .. } | Self::Tunnel(_) => STREAM_WINDOW as usize,
            Self::Empty => 0,
        }
    }

    /// Whether the client should be sending it: not one that waits to be told to.
    pub(super) fn is_due(&self) -> bool {
        match self {
            Self::Http1 { .. } => !self.connection().is_some_and(|it| it.expects_continue()),
            Self::Http2 { go_on, .. } => !go_on.as_ref().is_some_and(|it| it.get()),
            Self::Empty | Self::Tunnel(_) => true,
        }
    }

    pub(in crate::proxy) fn is_at_end(&self) -> bool {
        match self {
            Self::Http1 { .. } => self.connection().is_some_and(|it| it.is_body_at_end()),
            Self::Http2 { incoming, .. } => incoming.is_at_end(),
            Self::Empty => true,
            Self::Tunnel(tunnel) => tunnel.is_at_end(),
        }
    }

    /// How many bytes are still to come.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1 { .. } => {
                let remaining = self.connection().and_then(|it| it.body_remaining());
                remaining.map_or_else(SizeHint::new, SizeHint::with_exact)
            }
            Self::Http2 { incoming, .. } => incoming.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
            Self::Tunnel(_) => SizeHint::new(),
        }
    }
}
