//! A socket of the system, TCP or Unix, that the runtime may not know of yet.
//!
//! To have the runtime tell of a socket takes two system calls: one at its beginning, one at its end.
//! A connection that brings its request at once, and no other, needs neither: it is read and written
//! as it is, and the runtime is asked only when the socket has nothing, or takes nothing. So does
//! `HAProxy`, and a connection that goes to another thread is registered there alone.

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How much the first read of a new socket takes, in bytes: the head of a request is rarely longer.
const FIRST_READ: usize = 2 << 10;

/// How much the second takes, after which the runtime knows of the socket: what is there already is
/// found without waiting for the runtime to say so.
const SECOND_READ: usize = 16 << 10;

/// A socket of the system.
#[derive(Debug)]
pub(super) enum Plain {
    New(New),
    Registered(Registered),
}

/// A non-blocking socket that was accepted, and that the runtime does not know of.
#[derive(Debug)]
pub(super) struct New {
    /// `None` when the runtime could not take it: it is closed.
    socket: Option<Socket>,
    is_unix: bool,
    was_read: bool,
}

/// A socket that the runtime tells of.
#[derive(Debug)]
pub(super) struct Registered {
    socket: Known,
    /// Whether the runtime has said that it can be written to, which it does at the thread's next look
    /// at events, or the system that it cannot.
    is_told: bool,
}

/// A socket of the runtime's.
#[derive(Debug)]
pub(super) enum Known {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What there is to read without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    Data,
    /// The peer closed, or the connection broke.
    End,
}

/// Calls the same method of whichever registered socket it is.
macro_rules! either {
    ($known:expr, $socket:ident => $call:expr) => {
        match $known {
            Known::Tcp($socket) => $call,
            Known::Unix($socket) => $call,
        }
    };
}

// === impl Plain ===

impl Plain {
    /// A socket that was accepted, and does not block.
    pub(super) fn accepted(socket: OwnedFd, is_unix: bool) -> Self {
        Self::New(New {
            socket: Some(socket.into()),
            is_unix,
            was_read: false,
        })
    }

    /// The socket as the runtime knows it, from now on if it did not before.
    #[inline]
    pub(super) fn registered(&mut self) -> io::Result<&mut Registered> {
        if let Self::New(_) = self {
            self.register()?;
        }
        match self {
            Self::Registered(registered) => Ok(registered),
            Self::New(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    #[cold]
    fn register(&mut self) -> io::Result<()> {
        if let Self::New(new) = self {
            *self = Self::Registered(new.register()?);
        }
        Ok(())
    }

    pub(super) fn is_registered(&self) -> bool {
        matches!(self, Self::Registered(_))
    }

    /// Looks at what there is to read, of what this thread was told.
    pub(super) fn look(&self) -> Seen {
        let peek = || self.socket()?.peek(&mut [MaybeUninit::uninit()]);
        seen(&match self {
            Self::New(_) => peek(),
            Self::Registered(it) => either!(&it.socket, it => it.try_io(Interest::READABLE, peek)),
        })
    }

    /// The same, asked of the system.
    pub(super) fn peek(&self) -> Seen {
        let socket = self.socket();
        seen(&socket.and_then(|it| it.peek(&mut [MaybeUninit::uninit()])))
    }

    /// Ready when there may be something to read, the end included: of a new socket nobody can say
    /// without reading it once.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::New(New {
                was_read: false, ..
            }) => Poll::Ready(Ok(())),
            Self::New(_) | Self::Registered(_) => {
                either!(&self.registered()?.socket, it => it.poll_read_ready(cx))
            }
        }
    }

    /// Reads what there is.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::New(it) => it.socket()?.read(buffer),
            Self::Registered(it) => either!(&it.socket, it => it.try_read(buffer)),
        }
    }

    /// Writes what the system takes.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket()?.send(bytes)
    }

    /// The address that this end is at; `None` on a Unix socket.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.socket().ok()?.local_addr().ok()?.as_socket()
    }

    /// Makes the coming close a reset.
    pub(super) fn reset_on_close(&self) -> io::Result<()> {
        self.socket()?.set_linger(Some(Duration::ZERO))
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        match self.socket()?.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }

    /// Whether what is written leaves at once.
    #[cfg(test)]
    pub(super) fn is_undelayed(&self) -> bool {
        self.socket().and_then(|it| it.tcp_nodelay()).unwrap()
    }

    /// Lets go of it, for another thread.
    pub(super) fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::New(it) => Ok(it.socket.ok_or(io::ErrorKind::NotConnected)?.into()),
            Self::Registered(it) => match it.socket {
                Known::Tcp(it) => Ok(it.into_std()?.into()),
                Known::Unix(it) => Ok(it.into_std()?.into()),
            },
        }
    }

    /// The socket, for what needs no runtime.
    fn socket(&self) -> io::Result<SockRef<'_>> {
        match self {
            Self::New(it) => Ok(SockRef::from(it.socket()?)),
            Self::Registered(it) => Ok(either!(&it.socket, it => SockRef::from(it))),
        }
    }

    /// Sends by the runtime's `poll`, or by `send` while the runtime has not said whether it could: what
    /// is said just before the end has no other time.
    fn poll_send(
        &mut self,
        send: impl Fn(&Socket) -> io::Result<usize>,
        poll: impl FnOnce(&mut Known) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Some(sent) = self.directly(|new| send(new.socket()?)) {
            return Poll::Ready(sent);
        }
        let it = self.registered()?;
        let polled = poll(&mut it.socket);
        if polled.is_ready() || it.is_told {
            it.is_told = true;
            return polled;
        }
        let socket = either!(&it.socket, it => SockRef::from(it));
        match send(&socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                it.is_told = true;
                Poll::Pending
            }
            sent => Poll::Ready(sent),
        }
    }

    /// What came of `act` on a socket that the runtime does not know of; `None` when it has to wait,
    /// or is known.
    #[inline]
    fn directly<T>(
        &mut self,
        act: impl FnOnce(&mut New) -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        let Self::New(new) = self else {
            return None;
        };
        let done = act(new);
        let waits = |it: &io::Error| it.kind() == io::ErrorKind::WouldBlock;
        (!done.as_ref().is_err_and(waits)).then_some(done)
    }
}

impl<T: Into<Registered>> From<T> for Plain {
    fn from(socket: T) -> Self {
        Self::Registered(socket.into())
    }
}

impl From<TcpStream> for Registered {
    fn from(socket: TcpStream) -> Self {
        let (socket, is_told) = (Known::Tcp(socket), false);
        Self { socket, is_told }
    }
}

impl From<UnixStream> for Registered {
    fn from(socket: UnixStream) -> Self {
        let (socket, is_told) = (Known::Unix(socket), false);
        Self { socket, is_told }
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let plain = self.get_mut();
        if let Self::New(new) = plain {
            let is_first = !new.was_read;
            let read = plain.directly(|new| new.read(buf));
            // More than these two reads brought comes by the runtime, or that there is none.
            if !is_first {
                plain.register()?;
            }
            if let Some(read) = read {
                return Poll::Ready(read);
            }
        }
        either!(&mut plain.registered()?.socket, it => Pin::new(it).poll_read(cx, buf))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(
            |socket| socket.send(bytes),
            |known| either!(known, it => Pin::new(it).poll_write(cx, bytes)),
        )
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(
            |socket| socket.send_vectored(slices),
            |known| either!(known, it => Pin::new(it).poll_write_vectored(cx, slices)),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut_down())
    }
}

// === impl New ===

impl New {
    fn socket(&self) -> io::Result<&Socket> {
        let socket = self.socket.as_ref();
        socket.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reads once. Few bytes: the room for them has to be filled with zeros before.
    #[cold]
    fn read(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let max = if self.was_read {
            SECOND_READ
        } else {
            FIRST_READ
        };
        self.was_read = true;
        let room = buffer.remaining().min(max);
        let read = self.socket()?.read(buffer.initialize_unfilled_to(room))?;
        buffer.advance(read);
        Ok(())
    }

    fn register(&mut self) -> io::Result<Registered> {
        let socket = self.socket.take().ok_or(io::ErrorKind::NotConnected)?;
        if self.is_unix {
            UnixStream::from_std(socket.into()).map(Registered::from)
        } else {
            TcpStream::from_std(socket.into()).map(Registered::from)
        }
    }
}

fn seen(peeked: &io::Result<usize>) -> Seen {
    match peeked {
        Ok(0) => Seen::End,
        Ok(_) => Seen::Data,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Seen::Nothing,
        Err(_broken) => Seen::End,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A new socket, and the other end.
    fn pair() -> (Plain, UnixStream) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let far = UnixStream::from_std(far).unwrap();
        (Plain::accepted(near.into(), true), far)
    }

    #[tokio::test]
    async fn who_brings_its_request_at_once_needs_no_runtime() {
        let (mut near, mut far) = pair();
        far.write_all(b"asked").await.unwrap();
        let mut read = [0; 8];
        assert_eq!(near.read(&mut read).await.unwrap(), 5);
        near.write_all(b"answered").await.unwrap();
        assert!(!near.is_registered());
        drop(near);
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answered");
    }

    #[tokio::test]
    async fn who_has_to_wait_is_told() {
        let (mut near, mut far) = pair();
        let mut read = [0; 8];
        let (read, ()) = tokio::join!(near.read(&mut read), async {
            far.write_all(b"late").await.unwrap();
        });
        assert_eq!(read.unwrap(), 4);
        assert!(near.is_registered());
        let (mut near, mut far) = pair();
        let (sent, mut taken) = (vec![b'x'; 4 << 20], vec![0; 4 << 20]);
        let (written, read) = tokio::join!(near.write_all(&sent), far.read_exact(&mut taken));
        written.unwrap();
        assert_eq!(read.unwrap(), sent.len());
        assert!(near.is_registered() && sent == taken);
    }

    #[tokio::test]
    async fn who_was_registered_just_now_is_written_to_at_once() {
        let (mut near, mut far) = pair();
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut room = [0; 8];
        let mut buffer = ReadBuf::new(&mut room);
        assert!(Pin::new(&mut near).poll_read(cx, &mut buffer).is_pending());
        assert!(near.is_registered());
        let written = Pin::new(&mut near).poll_write(cx, b"bye");
        assert!(matches!(written, Poll::Ready(Ok(3))), "{written:?}");
        let slices = [IoSlice::new(b", "), IoSlice::new(b"bye")];
        let written = Pin::new(&mut near).poll_write_vectored(cx, &slices);
        assert!(matches!(written, Poll::Ready(Ok(5))), "{written:?}");
        assert_eq!(near.try_write(b"!").unwrap(), 1);
        drop(near);
        let mut all = String::new();
        far.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "bye, bye!");
    }

    #[tokio::test]
    async fn what_is_there_already_is_read_without_waiting() {
        let (mut near, mut far) = pair();
        let sent = FIRST_READ + SECOND_READ + 1;
        far.write_all(&vec![b'x'; sent]).await.unwrap();
        let mut room = vec![0; sent];
        for expected in [FIRST_READ, SECOND_READ] {
            let mut buffer = ReadBuf::new(&mut room);
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut near).poll_read(cx, &mut buffer).is_ready());
            assert_eq!(buffer.filled().len(), expected);
        }
        assert!(near.is_registered());
        assert_eq!(near.read(&mut room).await.unwrap(), 1);
    }
}
