//! Listening sockets, bound once and polled by every data thread.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::inherit::{Inherited, Listening};
use super::stream::Stream;
use crate::topology::Address;

/// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`,
/// 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// A filter of segments, in the kernel's classic BPF: drops those that begin a connection (the flag SYN
/// in byte 13, RFC 9293 3.1) and lets the others pass. Who connects gets no answer until the socket is
/// closed, and is refused by the next try.
const NO_SYN: [SockFilter; 4] = [
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x45, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// A bound listening socket.
///
/// There is one socket a listener, whatever the number of threads: with `SO_REUSEPORT` a second
/// keyway would bind the same port unnoticed, and closing one of the sockets would reset what
/// waits in its queue.
#[derive(Debug)]
pub struct SharedListener {
    name: String,
    configured: Address,
    address: Address,
    socket: Listening,
    /// Whether somebody else goes on listening on it when this process does not.
    is_kept: AtomicBool,
}

/// A listening socket registered with this thread's runtime.
#[derive(Debug)]
pub struct Listener(AsyncFd<OwnedFd>);

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener {name:?} cannot listen on {address}")]
pub struct BindError {
    /// The listener's name.
    pub name: String,
    /// Where it should listen.
    pub address: Address,
    /// What the system said.
    pub source: io::Error,
}

// === impl SharedListener ===

impl SharedListener {
    /// Takes over what is `inherited` for the listener `name` on `address`, or binds that.
    ///
    /// A Unix socket that nobody listens on any more is replaced.
    pub fn bind(
        name: &str,
        address: &Address,
        inherited: &mut Inherited,
    ) -> Result<Self, BindError> {
        let passed = inherited.take(name, address);
        // Who passed it on listens too, as yet.
        let is_kept = passed.is_some();
        let bound = match (passed, address) {
            (Some(passed), _) => adopt(passed.socket, address),
            (None, Address::Tcp { host, port }) => bind_tcp(host, *port),
            (None, Address::Unix(path)) => {
                bind_unix(path).map(|it| (Listening::Unix(it), address.clone()))
            }
            (None, Address::Srv(_)) => Err(io::ErrorKind::Unsupported.into()),
        };
        let (socket, bound) = bound.map_err(|source| BindError {
            name: name.to_owned(),
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            name: name.to_owned(),
            configured: address.clone(),
            address: bound,
            socket,
            is_kept: AtomicBool::new(is_kept),
        })
    }

    /// Where it is configured to listen.
    pub fn configured(&self) -> &Address {
        &self.configured
    }

    /// Whether somebody else goes on listening on it when this process does not.
    pub fn is_kept(&self) -> bool {
        self.is_kept.load(Relaxed)
    }

    /// Somebody else goes on listening on it from now on.
    pub fn keep(&self) {
        self.is_kept.store(true, Relaxed);
    }

    /// Nobody else listens on it any more.
    pub fn own(&self) {
        self.is_kept.store(false, Relaxed);
    }

    /// Lets nobody in any more, while who was let in can still be accepted; so that closing the
    /// socket, which resets what waits in its queue, finds nothing there. What others listen on stays
    /// as it is.
    pub fn close_door(&self) {
        if self.is_kept.swap(true, Relaxed) {
            return;
        }
        let closed = match (&self.socket, &self.address) {
            (Listening::Tcp(socket), _) => SockRef::from(socket).attach_filter(&NO_SYN),
            (Listening::Unix(_), Address::Unix(path)) => std::fs::remove_file(path),
            (Listening::Unix(_), _) => Ok(()),
        };
        if let Err(error) = closed {
            tracing::debug!(listener = self.name, %error, "who connects now may be reset");
        }
    }

    /// The listener's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same socket, registered with this thread's runtime.
    #[expect(
        deprecated,
        reason = "unsound for what may close or change its descriptor: what is owned here does not"
    )]
    pub fn register(&self) -> io::Result<Listener> {
        let socket = self.as_fd().try_clone_to_owned()?;
        AsyncFd::with_interest(socket, Interest::READABLE).map(Listener)
    }
}

impl AsFd for SharedListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Listening::Tcp(socket) => socket.as_fd(),
            Listening::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Drop for SharedListener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address
            && !*self.is_kept.get_mut()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(path = %path.display(), %error, "a socket file stays behind");
        }
    }
}

/// A socket that somebody else bound for a listener on `configured`.
fn adopt(socket: OwnedFd, configured: &Address) -> io::Result<(Listening, Address)> {
    let socket = Socket::from(socket);
    if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
        let error = "the socket that was passed on is no listening stream socket";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
    }
    socket.set_nonblocking(true)?;
    match configured {
        Address::Unix(_) if socket.domain()? == Domain::UNIX => {
            Ok((Listening::Unix(socket.into()), configured.clone()))
        }
        Address::Tcp { .. } if socket.domain()? != Domain::UNIX => {
            socket.set_tcp_nodelay(true)?;
            let socket = TcpListener::from(socket);
            let bound = socket.local_addr()?;
            let address = Address::Tcp {
                host: bound.ip().to_string(),
                port: bound.port(),
            };
            Ok((Listening::Tcp(socket), address))
        }
        _ => {
            let error = "the socket that was passed on is of another kind";
            Err(io::Error::new(io::ErrorKind::InvalidInput, error))
        }
    }
}

fn bind_tcp(host: &str, port: u16) -> io::Result<(Listening, Address)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match listen_tcp(address) {
            Ok(socket) => {
                let port = socket.local_addr()?.port();
                let address = Address::Tcp {
                    host: host.to_owned(),
                    port,
                };
                return Ok((Listening::Tcp(socket), address));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Lets a restarted process bind while old connections linger; it does not share the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // A proxy writes whole messages: waiting for an acknowledgement only delays their tails. What
    // is accepted inherits it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // Only a refused connection proves that the file is a left-over.
            match UnixStream::connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)?
                }
                _ => return Err(error),
            }
        }
        bound => bound?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

// === impl Listener ===

impl Listener {
    /// The next connection. Cancel-safe.
    ///
    /// By the system's own call: the runtime's would register each connection at once.
    pub async fn accept(&self) -> io::Result<Stream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accept = |listener: &OwnedFd| Ok(acceptfrom_with(listener, flags)?);
        let (socket, peer) = self.0.async_io(Interest::READABLE, accept).await?;
        let peer = peer.and_then(|it| SocketAddr::try_from(it).ok());
        let peer = peer.map(|it| SocketAddr::new(it.ip().to_canonical(), it.port()));
        Ok(Stream::accepted(socket, peer))
    }
}
