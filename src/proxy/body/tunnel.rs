//! A tunnel on an HTTP/2 stream (RFC 8441): what its client sends from the CONNECT on. What it is sent
//! is the body of the answer.

use std::cell::RefCell;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::{ClientFault, Incoming};

/// The client's end of a tunnel, which nobody reads before the node has switched.
#[derive(Debug)]
pub(in crate::proxy) struct Tunnel(RefCell<Incoming>);

impl Tunnel {
    pub(in crate::proxy) fn new(incoming: Incoming) -> Self {
        Self(RefCell::new(incoming))
    }

    /// The next piece of what the client sends.
    pub(super) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let frame = self.0.borrow_mut().poll_frame(cx);
        frame.map_err(|_reset| ClientFault::Body)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.borrow().is_at_end()
    }
}
