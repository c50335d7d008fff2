//! A connection whose small writes wait for each other.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::clock;
use super::flood::FloodWatch;
use super::outbox::Outbox;
use super::stream::Stream;

/// What may wait, in bytes: three frames of the size that HTTP/2 peers take by default.
const HELD_MAX: usize = 48 << 10;

/// A stream whose writes are held until its [`Cork`] lets them go.
///
/// HTTP/2 needs it: h2 flushes at each DATA frame, so that 16 responses that were ready at once
/// would leave in 16 writes.
#[derive(Debug)]
pub struct Corked {
    /// What was read before.
    begun: Bytes,
    held: Rc<Held>,
}

/// What lets go of the writes of a [`Corked`] stream. Nothing else writes to the socket, so that the
/// one waker that the runtime keeps for that is this one's.
#[derive(Debug)]
pub struct Cork(Rc<Held>);

#[derive(Debug)]
struct Held {
    stream: Stream,
    /// When something was last read, by the thread's coarse clock.
    last_read: Cell<Instant>,
    outbox: RefCell<Outbox>,
    /// What ends the connection of a client that floods it.
    watch: Option<RefCell<FloodWatch>>,
    /// What became of a write that the writer took for done.
    broken: Cell<Option<io::ErrorKind>>,
    writer: RefCell<Waker>,
    /// Whether the writer waits until all was let go of.
    waits: Cell<bool>,
}

impl Corked {
    /// `stream`, of which `begun` was read already, and its cork.
    pub fn new(stream: Stream, begun: Bytes) -> (Self, Cork) {
        Self::with(stream, begun, None)
    }

    /// The same for a client's connection: it breaks when `watch` sees a flood.
    pub fn watched(stream: Stream, begun: Bytes, watch: FloodWatch) -> (Self, Cork) {
        Self::with(stream, begun, Some(RefCell::new(watch)))
    }

    fn with(stream: Stream, begun: Bytes, watch: Option<RefCell<FloodWatch>>) -> (Self, Cork) {
        let held = Rc::new(Held {
            stream,
            last_read: Cell::new(clock::recent()),
            outbox: RefCell::default(),
            watch,
            broken: Cell::default(),
            writer: RefCell::new(Waker::noop().clone()),
            waits: Cell::default(),
        });
        let cork = Cork(Rc::clone(&held));
        (Self { begun, held }, cork)
    }

    fn poll_hold(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let held = &*self.held;
        held.writer.borrow_mut().clone_from(cx.waker());
        held.check()?;
        let mut outbox = held.outbox.borrow_mut();
        let len = slices.iter().map(|it| it.len()).sum::<usize>();
        if !outbox.is_empty() && outbox.buffered() + len > HELD_MAX {
            return held.wait();
        }
        let mut room = HELD_MAX - outbox.buffered();
        let buffer = outbox.buffer();
        let before = buffer.len();
        for slice in slices {
            let part = &slice[..slice.len().min(room)];
            buffer.extend_from_slice(part);
            room -= part.len();
        }
        held.saw(FloodWatch::sent, &buffer[before..])?;
        Poll::Ready(Ok(buffer.len() - before))
    }
}

impl Cork {
    /// Polls `connection`, which writes to the [`Corked`] stream, and then lets go of what was written.
    pub fn poll<F: Future>(
        &self,
        cx: &mut Context<'_>,
        connection: Pin<&mut F>,
    ) -> Poll<F::Output> {
        let polled = connection.poll(cx);
        if polled.is_pending() {
            self.release(cx);
        }
        polled
    }

    /// Lets go of what was written. Wakes the writer if it waits for that.
    pub fn release(&self, cx: &mut Context<'_>) {
        self.0.release(cx);
    }

    /// Asks the watch of a client's frames, if there is one.
    pub fn watch<T>(&self, ask: impl FnOnce(&mut FloodWatch) -> T) -> Option<T> {
        let watch = self.0.watch.as_ref()?;
        Some(ask(&mut watch.borrow_mut()))
    }

    /// Whether the connection broke because its client flooded it. Tells the client then, as far as
    /// it takes that at once.
    pub fn ends_flood(&self, cx: &mut Context<'_>) -> bool {
        let Some(watch) = self.0.watch.as_ref().filter(|it| it.borrow().is_over()) else {
            return false;
        };
        let mut outbox = self.0.outbox.borrow_mut();
        if let Some(goodbye) = watch.borrow().goodbye() {
            outbox.buffer().extend_from_slice(&goodbye);
        }
        let _best_effort = outbox.poll_flush(cx, &self.0.stream);
        let _gone = self.0.stream.shut_down().is_err();
        true
    }

    /// When something was last read of the [`Corked`] stream, by the thread's coarse clock.
    pub fn last_read(&self) -> Instant {
        self.0.last_read.get()
    }
}

impl Held {
    fn release(&self, cx: &mut Context<'_>) {
        let mut outbox = self.outbox.borrow_mut();
        match outbox.poll_flush(cx, &self.stream) {
            Poll::Pending => return,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                outbox.clear();
                self.broken.set(Some(error.kind()));
                self.waits.set(true);
            }
        }
        if self.waits.take() {
            self.writer.borrow().wake_by_ref();
        }
    }

    /// Has the writer wait until all was let go of.
    fn wait<T>(&self) -> Poll<T> {
        self.waits.set(true);
        Poll::Pending
    }

    /// Shows `bytes` to the watch.
    fn saw(
        &self,
        side: impl Fn(&mut FloodWatch, &[u8], fn() -> std::time::Instant),
        bytes: &[u8],
    ) -> io::Result<()> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        let mut watch = watch.borrow_mut();
        side(&mut watch, bytes, || clock::now().into_std());
        if watch.is_over() {
            self.broken.set(Some(io::ErrorKind::ConnectionAborted));
        }
        drop(watch);
        self.check()
    }

    fn check(&self) -> io::Result<()> {
        self.broken.get().map_or(Ok(()), |it| Err(it.into()))
    }
}

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.begun.is_empty() {
            ready!(Pin::new(&mut self.held.stream.clone()).poll_read(cx, buf))?;
        } else {
            let len = self.begun.len().min(buf.remaining());
            buf.put_slice(&self.begun[..len]);
            self.begun.advance(len);
        }
        self.held.last_read.set(clock::recent());
        Poll::Ready(self.held.saw(FloodWatch::received, &buf.filled()[before..]))
    }
}

impl AsyncWrite for Corked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_hold(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_hold(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: the cork does it, when all is written that can be.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held.writer.borrow_mut().clone_from(cx.waker());
        Poll::Ready(self.held.check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held.writer.borrow_mut().clone_from(cx.waker());
        self.held.check()?;
        if !self.held.outbox.borrow().is_empty() {
            return self.held.wait();
        }
        Poll::Ready(self.held.stream.shut_down())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    fn pair() -> (Corked, Cork, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let (corked, cork) = Corked::new(Stream::from_unix(near), Bytes::from_static(b"begun"));
        (corked, cork, far)
    }

    #[tokio::test]
    async fn writes_leave_together_when_the_poll_ends() {
        let (mut corked, cork, mut far) = pair();
        let mut early = [0; 16];
        let mut connection = pin!(async {
            for part in ["one ", "two ", "three"] {
                corked.write_all(part.as_bytes()).await.unwrap();
                corked.flush().await.unwrap();
            }
            let early = far.try_read(&mut early).unwrap_err().kind();
            tokio::task::yield_now().await;
            let mut late = [0; 16];
            let read = far.read(&mut late).await.unwrap();
            (early, late[..read].to_vec())
        });
        let (early, late) = poll_fn(|cx| cork.poll(cx, connection.as_mut())).await;
        assert_eq!(early, io::ErrorKind::WouldBlock);
        assert_eq!(late, b"one two three");
    }

    #[tokio::test]
    async fn all_arrives_however_much_it_is_and_the_end_after_it() {
        let (mut corked, cork, mut far) = pair();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|it| it.to_le_bytes()[1]).collect();
        let mut connection = pin!(async {
            corked.write_all(&sent).await.unwrap();
            corked.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(
            far.read_to_end(&mut received),
            poll_fn(|cx| cork.poll(cx, connection.as_mut())),
        );
        read.unwrap();
        assert!(received == sent);
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (mut corked, _cork, mut far) = pair();
        far.write_all(b" more").await.unwrap();
        drop(far);
        let mut read = String::new();
        corked.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "begun more");
    }

    /// The writer took its write for done, and must hear all the same that it was not.
    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_told_to_the_writer() {
        let (mut corked, cork, _far) = pair();
        corked
            .held
            .stream
            .set_write_timeout(Duration::from_millis(50));
        let mut connection = pin!(async {
            let mut wrote = corked.write_all(&vec![0; 1 << 20]).await;
            // From then on like a connection that has nothing more to say.
            while wrote.is_ok() {
                tokio::task::yield_now().await;
                wrote = corked.flush().await;
            }
            wrote.unwrap_err().kind()
        });
        let told = poll_fn(|cx| cork.poll(cx, connection.as_mut())).await;
        assert_eq!(told, io::ErrorKind::TimedOut);
    }
}
