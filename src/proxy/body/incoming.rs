//! What comes on an HTTP/2 stream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use crate::head::allowed_trailers;

/// The body that comes on an HTTP/2 stream. What was read of it makes room in the windows for more.
#[derive(Debug)]
pub(in crate::proxy) struct Incoming {
    stream: RecvStream,
    /// The bytes that are still to come; h2 holds the sender to it.
    remaining: Option<u64>,
    /// Whether more than trailers can follow.
    has_data: bool,
}

impl Incoming {
    /// What comes on `stream`, `length` bytes where that was said.
    pub(in crate::proxy) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self {
            stream,
            remaining: length,
            has_data: true,
        }
    }

    /// The next piece, or the trailers that may be some; `None` at the end.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.has_data {
            if let Some(data) = ready!(self.stream.poll_data(cx)) {
                return Poll::Ready(Some(data.map(|it| self.took(it))));
            }
            self.has_data = false;
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).transpose();
        let trailers = trailers.map(|it| it.map(|it| Frame::trailers(allowed_trailers(it))));
        Poll::Ready(trailers)
    }

    pub(in crate::proxy) fn is_at_end(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let known = self.remaining.map(SizeHint::with_exact);
        known.unwrap_or_default()
    }

    fn took(&mut self, data: Bytes) -> Frame<Bytes> {
        // An error is the stream's end, which the next question tells.
        let _over = self
            .stream
            .flow_control()
            .release_capacity(data.len())
            .is_err();
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        Frame::data(data)
    }
}
