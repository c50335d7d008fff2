//! A connection in clear or under TLS whose handle can be shared with whoever must look at it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::alarm::Alarm;
use super::clock;
use super::plain::{Plain, Seen};
use super::socket::{Socket, Tls};
use crate::proxy_protocol::Ends;

/// A connected stream on this thread's runtime.
///
/// Clones share the socket: one reads and writes, another looks at it. The runtime keeps one waker a
/// direction, so that no two tasks may wait for the same one.
#[derive(Clone, Debug)]
pub struct Stream(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: RefCell<Socket>,
    /// The client's address and its port apart: together they would take 16 bytes more.
    peer: Cell<Option<IpAddr>>,
    peer_port: Cell<u16>,
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

/// What the two ends of a TLS connection agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Whether they agreed on HTTP/2, by ALPN (RFC 7301).
    pub http2: bool,
    /// Whether the session of an earlier connection was resumed.
    pub resumed: bool,
}

impl Stream {
    /// Connects to `address`.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        // Whole messages are written: waiting for an acknowledgement only delays their tails.
        socket.set_nodelay(true)?;
        Ok(Self::clear(socket.into(), None))
    }

    /// Connects to the Unix socket at `path`.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self::from_unix)
    }

    /// A client's connection that was accepted, has its listener's options and does not block.
    pub(super) fn accepted(socket: OwnedFd, peer: Option<SocketAddr>) -> Self {
        Self::clear(Plain::accepted(socket, peer.is_none()), peer)
    }

    /// Takes over a socket that another thread accepted.
    pub fn adopt(Detached { socket, peer }: Detached) -> Self {
        Self::accepted(socket, peer)
    }

    /// Lets go of the socket, for another thread to [`adopt`](Self::adopt); `None` while a clone
    /// of this stream is about, or once it is under TLS.
    pub fn detach(self) -> Option<io::Result<Detached>> {
        let (socket, peer) = self.into_plain()?;
        Some(socket.into_fd().map(|socket| Detached { socket, peer }))
    }

    /// Puts the connection of a client under TLS, once the client has done its part.
    ///
    /// # Errors
    /// What keeps the two from agreeing, or what the system says; the connection is gone then.
    pub async fn accept_tls(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let (socket, peer) = self.into_plain().ok_or(io::ErrorKind::InvalidInput)?;
        let secured = TlsAcceptor::from(config).accept(socket).await?;
        let socket = Socket::Tls(Box::new(Tls::new(secured.into())));
        Ok(Self::new(socket, peer))
    }

    /// Puts a connection that was made to `name` under TLS.
    ///
    /// # Errors
    /// What keeps the two from agreeing, or what the system says; the connection is gone then.
    pub async fn connect_tls(
        self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let (socket, peer) = self.into_plain().ok_or(io::ErrorKind::InvalidInput)?;
        let secured = TlsConnector::from(config).connect(name, socket).await?;
        let socket = Socket::Tls(Box::new(Tls::new(secured.into())));
        Ok(Self::new(socket, peer))
    }

    /// What the two ends agreed on; `None` in clear.
    pub fn agreed(&self) -> Option<Agreed> {
        match &*self.0.socket.borrow() {
            Socket::Clear(_) => None,
            Socket::Tls(tls) => Some(Agreed {
                http2: tls.session().alpn_protocol() == Some(b"h2"),
                resumed: tls.session().handshake_kind() == Some(HandshakeKind::Resumed),
            }),
        }
    }

    /// The address of the client that was accepted; `None` on a Unix socket.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        self.0.peer.get()
    }

    /// The client's address and the one that it connected to; `None` on a Unix socket.
    pub fn ends(&self) -> Option<Ends> {
        let local = self.0.socket.borrow().plain().local()?;
        Some(Ends {
            client: SocketAddr::new(self.peer_ip()?, self.0.peer_port.get()),
            local: SocketAddr::new(local.ip().to_canonical(), local.port()),
        })
    }

    /// Takes the connection for that of `client`, as who passed it on says.
    pub fn set_client(&self, client: SocketAddr) {
        self.0.peer.set(Some(client.ip()));
        self.0.peer_port.set(client.port());
    }

    /// Whether the peer neither closed nor sent what nobody read, as far as this thread was told:
    /// a system call is made only when there is news.
    ///
    /// What comes right after is not seen, nor what came since the thread last asked for events.
    pub fn is_quiet(&self) -> bool {
        self.0.socket.borrow_mut().look() == Seen::Nothing
    }

    /// The same, asked of the system: one `recv` with `MSG_PEEK`.
    pub fn is_surely_quiet(&self) -> bool {
        self.0.socket.borrow_mut().look_closely() == Seen::Nothing
    }

    /// Whether the runtime tells of it: of a new connection it does once something was waited for.
    pub fn is_registered(&self) -> bool {
        self.0.socket.borrow().plain().is_registered()
    }

    /// Ready when the peer closed, with `true`, or when it sent something that nobody read.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let seen = self.0.socket.borrow_mut().poll_look(cx);
        seen.map(|it| it == Seen::End)
    }

    /// Makes the coming close a reset, so that the peer cannot take the end for a clean one.
    pub fn reset_on_close(&self) {
        if let Err(error) = self.0.socket.borrow_mut().reset_on_close() {
            tracing::debug!(%error, "a broken response ends with a plain close");
        }
    }

    /// Tells the peer that nothing more comes.
    pub fn shut_down(&self) -> io::Result<()> {
        self.0.socket.borrow_mut().shut_down()
    }

    /// Lets a write fail when the peer takes nothing for `timeout`.
    pub fn set_write_timeout(&self, timeout: Duration) {
        let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self.0.write_timeout_ms.set(millis);
    }

    /// Ready when there may be something to read, the end included.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket.borrow_mut().poll_readable(cx)
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
        let mut socket = self.0.socket.borrow_mut();
        let reading = pin!(socket.read_buf(buffer));
        reading.poll(cx)
    }

    /// Writes what it can of `bytes`, or fails when the peer has taken nothing for the write
    /// timeout. Under TLS, what was written is on its way only [once flushed](Self::poll_sent).
    pub fn poll_write_slice(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.0.socket.borrow_mut().poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    /// The same of several slices.
    pub fn poll_write_slices(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.0.socket.borrow_mut().poll_write_vectored(cx, slices);
        self.in_time(cx, written)
    }

    /// Ready when all that was written is on its way, or when the peer has taken nothing for the
    /// write timeout.
    pub fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut *self.0.socket.borrow_mut() {
            // Nothing waits anywhere.
            Socket::Clear(_) => return Poll::Ready(Ok(())),
            Socket::Tls(tls) => tls.poll_flush(cx),
        };
        self.in_time(cx, flushed)
    }

    fn in_time<T>(
        &self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
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

    fn new(socket: Socket, peer: Option<SocketAddr>) -> Self {
        Self(Rc::new(Shared {
            socket: RefCell::new(socket),
            peer: Cell::new(peer.map(|it| it.ip())),
            peer_port: Cell::new(peer.map_or(0, |it| it.port())),
            write_timeout_ms: Cell::new(0),
            stalled: RefCell::default(),
        }))
    }

    fn clear(socket: Plain, peer: Option<SocketAddr>) -> Self {
        Self::new(Socket::Clear(socket), peer)
    }

    pub(super) fn from_unix(socket: UnixStream) -> Self {
        Self::clear(socket.into(), None)
    }

    /// The socket in clear, and the client's address; `None` when it is shared or under TLS.
    fn into_plain(self) -> Option<(Plain, Option<SocketAddr>)> {
        let Shared {
            socket,
            peer,
            peer_port,
            ..
        } = Rc::into_inner(self.0)?;
        let peer = peer.get().map(|ip| SocketAddr::new(ip, peer_port.get()));
        match socket.into_inner() {
            Socket::Clear(plain) => Some((plain, peer)),
            Socket::Tls(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_read(cx, buf)
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut_down())
    }
}

/// A client's connection on its way to the thread that will serve it.
#[derive(Debug)]
pub struct Detached {
    socket: OwnedFd,
    /// The client's address; `None` on a Unix socket.
    peer: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Inherited, SharedListener};
    use crate::topology::Address;

    #[tokio::test]
    async fn what_is_accepted_delays_nothing_and_knows_its_client() {
        let host = "127.0.0.1".to_owned();
        let any = Address::Tcp { host, port: 0 };
        let listener = SharedListener::bind("app", &any, &mut Inherited::default()).unwrap();
        let Address::Tcp { port, .. } = listener.address() else {
            panic!("a TCP listener must have a port");
        };
        let address = SocketAddr::from(([127, 0, 0, 1], *port));
        let client = Stream::connect_tcp(address).await.unwrap();
        let accepted = listener.register().unwrap().accept().await.unwrap();
        assert_eq!(accepted.peer_ip(), Some(address.ip()));
        for stream in [client, accepted] {
            assert!(stream.0.socket.borrow().plain().is_undelayed());
        }
    }
}
