//! A TCP or Unix stream whose handle can be shared with whoever must look at the socket.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::clock;

/// A connected stream on this thread's runtime.
///
/// Clones share the socket: one reads and writes, another looks at it. The runtime keeps one waker a
/// direction, so that no two tasks may wait for the same one.
#[derive(Clone, Debug)]
pub struct Stream(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: RefCell<Socket>,
    peer: Option<IpAddr>,
    /// How long the peer may take nothing of what is written, in milliseconds; zero for ever.
    write_timeout_ms: Cell<u32>,
    /// Runs while the peer takes nothing; boxed, for most always take.
    stalled: RefCell<Option<Box<Stall>>>,
}

/// A peer that takes nothing.
#[derive(Debug)]
struct Stall {
    /// When it must have taken something.
    deadline: Instant,
    alarm: Alarm,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method of whichever socket it is.
macro_rules! either {
    ($stream:expr, $socket:ident => $call:expr) => {
        match &*$stream.0.socket.borrow() {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

/// The same, to poll it.
macro_rules! polled {
    ($stream:expr, $socket:ident => $call:expr) => {
        match &mut *$stream.0.socket.borrow_mut() {
            Socket::Tcp(socket) => {
                let $socket = Pin::new(socket);
                $call
            }
            Socket::Unix(socket) => {
                let $socket = Pin::new(socket);
                $call
            }
        }
    };
}

impl Stream {
    /// Connects to `address`.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        // Whole messages are written: waiting for an acknowledgement only delays their tails.
        socket.set_nodelay(true)?;
        Ok(Self::new(Socket::Tcp(socket), None))
    }

    /// Connects to the Unix socket at `path`.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::from_unix)
    }

    /// Takes over a socket that another thread accepted.
    pub fn adopt(socket: Detached) -> io::Result<Self> {
        match socket {
            Detached::Tcp(socket, peer) => {
                let socket = Socket::Tcp(TcpStream::from_std(socket)?);
                Ok(Self::new(socket, peer))
            }
            Detached::Unix(socket) => UnixStream::from_std(socket).map(Self::from_unix),
        }
    }

    /// Lets go of the socket, for another thread to [`adopt`](Self::adopt); `None` while a clone
    /// of this stream is about.
    pub fn detach(self) -> Option<io::Result<Detached>> {
        let Shared { socket, peer, .. } = Rc::into_inner(self.0)?;
        Some(match socket.into_inner() {
            Socket::Tcp(socket) => socket.into_std().map(|it| Detached::Tcp(it, peer)),
            Socket::Unix(socket) => socket.into_std().map(Detached::Unix),
        })
    }

    /// The address of the client that was accepted; `None` on a Unix socket.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.0.peer
    }

    /// Whether the peer neither closed nor sent what nobody read, as far as this thread was told:
    /// a system call is made only when there is news.
    ///
    /// What comes right after is not seen, nor what came since the thread last asked for events.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let news = either!(self, socket => {
            socket.try_io(Interest::READABLE, || SockRef::from(socket).peek(&mut byte))
        });
        matches!(news, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, asked of the system: one `recv` with `MSG_PEEK`.
    pub fn is_surely_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = either!(self, socket => SockRef::from(socket).peek(&mut byte));
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Ready when the peer closed, with `true`, or when it sent something that nobody read.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut byte = [MaybeUninit::uninit()];
        loop {
            if ready!(self.poll_readable(cx)).is_err() {
                return Poll::Ready(true);
            }
            let peeked = either!(self, socket => {
                socket.try_io(Interest::READABLE, || SockRef::from(socket).peek(&mut byte))
            });
            match peeked {
                Ok(bytes) => return Poll::Ready(bytes == 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_broken) => return Poll::Ready(true),
            }
        }
    }

    /// Makes the coming close a reset, so that the peer cannot take the end for a clean one.
    pub fn reset_on_close(&self) {
        let linger =
            either!(self, socket => SockRef::from(socket).set_linger(Some(Duration::ZERO)));
        if let Err(error) = linger {
            tracing::debug!(%error, "a broken response ends with a plain close");
        }
    }

    /// Tells the peer that nothing more comes.
    pub fn shut_down(&self) -> io::Result<()> {
        let shut = either!(self, socket => SockRef::from(socket).shutdown(Shutdown::Write));
        match shut {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }

    /// Lets a write fail when the peer takes nothing for `timeout`.
    pub fn set_write_timeout(&self, timeout: Duration) {
        let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self.0.write_timeout_ms.set(millis);
    }

    /// Ready when there may be something to read, the end included.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, socket => socket.poll_read_ready(cx))
    }

    /// Reads once into the room of `buffer`.
    ///
    /// By the socket's own `poll_read`: when a read brings less than there was room for, it knows
    /// that the next one would block, and saves the system call that would say so.
    pub fn poll_read_buf(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        polled!(self, socket => {
            let mut socket = socket;
            let reading = pin!(socket.read_buf(buffer));
            reading.poll(cx)
        })
    }

    /// Writes what it can of `bytes`, or fails when the peer has taken nothing for the write timeout.
    pub fn poll_write_slice(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = polled!(self, socket => socket.poll_write(cx, bytes));
        self.in_time(cx, written)
    }

    /// The same of several slices.
    pub fn poll_write_slices(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = polled!(self, socket => socket.poll_write_vectored(cx, slices));
        self.in_time(cx, written)
    }

    fn in_time(
        &self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let timeout = Duration::from_millis(self.0.write_timeout_ms.get().into());
        let mut stalled = self.0.stalled.borrow_mut();
        if written.is_ready() {
            *stalled = None;
        } else if !timeout.is_zero() {
            let Stall { deadline, alarm } = &mut **stalled.get_or_insert_with(|| {
                let deadline = clock::now() + timeout;
                let alarm = Alarm::default();
                Box::new(Stall { deadline, alarm })
            });
            ready!(alarm.poll_until(cx, *deadline));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }

    fn new(socket: Socket, peer: Option<IpAddr>) -> Self {
        Self(Rc::new(Shared {
            socket: RefCell::new(socket),
            peer,
            write_timeout_ms: Cell::new(0),
            stalled: RefCell::default(),
        }))
    }

    pub(super) fn from_unix(socket: UnixStream) -> Self {
        Self::new(Socket::Unix(socket), None)
    }

    /// A client's connection, which has its listener's options.
    pub(super) fn accepted(socket: TcpStream, peer: IpAddr) -> Self {
        Self::new(Socket::Tcp(socket), Some(peer))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        polled!(self, socket => socket.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slice(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(cx, bufs)
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

/// A connected socket on its way to the thread that will serve it.
#[derive(Debug)]
pub enum Detached {
    /// A TCP connection, and the address of the client at its other end.
    Tcp(std::net::TcpStream, Option<IpAddr>),
    /// A Unix connection.
    Unix(std::os::unix::net::UnixStream),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::SharedListener;
    use crate::topology::Address;

    #[tokio::test]
    async fn what_is_accepted_delays_nothing_and_knows_its_client() {
        let host = "127.0.0.1".to_owned();
        let any = Address::Tcp { host, port: 0 };
        let listener = SharedListener::bind("app", &any).unwrap();
        let Address::Tcp { port, .. } = listener.address() else {
            panic!("a TCP listener must have a port");
        };
        let address = SocketAddr::from(([127, 0, 0, 1], *port));
        let client = Stream::connect_tcp(address).await.unwrap();
        let accepted = listener.register().unwrap().accept().await.unwrap();
        assert_eq!(accepted.peer_ip(), Some(address.ip()));
        for stream in [client, accepted] {
            match &*stream.0.socket.borrow() {
                Socket::Tcp(socket) => assert!(socket.nodelay().unwrap()),
                Socket::Unix(_) => unreachable!("both ends are TCP"),
            }
        }
    }
}
