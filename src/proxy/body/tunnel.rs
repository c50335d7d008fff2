//! A tunnel on an HTTP/2 stream (RFC 8441): what its client sends, and what it is sent.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::{ClientFault, ResponseBody};
use crate::net::{Alarm, clock};

/// What is read at once, in bytes.
const READ_MAX: usize = 16 << 10;

/// The client's end of a tunnel, which opens once its request was answered.
#[derive(Default)]
pub(in crate::proxy) struct Tunnel {
    stream: RefCell<Option<TokioIo<Upgraded>>>,
    read: RefCell<BytesMut>,
    /// Whether the client sends no more.
    is_at_end: Cell<bool>,
    /// Whether its stream broke.
    is_broken: Cell<bool>,
}

impl Tunnel {
    /// Passes on what the node sends as `body` until one of them ends. A client that takes nothing
    /// for as long as the exchange may be silent has left.
    pub(in crate::proxy) async fn carry(&self, stream: Upgraded, mut body: ResponseBody) {
        self.stream.replace(Some(TokioIo::new(stream)));
        let mut piece = Bytes::new();
        let (mut alarm, mut stalled) = (Alarm::default(), None);
        let carried = poll_fn(|cx| {
            while piece.has_remaining() || !body.is_end_stream() {
                if piece.has_remaining() {
                    let Poll::Ready(written) = self.poll_write(cx, &piece)? else {
                        body.poll_upload(cx);
                        let since: Instant = *stalled.get_or_insert_with(clock::now);
                        ready!(alarm.poll_until(cx, since + body.patience()));
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    };
                    piece.advance(written);
                    stalled = None;
                    continue;
                }
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        piece = frame.into_data().unwrap_or_default();
                    }
                    // It is counted as what it is.
                    Poll::Ready(Some(Err(_broken))) => return Poll::Ready(Ok(())),
                    Poll::Ready(None) => break,
                    Poll::Pending if self.is_broken.get() => {
                        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.poll_end(cx)
        });
        if carried.await.is_err() {
            body.outcome().abandoned();
        }
    }

    /// The next piece of what the client sends.
    pub(super) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else {
            return Poll::Pending;
        };
        let mut buffer = self.read.borrow_mut();
        buffer.reserve(READ_MAX);
        let read = ready!(pin!(stream.read_buf(&mut *buffer)).poll(cx));
        Poll::Ready(match read {
            Ok(1..) => Some(Ok(Frame::data(buffer.split().freeze()))),
            Ok(0) => {
                self.is_at_end.set(true);
                None
            }
            Err(_reset) => {
                self.is_broken.set(true);
                Some(Err(ClientFault::Body))
            }
        })
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end.get()
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}
