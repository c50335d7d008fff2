//! Where a node is, and what all threads must agree on about the connections to it.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;

use crate::names::Name;
use crate::net::Stream;
use crate::telemetry::{Counter, Gauge};
use crate::topology::Address;

/// One node's address, resolved, and its connections over all threads.
#[derive(Debug)]
pub struct Endpoint {
    address: Address,
    /// What to look up, unless the address says it all.
    name: Option<Name>,
    resolved: ArcSwap<Resolved>,
    /// Whether there is where to connect to: every pick asks, and reading `resolved` takes two locked
    /// instructions.
    is_resolved: AtomicBool,
    /// When the last answer came, on the process's clock.
    resolved_at_ms: AtomicU64,
    /// How often addresses left it.
    departures: AtomicU32,
    connections: AtomicU32,
    idle: AtomicU32,
}

/// Where connections are made to.
#[derive(Debug, Default)]
pub struct Resolved {
    /// In the order of preference.
    addresses: Vec<SocketAddr>,
    /// The place of the one that accepted last: it is tried first, so that a dead one before it
    /// costs no second connection anything.
    favourite: AtomicUsize,
}

/// Where a connection goes, and how far it is known that this is still the node.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    address: Option<SocketAddr>,
    departures: Cell<u32>,
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
    /// Connections on which what comes before HTTP failed.
    pub handshake: Counter,
    /// Attempts that failed because this process, or its system, has no more to give.
    pub failed: Counter,
    /// Clients' connections that outlived the drain, and were ended.
    pub cut: Counter,
    /// TLS handshakes that began a session,
    pub full: Counter,
    /// and those that resumed one.
    pub resumed: Counter,
}

impl ConnectionCounters {
    /// Counts how the two ends of `stream` came to agree, when they had to.
    pub fn agreed(&self, stream: &Stream) {
        match stream.agreed() {
            Some(agreed) if agreed.resumed => self.resumed.increment(),
            Some(_) => self.full.increment(),
            None => {}
        }
    }
}

impl Endpoint {
    /// The endpoint at `address`; resolved from the start when that is an IP address.
    pub fn new(address: Address) -> Self {
        let (mut name, mut addresses) = (None, Vec::new());
        match &address {
            Address::Tcp { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => addresses.push(SocketAddr::new(ip, *port)),
                Err(_) => name = Some(Name::Host(host.to_ascii_lowercase())),
            },
            Address::Srv(it) => name = Some(Name::Service(it.as_str().to_ascii_lowercase())),
            Address::Unix(_) => {}
        }
        let resolved = Resolved {
            addresses,
            favourite: AtomicUsize::new(0),
        };
        let is_resolved = name.is_none();
        Self {
            address,
            name,
            resolved: ArcSwap::from_pointee(resolved),
            is_resolved: AtomicBool::new(is_resolved),
            resolved_at_ms: AtomicU64::new(0),
            departures: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            idle: AtomicU32::new(0),
        }
    }

    /// The address as written.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The name to look up; `None` when the address says it all.
    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// The port, where the address has one.
    pub fn port(&self) -> Option<u16> {
        match &self.address {
            Address::Tcp { port, .. } => Some(*port),
            Address::Srv(_) | Address::Unix(_) => None,
        }
    }

    /// The name that a certificate of the node is for; `None` on a Unix socket. Of a service it is the
    /// domain as written: where its records point is the name server's word, and who could forge
    /// that would choose what is verified (RFC 9525 section 6.1).
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        let host = match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Srv(name) => name.domain(),
            Address::Unix(_) => return None,
        };
        // A last dot is no part of a certificate's names.
        let host = host.strip_suffix('.').unwrap_or(host);
        ServerName::try_from(host.to_owned()).ok()
    }

    /// The same node at another port, as it is resolved now; a Unix socket has none.
    pub(super) fn at_port(&self, port: u16) -> Self {
        let address = match &self.address {
            Address::Tcp { host, .. } => Address::Tcp {
                host: host.clone(),
                port,
            },
            address @ (Address::Srv(_) | Address::Unix(_)) => address.clone(),
        };
        let resolved = self.resolved.load();
        let elsewhere = resolved.order().map(|at| {
            let ip = resolved.addresses[at].ip();
            SocketAddr::new(ip, port)
        });
        let at_port = Self::new(address);
        at_port.resolve(elsewhere.collect(), self.resolved_at_ms());
        at_port
    }

    /// Takes what the name resolved to at `now`, in milliseconds on the process's clock, in the order
    /// of preference; whether it is all somewhere else than before. An empty answer changes nothing:
    /// the last good one stays.
    pub fn resolve(&self, addresses: Vec<SocketAddr>, now: u64) -> bool {
        if addresses.is_empty() {
            return false;
        }
        self.resolved_at_ms.store(now, Relaxed);
        let last = self.resolved.load();
        if last.addresses == addresses {
            return false;
        }
        let has_left = |it: &SocketAddr| !addresses.contains(it);
        let leave = last.addresses.iter().any(has_left);
        let is_old = |it: &SocketAddr| last.addresses.contains(it);
        let moved = !last.addresses.is_empty() && !addresses.iter().any(is_old);
        let favourite = last.favourite();
        let kept = addresses.iter().position(|it| Some(it) == favourite);
        self.resolved.store(Arc::new(Resolved {
            addresses,
            favourite: AtomicUsize::new(kept.unwrap_or(0)),
        }));
        self.is_resolved.store(true, Relaxed);
        if leave {
            self.departures.fetch_add(1, Relaxed);
        }
        moved
    }

    /// When the last answer came, as [`resolve`](Self::resolve) was told.
    pub fn resolved_at_ms(&self) -> u64 {
        self.resolved_at_ms.load(Relaxed)
    }

    /// Whether it is known where to connect to.
    pub fn is_resolved(&self) -> bool {
        self.is_resolved.load(Relaxed)
    }

    /// Where to connect to.
    pub fn resolved(&self) -> Arc<Resolved> {
        self.resolved.load_full()
    }

    /// Where a connection goes that is about to be made.
    pub(super) fn bound(&self) -> Bound {
        Bound {
            address: None,
            departures: Cell::new(self.departures.load(Relaxed)),
        }
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

impl Bound {
    /// The same with the address that accepted; none on a Unix socket.
    pub(super) fn to(self, address: Option<SocketAddr>) -> Self {
        Self { address, ..self }
    }

    /// Whether its address is still one of the `endpoint`'s. Costs a look at one word while none left.
    pub(super) fn is_current(&self, endpoint: &Endpoint) -> bool {
        let departures = endpoint.departures.load(Relaxed);
        if departures == self.departures.get() {
            return true;
        }
        let resolved = endpoint.resolved.load();
        let stays = self
            .address
            .is_some_and(|it| resolved.addresses.contains(&it));
        if stays {
            self.departures.set(departures);
        }
        stays
    }
}

impl Resolved {
    /// The addresses in the order of preference.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The places of the addresses in the order that they are tried.
    pub(super) fn order(&self) -> impl ExactSizeIterator<Item = usize> {
        let first = self.favourite.load(Relaxed);
        let place = move |at| match at {
            0 => first,
            at if at <= first => at - 1,
            at => at,
        };
        (0..self.addresses.len()).map(place)
    }

    /// Takes note that the address at that place accepted a connection.
    pub(super) fn accepted(&self, at: usize) {
        if self.favourite.load(Relaxed) != at {
            self.favourite.store(at, Relaxed);
        }
    }

    fn favourite(&self) -> Option<&SocketAddr> {
        self.addresses.get(self.favourite.load(Relaxed))
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
        assert_eq!(named.name(), Some(&Name::Host("node.test".to_owned())));
        assert!(!named.is_resolved());
        named.resolve(vec!["127.0.0.1:80".parse().unwrap()], 7);
        named.resolve(Vec::new(), 9);
        assert!(named.is_resolved());
        assert_eq!(named.resolved_at_ms(), 7);
    }

    #[test]
    fn the_address_that_accepted_last_comes_first_and_outlives_a_new_answer() {
        let addresses = |last: &[u8]| -> Vec<SocketAddr> {
            let address = |last: &u8| SocketAddr::from(([127, 0, 0, *last], 80));
            last.iter().map(address).collect()
        };
        let tried = |endpoint: &Endpoint| -> Vec<_> {
            let resolved = endpoint.resolved();
            let address = |at: usize| resolved.addresses()[at];
            resolved.order().map(address).collect()
        };
        let named = endpoint("node.test:80");
        assert!(!named.resolve(addresses(&[1, 2, 3]), 0));
        assert_eq!(tried(&named), addresses(&[1, 2, 3]));
        named.resolved().accepted(2);
        assert_eq!(tried(&named), addresses(&[3, 1, 2]));
        assert!(!named.resolve(addresses(&[3, 4, 5]), 0));
        assert!(!named.resolve(addresses(&[4, 3]), 0));
        assert_eq!(tried(&named), addresses(&[3, 4]));
        assert!(named.resolve(addresses(&[5, 6]), 0));
        assert_eq!(tried(&named), addresses(&[5, 6]));
    }

    #[test]
    fn a_connection_is_current_while_its_address_stays() {
        let addresses = |last: &[u8]| -> Vec<SocketAddr> {
            let address = |last: &u8| SocketAddr::from(([127, 0, 0, *last], 80));
            last.iter().map(address).collect()
        };
        let named = endpoint("node.test:80");
        named.resolve(addresses(&[1, 2]), 0);
        let [one, two] = [1, 2].map(|it| named.bound().to(addresses(&[it]).pop()));
        named.resolve(addresses(&[2, 3]), 0);
        assert!(!one.is_current(&named) && two.is_current(&named));
        named.resolve(addresses(&[1, 2, 3]), 0);
        assert!(one.is_current(&named) && two.is_current(&named));
        let unix = endpoint("unix:/run/a");
        assert!(unix.bound().to(None).is_current(&unix));
    }

    #[test]
    fn a_certificate_is_for_the_name_as_written() {
        let name = |address| endpoint(address).server_name();
        let expected = |name: &'static str| Some(ServerName::try_from(name).unwrap());
        assert_eq!(name("node.test:80"), expected("node.test"));
        assert_eq!(name("node.test.:80"), expected("node.test"));
        assert_eq!(name("[::1]:80"), expected("::1"));
        assert_eq!(name("srv:_http._tcp.users.test"), expected("users.test"));
        assert_eq!(name("unix:/run/a"), None);
    }

    #[test]
    fn another_port_is_of_the_same_node() {
        let named = endpoint("node.test:80");
        named.resolve(vec!["[fd00::1]:80".parse().unwrap()], 0);
        let elsewhere = named.at_port(81);
        assert_eq!(elsewhere.address().to_string(), "node.test:81");
        let resolved = elsewhere.resolved();
        assert_eq!(resolved.addresses(), ["[fd00::1]:81".parse().unwrap()]);
        let unix = endpoint("unix:/run/a").at_port(81);
        assert_eq!(unix.address().to_string(), "unix:/run/a");
    }

    #[test]
    fn literals_need_no_resolution() {
        for address in ["127.0.0.1:80", "[::1]:80", "unix:/run/a"] {
            assert!(endpoint(address).is_resolved(), "{address}");
            assert!(endpoint(address).name().is_none(), "{address}");
        }
    }
}
