//! The body that a client sends, as its protocol brings it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::ClientFault;
use crate::proxy::connection::Connection;

/// The body that a client sends.
#[derive(Debug)]
pub(in crate::proxy) enum ClientBody {
    /// The one that the connection brings now.
    Http1(Rc<Connection>),
    /// An HTTP/2 stream's.
    Http2(Incoming),
}

impl ClientBody {
    /// The next piece of it, or its trailers; `None` at its end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        match self {
            Self::Http1(connection) => connection.poll_frame(cx).map_err(|_| ClientFault::Body),
            Self::Http2(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map_err(|_| ClientFault::Body),
        }
    }

    pub(in crate::proxy) fn is_at_end(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_body_at_end(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    /// How many bytes are still to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => match connection.body_remaining() {
                Some(bytes) => SizeHint::with_exact(bytes),
                None => SizeHint::new(),
            },
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}
