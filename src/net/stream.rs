//! A TCP or Unix stream whose handle can be shared with whoever must look at the socket.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

/// A connected stream on this thread's runtime.
///
/// Clones share the socket: the protocol reads and writes one of them, the pool or the request
/// looks at the other. Only one of them may read or write, for the runtime keeps one waker a
/// direction.
#[derive(Clone, Debug)]
pub struct Stream(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Socket,
    /// How long the peer may take nothing of what is written; zero for ever.
    write_timeout: Cell<Duration>,
    /// Runs while the peer takes nothing; made when it first does, which most never do.
    stalled: RefCell<Option<Pin<Box<Sleep>>>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method of whichever socket it is.
macro_rules! either {
    ($stream:expr, $socket:ident => $call:expr) => {
        match &$stream.0.socket {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

impl Stream {
    /// Connects to `address`.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        Self::from_tcp(socket)
    }

    /// Connects to the Unix socket at `path`.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::from_unix)
    }

    /// Takes over a socket that another thread accepted.
    pub fn adopt(socket: Detached) -> io::Result<Self> {
        match socket {
            Detached::Tcp(socket) => Self::from_tcp(TcpStream::from_std(socket)?),
            Detached::Unix(socket) => UnixStream::from_std(socket).map(Self::from_unix),
        }
    }

    /// Lets go of the socket, for another thread to [`adopt`](Self::adopt); `None` while a clone
    /// of this stream is about.
    pub fn detach(self) -> Option<io::Result<Detached>> {
        Some(match Rc::into_inner(self.0)?.socket {
            Socket::Tcp(socket) => socket.into_std().map(Detached::Tcp),
            Socket::Unix(socket) => socket.into_std().map(Detached::Unix),
        })
    }

    /// The peer's address; `None` on a Unix socket.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        match &self.0.socket {
            Socket::Tcp(socket) => socket.peer_addr().ok().map(|it| it.ip().to_canonical()),
            Socket::Unix(_) => None,
        }
    }

    /// Whether the peer can still answer: neither closed nor sending what nobody asked for.
    ///
    /// One `recv` with `MSG_PEEK`. A peer that closes right after is not seen: a write to it may
    /// still succeed.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = either!(self, socket => SockRef::from(socket).peek(&mut byte));
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Makes the coming close a reset, so that the peer cannot take the end for a clean one.
    pub fn reset_on_close(&self) {
        let linger =
            either!(self, socket => SockRef::from(socket).set_linger(Some(Duration::ZERO)));
        if let Err(error) = linger {
            tracing::debug!(%error, "a broken response ends with a plain close");
        }
    }

    /// Lets a write fail when the peer takes nothing for `timeout`.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.0.write_timeout.set(timeout);
    }

    fn new(socket: Socket) -> Self {
        Self(Rc::new(Shared {
            socket,
            write_timeout: Cell::new(Duration::ZERO),
            stalled: RefCell::default(),
        }))
    }

    pub(super) fn from_unix(socket: UnixStream) -> Self {
        Self::new(Socket::Unix(socket))
    }

    pub(super) fn from_tcp(socket: TcpStream) -> io::Result<Self> {
        // A proxy writes whole messages: waiting for an acknowledgement only delays their tails.
        socket.set_nodelay(true)?;
        Ok(Self::new(Socket::Tcp(socket)))
    }

    fn poll_ready(&self, cx: &mut Context<'_>, interest: Interest) -> Poll<io::Result<()>> {
        if interest.is_readable() {
            either!(self, socket => socket.poll_read_ready(cx))
        } else {
            either!(self, socket => socket.poll_write_ready(cx))
        }
    }

    /// Runs `io` whenever the socket is ready for it, until it no longer blocks.
    fn poll_io<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut io: impl FnMut(&Self) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_ready(cx, interest))?;
            match io(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Stream {
    /// Writes by `io`, or fails when the peer has taken nothing for the write timeout.
    fn poll_write_by(
        &self,
        cx: &mut Context<'_>,
        io: impl FnMut(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let written = self.poll_io(cx, Interest::WRITABLE, io);
        let timeout = self.0.write_timeout.get();
        let mut stalled = self.0.stalled.borrow_mut();
        if written.is_ready() {
            stalled.take();
        } else if !timeout.is_zero() {
            let timer = stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_io(cx, Interest::READABLE, |stream| {
            either!(stream, socket => socket.try_read_buf(buf)).map(drop)
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(
            cx,
            |stream| either!(stream, socket => socket.try_write(buf)),
        )
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(
            cx,
            |stream| either!(stream, socket => socket.try_write_vectored(bufs)),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = either!(self, socket => SockRef::from(socket).shutdown(Shutdown::Write));
        Poll::Ready(match shut {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        })
    }
}

/// A connected socket on its way to the thread that will serve it.
#[derive(Debug)]
pub enum Detached {
    /// A TCP connection.
    Tcp(std::net::TcpStream),
    /// A Unix connection.
    Unix(std::os::unix::net::UnixStream),
}
