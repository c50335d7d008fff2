//! A body on its way out by HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::http1::{ChunkSize, last_chunk};
use crate::net::{Outbox, Stream};
use crate::proxy::rewrite::http1::Framing;

/// Sends a body behind a head that is in the outbox already: both leave in one write while they
/// are small.
#[derive(Debug)]
pub(in crate::proxy) struct Transmit {
    framing: Framing,
    /// Whether the outbox has been given the end of it.
    ended: bool,
    /// Whether all that was in the outbox was written at least once.
    begun: bool,
}

/// Why a body was not sent to its end.
#[derive(Debug)]
pub(in crate::proxy) enum Broke<E> {
    /// It came no further.
    Body(E),
    /// The connection that it went to broke.
    Io(io::Error),
}

impl Transmit {
    pub(in crate::proxy) fn new(framing: Framing) -> Self {
        Self {
            framing,
            ended: false,
            begun: false,
        }
    }

    /// Whether anything was sent, beside what is left in the outbox.
    pub(in crate::proxy) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Sends what there is of `body`; ready once all was sent.
    ///
    /// The body is dropped once the outbox was given the end of it and is nearly empty: what ends
    /// with the body has then ended by the time that the receiver can know of it.
    pub(in crate::proxy) fn poll<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Option<B>,
        outbox: &mut Outbox,
        stream: &Stream,
    ) -> Poll<Result<(), Broke<B::Error>>> {
        loop {
            if let Err(error) = self.gather(cx, body, outbox) {
                // What came before the break still goes out.
                let _best_effort = outbox.poll_flush(cx, stream);
                return Poll::Ready(Err(Broke::Body(error)));
            }
            if self.ended && !outbox.holds_much() {
                *body = None;
            }
            if outbox.is_empty() {
                return if self.ended {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            ready!(outbox.poll_flush(cx, stream)).map_err(Broke::Io)?;
            self.begun = true;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes of the body what is there, as far as the outbox has room for it.
    fn gather<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Option<B>,
        outbox: &mut Outbox,
    ) -> Result<(), B::Error> {
        while let Some(body) = body
            && !self.ended
            && !outbox.is_full()
        {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end(outbox, None),
                Poll::Ready(Some(frame)) => {
                    let frame = frame?;
                    let is_last = body.is_end_stream();
                    self.push(frame, is_last, outbox);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, frame: Frame<Bytes>, is_last: bool, outbox: &mut Outbox) {
        match (frame.into_data(), self.framing) {
            (Ok(data), _) if data.is_empty() => {}
            (Ok(data), Framing::Plain) => {
                outbox.push(data, b"");
                self.ended = is_last;
            }
            (Ok(data), Framing::Chunked { .. }) => {
                let size = ChunkSize::new(data.len());
                outbox.buffer().extend_from_slice(size.as_bytes());
                outbox.push(data, b"\r\n");
            }
            (Err(frame), _) => self.end(outbox, frame.trailers_ref()),
        }
    }

    /// Only chunks can be followed by trailers (RFC 9112 7.1.2).
    fn end(&mut self, outbox: &mut Outbox, trailers: Option<&http::HeaderMap>) {
        self.ended = true;
        if let Framing::Chunked { trailers: takes } = self.framing {
            last_chunk(outbox.buffer(), trailers.filter(|_| takes));
        }
    }
}
