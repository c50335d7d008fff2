//! The connections that one data thread keeps to one node.
//!
//! HTTP/1.1 connections carry one exchange at a time and are taken from the idle list, the most
//! recently used first, so that a quiet period shrinks the list to what is needed. HTTP/2 needs
//! one connection a thread. Nothing here is locked; what is shared between threads is touched when
//! a connection is made or the idle list outgrows what it was before, not by every request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::PoolParams;
use super::connect::{ConnectError, Opening, connect};
use super::endpoint::{Bound, ConnectionCounters, Endpoint, Slot, SlotKind};
use super::http2::{self, Shared, Unopened};
use crate::net::{Outbox, Stream, Wire, clock};
use crate::proxy_protocol::{Ends, Version};
use crate::telemetry::{Striped, ThreadIndex};
use crate::tls::{ClientTls, Offer};

/// One thread's connections to one node.
#[derive(Debug)]
pub struct Pool(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Arc<Endpoint>,
    counters: Arc<Striped<ConnectionCounters>>,
    thread: ThreadIndex,
    settings: RefCell<Settings>,
    /// Whether the node, asked last, chose HTTP/1.1 of both: then no connection is waited for that
    /// many could share.
    chose_http1: Cell<bool>,
    /// Whether connections may still be kept; not once the node has left.
    keeps: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    /// The places for idle connections that this thread has taken of the node's.
    places: RefCell<Vec<Slot>>,
    /// The HTTP/2 connection. Held while the connection is made, so that waiting requests share it.
    http2: Mutex<Option<Kept>>,
}

/// The HTTP/2 connection of a pool.
#[derive(Debug)]
struct Kept {
    shared: Shared,
    /// The client that it was introduced as.
    ends: Option<Ends>,
    bound: Bound,
}

/// How a pool's connections are made and kept.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Their bounds.
    pub params: PoolParams,
    /// How long one may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// The TLS that they are under, if any.
    pub tls: Option<Arc<ClientTls>>,
    /// Whether nodes are told whose a connection is. Each is then for one client's connection alone.
    pub proxy_protocol: Option<Version>,
}

/// What is to be spoken to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speak {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the node chooses under TLS; in clear HTTP/1.1.
    Either,
}

/// A connection, or a share of one, for one exchange.
#[derive(Debug)]
pub enum Lease {
    /// It speaks HTTP/1.1.
    Http1(Http1Lease),
    /// It speaks HTTP/2.
    Http2(Http2Lease),
}

/// A connection that speaks HTTP/1.1; boxed once, for it is handed on many times a request.
#[derive(Debug)]
pub struct Http1Connection {
    /// Where it is read.
    pub wire: Wire,
    /// What is about to be written to it.
    pub outbox: Outbox,
    /// The client that it was introduced as.
    ends: Option<Ends>,
    bound: Bound,
    _open: Open,
}

/// A new connection.
#[derive(Debug)]
enum Fresh {
    Http1(Http1Lease),
    Http2(Kept),
}

/// A connection that waits for its next exchange.
#[derive(Debug)]
struct Idle {
    connection: Box<Http1Connection>,
    since: Instant,
}

/// An HTTP/1.1 connection for one exchange. Dropped before [`keep`](Self::keep) it is closed.
#[derive(Debug)]
pub struct Http1Lease {
    /// The connection, of which nothing was read yet.
    pub connection: Box<Http1Connection>,
    pool: Rc<Inner>,
    pooled: bool,
}

/// How a connection that comes from the idle list is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As far as the thread was told of it: what may be sent again needs no more.
    Glance,
    /// By asking the system, because a request that a closed connection swallows is lost.
    Ask,
}

/// A stream of an HTTP/2 connection, for one exchange.
#[derive(Debug)]
pub struct Http2Lease {
    /// The stream.
    pub stream: Unopened,
    /// Whether the connection was there before this request.
    pub pooled: bool,
}

/// Counts a connection while it is open.
#[derive(Debug)]
struct Open {
    counters: Arc<Striped<ConnectionCounters>>,
    thread: ThreadIndex,
    _slot: Slot,
}

// === impl Pool ===

impl Pool {
    /// An empty pool of connections from `thread` to `endpoint`.
    pub fn new(
        endpoint: Arc<Endpoint>,
        counters: Arc<Striped<ConnectionCounters>>,
        thread: ThreadIndex,
        settings: Settings,
    ) -> Self {
        Self(Rc::new(Inner {
            endpoint,
            counters,
            thread,
            settings: RefCell::new(settings),
            chose_http1: Cell::new(false),
            keeps: Cell::new(true),
            idle: RefCell::default(),
            places: RefCell::default(),
            http2: Mutex::default(),
        }))
    }

    /// The same pool under other settings; `None` when its connections began otherwise than these
    /// say.
    #[must_use]
    pub fn reconfigured(&self, settings: &Settings) -> Option<Self> {
        let begins = |it: &Settings| (it.tls.clone(), it.proxy_protocol);
        if begins(&self.0.settings.borrow()) != begins(settings) {
            return None;
        }
        self.0.settings.replace(settings.clone());
        Some(Self(Rc::clone(&self.0)))
    }

    /// The endpoint that the connections go to.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0.endpoint
    }

    /// What is there of the connections that may be spoken on: an idle one that speaks HTTP/1.1, of
    /// the client at `ends`, that the node has not closed, or a share of the one that speaks HTTP/2.
    pub fn ready(&self, speak: Speak, look: Look, ends: Option<Ends>) -> Option<Lease> {
        let idle = match speak {
            Speak::Http1 | Speak::Either => self.idle(look, ends).map(Lease::Http1),
            Speak::Http2 => None,
        };
        idle.or_else(|| {
            self.shared_offer(speak)?;
            let mut kept = self.0.http2.try_lock().ok()?;
            kept.as_mut()?.share(&self.0.endpoint, ends)
        })
    }

    fn idle(&self, look: Look, ends: Option<Ends>) -> Option<Http1Lease> {
        let timeout = self.0.settings.borrow().params.idle_timeout;
        loop {
            let mut all = self.0.idle.borrow_mut();
            let at = all.iter().rposition(|it| it.connection.ends == ends)?;
            let idle = all.remove(at);
            drop(all);
            if idle.is_usable(&self.0.endpoint, timeout, look) {
                return Some(self.lease(idle.connection, true));
            }
        }
    }

    /// A new HTTP/1.1 connection, whatever is idle, or a share of the HTTP/2 connection, which is
    /// made when there is none.
    ///
    /// # Errors
    /// When a connection is needed and cannot be made.
    pub async fn connected(&self, speak: Speak, ends: Option<Ends>) -> Result<Lease, ConnectError> {
        if let Some(offer) = self.shared_offer(speak) {
            return self.shared(offer, ends).await;
        }
        let offer = match speak {
            Speak::Either if self.0.settings.borrow().tls.is_some() => Offer::Either,
            Speak::Either | Speak::Http1 | Speak::Http2 => Offer::Http1,
        };
        Ok(self.fresh(offer, ends).await?.into_lease())
    }

    /// What the node is offered where a connection that speaks HTTP/2 would do; `None` where it would
    /// not, or there would be none.
    fn shared_offer(&self, speak: Speak) -> Option<Offer> {
        match speak {
            Speak::Http2 => Some(Offer::Http2),
            Speak::Http1 => None,
            Speak::Either => {
                let may_choose = self.0.settings.borrow().tls.is_some();
                (may_choose && !self.0.chose_http1.get()).then_some(Offer::Either)
            }
        }
    }

    /// A new connection.
    async fn fresh(&self, offer: Offer, ends: Option<Ends>) -> Result<Fresh, ConnectError> {
        let (stream, bound, open) = self.connect(offer, ends).await?;
        let chose_http2 = stream.agreed().is_some_and(|it| it.http2);
        if chose_http2 || offer == Offer::Http2 {
            self.0.chose_http1.set(false);
            let opened = http2::open(stream, open).await;
            let shared = opened.map_err(|source| ConnectError::Handshake {
                address: self.0.endpoint.address().clone(),
                source,
            })?;
            return Ok(Fresh::Http2(Kept {
                shared,
                ends,
                bound,
            }));
        }
        self.0.chose_http1.set(offer == Offer::Either);
        let connection = Http1Connection {
            wire: Wire::new(stream),
            outbox: Outbox::default(),
            ends,
            bound,
            _open: open,
        };
        Ok(Fresh::Http1(self.lease(Box::new(connection), false)))
    }

    /// A share of the HTTP/2 connection; or one of HTTP/1.1, if the node may choose that and does.
    async fn shared(&self, offer: Offer, ends: Option<Ends>) -> Result<Lease, ConnectError> {
        let limit = self.0.settings.borrow().connect_timeout;
        // Who waits for another's connection waits no longer than for an own one.
        let Ok(mut kept) = timeout(limit, self.0.http2.lock()).await else {
            let address = self.0.endpoint.address().clone();
            return Err(ConnectError::TimedOut { address, limit });
        };
        let share = |it: &mut Kept| it.share(&self.0.endpoint, ends);
        if let Some(lease) = kept.as_mut().and_then(share) {
            return Ok(lease);
        }
        if offer == Offer::Either && self.0.chose_http1.get() {
            // It chose so while this one waited.
            drop(kept);
            return Ok(self.fresh(offer, ends).await?.into_lease());
        }
        match self.fresh(offer, ends).await? {
            Fresh::Http2(fresh) if self.0.keeps.get() => {
                Ok(Lease::Http2(kept.insert(fresh).lease(false)))
            }
            fresh => Ok(fresh.into_lease()),
        }
    }

    /// Closes what is idle for too long, was closed by the node, or goes where the node no longer is;
    /// and of more than may be kept those that are idle for longest.
    pub fn sweep(&self) {
        let timeout = self.0.settings.borrow().params.idle_timeout;
        let mut idle = self.0.idle.borrow_mut();
        idle.retain(|it| it.is_usable(&self.0.endpoint, timeout, Look::Glance));
        let surplus = idle.len().saturating_sub(self.0.places(idle.len()));
        idle.drain(..surplus);
        self.0.places.borrow_mut().truncate(idle.len());
        if let Ok(mut kept) = self.0.http2.try_lock() {
            // Its streams come to their end.
            kept.take_if(|it| !it.is_usable(&self.0.endpoint, it.ends));
        }
    }

    /// Closes what is idle and keeps nothing any more: the node has left.
    pub fn retire(&self) {
        self.0.keeps.set(false);
        self.0.idle.borrow_mut().clear();
        self.0.places.borrow_mut().clear();
        if let Ok(mut kept) = self.0.http2.try_lock() {
            kept.take();
        }
    }

    async fn connect(
        &self,
        offer: Offer,
        ends: Option<Ends>,
    ) -> Result<(Stream, Bound, Open), ConnectError> {
        let inner = &*self.0;
        let counters = inner.counters.of(inner.thread);
        let settings = inner.settings.borrow().clone();
        let max = settings.params.max_connections;
        let Some(slot) = inner.endpoint.slot(SlotKind::Connection, max) else {
            counters.limit.increment();
            let address = inner.endpoint.address().clone();
            return Err(ConnectError::Limit { address, max });
        };
        let opening = Opening {
            tls: settings.tls.as_deref(),
            offer,
            introduces: settings.proxy_protocol.map(|it| (it, ends)),
        };
        let connected = connect(&inner.endpoint, opening, settings.connect_timeout).await;
        match &connected {
            Ok(_) => counters.ok.increment(),
            Err(ConnectError::TimedOut { .. }) => counters.timeout.increment(),
            Err(ConnectError::Tls { .. } | ConnectError::Alpn { .. }) => {
                counters.handshake.increment();
            }
            Err(ConnectError::Exhausted { .. }) => counters.failed.increment(),
            Err(_) => counters.refused.increment(),
        }
        let (stream, bound) = connected?;
        counters.agreed(&stream);
        counters.open.add(1);
        let open = Open {
            counters: Arc::clone(&inner.counters),
            thread: inner.thread,
            _slot: slot,
        };
        Ok((stream, bound, open))
    }

    fn lease(&self, connection: Box<Http1Connection>, pooled: bool) -> Http1Lease {
        Http1Lease {
            connection,
            pool: Rc::clone(&self.0),
            pooled,
        }
    }
}

// === impl Fresh ===

impl Fresh {
    fn into_lease(self) -> Lease {
        match self {
            Self::Http1(lease) => Lease::Http1(lease),
            Self::Http2(kept) => Lease::Http2(kept.lease(false)),
        }
    }
}

// === impl Http1Lease ===

impl Http1Lease {
    /// Whether the connection had served before.
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// Gives the connection back after an exchange that was read and written to its end. One that
    /// has brought more than that is closed.
    pub fn keep(self) {
        let Self {
            mut connection,
            pool,
            ..
        } = self;
        if connection.wire.inbox.bytes().is_empty() {
            connection.wire.inbox.rest();
            pool.keep(connection);
        }
    }
}

// === impl Inner ===

impl Inner {
    fn keep(&self, connection: Box<Http1Connection>) {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.len() + 1;
        if self.keeps.get() && (self.places(kept) >= kept || self.may_exceed()) {
            let since = clock::recent();
            idle.push(Idle { connection, since });
        }
    }

    /// How many places there are for `idle` connections, after those that were missing were asked for.
    fn places(&self, idle: usize) -> usize {
        let mut places = self.places.borrow_mut();
        let max = self.settings.borrow().params.max_idle;
        while places.len() < idle
            && let Some(place) = self.endpoint.slot(SlotKind::Idle, max)
        {
            places.push(place);
        }
        places.len()
    }

    /// Whether one is kept until the next sweep without a place. A node that more requests are at than
    /// there are places would else be connected to by every request above them; but other threads must
    /// find room for theirs.
    fn may_exceed(&self) -> bool {
        let params = self.settings.borrow().params;
        params.max_idle > 0 && self.endpoint.connections() <= params.max_connections / 2
    }
}

// === impl Idle ===

impl Idle {
    fn is_usable(&self, endpoint: &Endpoint, timeout: Duration, look: Look) -> bool {
        self.connection.bound.is_current(endpoint)
            && clock::recent().saturating_duration_since(self.since) < timeout
            && match look {
                Look::Glance => self.connection.wire.stream.is_quiet(),
                Look::Ask => self.connection.wire.stream.is_surely_quiet(),
            }
    }
}

// === impl Kept ===

impl Kept {
    /// Whether it takes streams of the client at `ends`.
    fn is_usable(&mut self, endpoint: &Endpoint, ends: Option<Ends>) -> bool {
        self.ends == ends && !self.shared.is_closed() && self.bound.is_current(endpoint)
    }

    /// A share of it, if it is usable.
    fn share(&mut self, endpoint: &Endpoint, ends: Option<Ends>) -> Option<Lease> {
        let usable = self.is_usable(endpoint, ends);
        usable.then(|| Lease::Http2(self.lease(true)))
    }

    fn lease(&self, pooled: bool) -> Http2Lease {
        Http2Lease {
            stream: self.shared.stream(),
            pooled,
        }
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.of(self.thread).open.add(-1);
    }
}
