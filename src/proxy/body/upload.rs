//! A request's body on its way to a node by HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body, Frame};

use super::{ClientFault, RequestBody};

/// What h2 is given of a body before it is known that the node takes it, in bytes: so much leaves
/// with the head, in one write.
const AHEAD: usize = 16 << 10;

/// Sends a body as the node opens its windows for it; until it does, one piece of it waits here.
#[derive(Debug)]
pub(in crate::proxy) struct Upload {
    stream: SendStream<Bytes>,
    /// `None` once all of it was given to h2, or the node takes no more.
    body: Option<RequestBody>,
    /// What the node has no room for yet.
    piece: Bytes,
    /// Whether nothing follows what was taken of the body.
    is_last: bool,
    /// What h2 may still be given ahead.
    ahead: usize,
}

impl Upload {
    /// Of `body`, behind the head that opened `stream`, which ended it if it `is_whole`.
    pub(in crate::proxy) fn new(
        stream: SendStream<Bytes>,
        body: RequestBody,
        is_whole: bool,
    ) -> Self {
        Self {
            stream,
            body: Some(body),
            piece: Bytes::new(),
            is_last: is_whole,
            ahead: AHEAD,
        }
    }

    /// Sends what there is of the body, as far as the node takes it. What it does not take any more is
    /// told by the response.
    ///
    /// # Errors
    /// When the client spoiled it: then the stream is reset.
    pub(in crate::proxy) fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), ClientFault> {
        while let Some(body) = &mut self.body {
            if !self.piece.is_empty() {
                let Poll::Ready(room) = self.poll_room(cx) else {
                    break;
                };
                self.send(room);
                continue;
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) if self.is_last => self.body = None,
                Poll::Ready(None) => self.end(),
                Poll::Ready(Some(Ok(frame))) => {
                    let is_last = body.is_end_stream();
                    self.take(frame, is_last);
                }
                Poll::Ready(Some(Err(fault))) => {
                    self.stream.send_reset(Reason::CANCEL);
                    self.body = None;
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame<Bytes>, is_last: bool) {
        match frame.into_data() {
            Ok(data) if data.is_empty() && !is_last => {}
            Ok(data) => {
                let len = data.len();
                (self.piece, self.is_last) = (data, is_last);
                match self.ahead.checked_sub(len) {
                    Some(ahead) => {
                        self.ahead = ahead;
                        self.send(len);
                    }
                    None => self.stream.reserve_capacity(len),
                }
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => self.end_with(trailers),
                Err(_unknown) => {}
            },
        }
    }

    /// How much of the piece may be sent now; all of it where nobody takes it.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(self.piece.len()),
            }
        }
        Poll::Ready(self.stream.capacity().min(self.piece.len()))
    }

    /// Sends `len` bytes of the piece.
    fn send(&mut self, len: usize) {
        let data = self.piece.split_to(len);
        let ends = self.is_last && self.piece.is_empty();
        let sent = self.stream.send_data(data, ends);
        if ends || sent.is_err() {
            self.body = None;
        }
    }

    fn end(&mut self) {
        self.is_last = true;
        self.send(0);
    }

    fn end_with(&mut self, trailers: HeaderMap) {
        match self.stream.send_trailers(trailers) {
            Ok(()) => self.body = None,
            // Those that HTTP/2 has no place for.
            Err(_refused) => self.end(),
        }
    }
}
