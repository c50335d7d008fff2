//! Where clients come in: a listening socket, and what is let in there.

use std::cell::RefCell;
use std::sync::Arc;

use crate::cluster::State;
use crate::forwarded::Forwarded;
use crate::net::SharedListener;
use crate::sources::Sources;
use crate::tls::ServerTls;

/// A listening socket, and what it lets in.
#[derive(Debug)]
pub struct Entrance {
    /// The socket.
    pub socket: SharedListener,
    /// Whether clients may switch to another protocol there.
    pub upgrades: bool,
    /// The TLS that clients speak there, as it was at the start.
    pub tls: Option<Arc<ServerTls>>,
    /// Who must say by the PROXY protocol whose a connection is.
    pub proxies: Sources,
    /// What becomes of what requests say of where they come from.
    pub forwarded: Forwarded,
}

/// A listener as connections know it.
#[derive(Debug)]
pub(super) struct ListenerInfo {
    pub(super) name: String,
    pub(super) upgrades: bool,
    pub(super) tls: Option<RefCell<Arc<ServerTls>>>,
    pub(super) proxies: Sources,
    pub(super) forwarded: Forwarded,
}

impl ListenerInfo {
    pub(super) fn of(entrance: &Entrance) -> Self {
        Self {
            name: entrance.socket.name().to_owned(),
            upgrades: entrance.upgrades,
            tls: entrance.tls.clone().map(RefCell::new),
            proxies: entrance.proxies.clone(),
            forwarded: entrance.forwarded.clone(),
        }
    }

    /// The scheme of the requests that it lets in.
    pub(super) fn scheme(&self) -> &'static str {
        match self.tls {
            None => "http",
            Some(_) => "https",
        }
    }

    /// Takes up what a reload may change of it.
    pub(super) fn take_up(&self, state: &State) {
        if let Some(tls) = &self.tls
            && let Some(newer) = state.desired.listener_tls.get(&self.name)
        {
            tls.replace(Arc::clone(newer));
        }
    }
}
