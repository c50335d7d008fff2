//! Where a node is, and what all threads must agree on about the connections to it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::telemetry::{Counter, Gauge};
use crate::topology::Address;

/// One node's address, resolved, and its connections over all threads.
#[derive(Debug)]
pub struct Endpoint {
    address: Address,
    resolved: ArcSwap<Vec<SocketAddr>>,
    connections: AtomicU32,
    idle: AtomicU32,
}

/// Whether one more connection, or idle connection, fits.
#[derive(Debug)]
pub(super) struct Slot {
    endpoint: Arc<Endpoint>,
    kind: SlotKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum SlotKind {
    Connection,
    Idle,
}

/// What became of one thread's connections to a cluster's nodes, or from clients.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    /// Connections open now.
    pub open: Gauge,
    /// Connections made.
    pub ok: Counter,
    /// Attempts that were refused or failed at once.
    pub refused: Counter,
    /// Attempts that took too long.
    pub timeout: Counter,
    /// Attempts that were not made because the bound was reached.
    pub limit: Counter,
}

impl Endpoint {
    /// The endpoint at `address`; resolved from the start when that is an IP address.
    pub fn new(address: Address) -> Self {
        let literal = match &address {
            Address::Tcp { host, port } => host
                .parse::<IpAddr>()
                .map(|ip| vec![SocketAddr::new(ip, *port)])
                .unwrap_or_default(),
            Address::Unix(_) => Vec::new(),
        };
        Self {
            address,
            resolved: ArcSwap::from_pointee(literal),
            connections: AtomicU32::new(0),
            idle: AtomicU32::new(0),
        }
    }

    /// The address as written.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The host and port to resolve; `None` when the address says it all.
    pub fn name_to_resolve(&self) -> Option<(&str, u16)> {
        match &self.address {
            Address::Tcp { host, port } if host.parse::<IpAddr>().is_err() => Some((host, *port)),
            Address::Tcp { .. } | Address::Unix(_) => None,
        }
    }

    /// Takes what the name resolved to. An empty answer changes nothing: the last good one stays.
    pub fn resolve(&self, addresses: Vec<SocketAddr>) {
        if !addresses.is_empty() && **self.resolved.load() != addresses {
            self.resolved.store(Arc::new(addresses));
        }
    }

    /// Whether it is known where to connect to.
    pub fn is_resolved(&self) -> bool {
        matches!(self.address, Address::Unix(_)) || !self.resolved.load().is_empty()
    }

    /// The socket addresses to try, in order.
    pub(super) fn socket_addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.resolved.load_full()
    }

    /// Connections over all threads.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    /// A place for one more `kind`, while there are fewer than `max`.
    pub(super) fn slot(self: &Arc<Self>, kind: SlotKind, max: u32) -> Option<Slot> {
        let taken = self.count(kind).fetch_add(1, Relaxed);
        // Made before the check, so that a refused place is given back by the same drop.
        let slot = Slot {
            endpoint: Arc::clone(self),
            kind,
        };
        (taken < max).then_some(slot)
    }

    fn count(&self, kind: SlotKind) -> &AtomicU32 {
        match kind {
            SlotKind::Connection => &self.connections,
            SlotKind::Idle => &self.idle,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.endpoint.count(self.kind).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Arc<Endpoint> {
        Arc::new(Endpoint::new(address.parse().unwrap()))
    }

    #[test]
    fn slots_are_bounded_and_given_back() {
        let endpoint = endpoint("127.0.0.1:1");
        let held = endpoint.slot(SlotKind::Connection, 1);
        assert!(held.is_some());
        assert!(endpoint.slot(SlotKind::Connection, 1).is_none());
        assert_eq!(endpoint.connections(), 1);
        drop(held);
        assert!(endpoint.slot(SlotKind::Connection, 1).is_some());
    }

    #[test]
    fn a_failed_resolution_keeps_the_last_good_one() {
        let named = endpoint("node.test:80");
        assert_eq!(named.name_to_resolve(), Some(("node.test", 80)));
        assert!(!named.is_resolved());
        named.resolve(vec!["127.0.0.1:80".parse().unwrap()]);
        named.resolve(Vec::new());
        assert!(named.is_resolved());
    }

    #[test]
    fn literals_need_no_resolution() {
        for address in ["127.0.0.1:80", "[::1]:80", "unix:/run/a"] {
            assert!(endpoint(address).is_resolved(), "{address}");
            assert!(endpoint(address).name_to_resolve().is_none(), "{address}");
        }
    }
}
