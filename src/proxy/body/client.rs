//! The body that a client sends, as its protocol brings it.

use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{BACKLOG, ClientFault, Tunnel, passed};
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
    Http2(Incoming),
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
            Self::Http2(incoming) => {
                let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
                // hyper takes a stream that was reset with NO_ERROR for one that ended.
                let is_cut = frame.is_none() && !incoming.is_end_stream();
                Poll::Ready(match frame {
                    None if is_cut => Some(Err(ClientFault::Body)),
                    frame => frame.map(|it| it.map(passed).map_err(|_| ClientFault::Body)),
                })
            }
            Self::Tunnel(tunnel) => tunnel.poll_frame(cx),
        }
    }

    /// The connection of an HTTP/1.1 body, while it serves the body's request.
    fn connection(&self) -> Option<Rc<Connection>> {
        match self {
            Self::Http1 { connection, serial } => {
                connection.upgrade().filter(|it| it.serves(*serial))
            }
            Self::Http2(_) | Self::Tunnel(_) => None,
        }
    }

    /// What may wait of it, in bytes, while it is not read.
    pub(super) fn backlog(&self) -> usize {
        match self {
            Self::Http1 { .. } => BACKLOG,
            Self::Http2(_) | Self::Tunnel(_) => STREAM_WINDOW as usize,
        }
    }

    /// Whether the client should be sending it: not one that waits to be told to.
    pub(super) fn is_due(&self) -> bool {
        !self.connection().is_some_and(|it| it.expects_continue())
    }

    pub(in crate::proxy) fn is_at_end(&self) -> bool {
        match self {
            Self::Http1 { .. } => self.connection().is_some_and(|it| it.is_body_at_end()),
            Self::Http2(incoming) => incoming.is_end_stream(),
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
            Self::Http2(incoming) => incoming.size_hint(),
            Self::Tunnel(_) => SizeHint::new(),
        }
    }
}
