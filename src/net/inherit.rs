//! Listening sockets that this process did not bind itself: systemd's, or those of the process that it
//! takes over from.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use crate::topology::Address;

/// A listening socket of whichever kind.
#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Listening sockets by the names of the listeners that they are for.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<InheritedSocket>,
    taken: Vec<String>,
    /// Those of them that are this process's alone.
    owned: Vec<String>,
}

/// One of them.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The listener that it is for.
    pub name: String,
    /// What that is configured to listen on, where whoever passed it on knew.
    pub address: Option<String>,
    /// The socket.
    pub socket: OwnedFd,
    /// Whether somebody who is not succeeded by this process goes on listening on it.
    pub is_kept: bool,
}

impl Inherited {
    /// Adds a socket.
    pub fn push(&mut self, socket: InheritedSocket) {
        self.sockets.push(socket);
    }

    /// The name of a socket that no listener took, although whoever passed it on meant one.
    pub fn unknown(&self) -> Option<&str> {
        let meant = self.sockets.iter().find(|it| it.address.is_none());
        meant.map(|it| it.name.as_str())
    }

    /// Whether the socket taken for the listener `name` is nobody else's once it is served here.
    pub fn is_owned(&self, name: &str) -> bool {
        self.owned.iter().any(|it| it == name)
    }

    /// The names of the sockets that were taken.
    pub fn taken(&self) -> &[String] {
        &self.taken
    }

    /// The socket for the listener `name` that is to listen on `address`.
    pub(super) fn take(&mut self, name: &str, address: &Address) -> Option<InheritedSocket> {
        let wanted = address.to_string();
        let fits = |it: &InheritedSocket| {
            it.name == name && it.address.as_ref().is_none_or(|it| *it == wanted)
        };
        let found = self.sockets.iter().position(fits)?;
        let socket = self.sockets.remove(found);
        self.taken.push(name.to_owned());
        if !socket.is_kept {
            self.owned.push(name.to_owned());
        }
        Some(socket)
    }
}
