//! The connections that one data thread keeps to one node.
//!
//! HTTP/1.1 connections carry one exchange at a time and are taken from the idle list, the most
//! recently used first, so that a quiet period shrinks the list to what is needed. HTTP/2 needs
//! one connection a thread. Nothing here is locked; what is shared between threads is touched when
//! a connection is made or the idle list outgrows what it was before, not by every request.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::connect::{ConnectError, connect};
use super::endpoint::{ConnectionCounters, Endpoint, Slot, SlotKind};
use super::{LocalExecutor, PoolParams};
use crate::net::{Outbox, Stream, Wire, clock};
use crate::telemetry::{Striped, ThreadIndex};

/// How often an HTTP/2 connection is pinged, and how long the answer may take: a half-open
/// connection is found within their sum instead of the kernel's 15 minutes of retransmissions.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// The HTTP/2 windows a node may fill before it is read: a stream's and a connection's, in bytes.
const WINDOWS: (u32, u32) = (256 << 10, 1 << 20);

/// One thread's connections to one node.
#[derive(Debug)]
pub struct Pool<B>(Rc<Inner<B>>);

#[derive(Debug)]
struct Inner<B> {
    endpoint: Arc<Endpoint>,
    counters: Arc<Striped<ConnectionCounters>>,
    thread: ThreadIndex,
    params: Cell<PoolParams>,
    connect_timeout: Cell<Duration>,
    /// Whether connections may still be kept; not once the node has left.
    keeps: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    /// The places for idle connections that this thread has taken of the node's.
    places: RefCell<Vec<Slot>>,
    /// Held while the connection is made, so that waiting requests share it.
    http2: Mutex<Option<http2::SendRequest<B>>>,
}

/// A connection that speaks HTTP/1.1; boxed once, for it is handed on many times a request.
#[derive(Debug)]
pub struct Http1Connection {
    /// Where it is read.
    pub wire: Wire,
    /// What is about to be written to it.
    pub outbox: Outbox,
    _open: Open,
}

/// A connection that waits for its next exchange.
#[derive(Debug)]
struct Idle {
    connection: Box<Http1Connection>,
    since: Instant,
}

/// An HTTP/1.1 connection for one exchange. Dropped before [`keep`](Self::keep) it is closed.
#[derive(Debug)]
pub struct Http1Lease<B> {
    /// The connection, of which nothing was read yet.
    pub connection: Box<Http1Connection>,
    pool: Rc<Inner<B>>,
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

/// A share of an HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Lease<B> {
    /// Sends requests on it.
    pub sender: http2::SendRequest<B>,
    /// Whether it was there before this request.
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

impl<B> Pool<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// An empty pool of connections from `thread` to `endpoint`.
    pub fn new(
        endpoint: Arc<Endpoint>,
        counters: Arc<Striped<ConnectionCounters>>,
        thread: ThreadIndex,
        params: PoolParams,
        connect_timeout: Duration,
    ) -> Self {
        Self(Rc::new(Inner {
            endpoint,
            counters,
            thread,
            params: Cell::new(params),
            connect_timeout: Cell::new(connect_timeout),
            keeps: Cell::new(true),
            idle: RefCell::default(),
            places: RefCell::default(),
            http2: Mutex::default(),
        }))
    }

    /// The same pool under other bounds.
    #[must_use]
    pub fn reconfigured(&self, params: PoolParams, connect_timeout: Duration) -> Self {
        self.0.params.set(params);
        self.0.connect_timeout.set(connect_timeout);
        Self(Rc::clone(&self.0))
    }

    /// The endpoint that the connections go to.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0.endpoint
    }

    /// An idle HTTP/1.1 connection that the node has not closed.
    pub fn idle_http1(&self, look: Look) -> Option<Http1Lease<B>> {
        let timeout = self.0.params.get().idle_timeout;
        loop {
            let idle = self.0.idle.borrow_mut().pop()?;
            if idle.is_usable(timeout, look) {
                return Some(self.lease(idle.connection, true));
            }
        }
    }

    /// A new HTTP/1.1 connection, whatever is idle.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn fresh_http1(&self) -> Result<Http1Lease<B>, ConnectError> {
        let (stream, open) = self.connect().await?;
        let connection = Http1Connection {
            wire: Wire::new(stream),
            outbox: Outbox::default(),
            _open: open,
        };
        Ok(self.lease(Box::new(connection), false))
    }

    /// A share of the HTTP/2 connection, which is made when there is none.
    ///
    /// # Errors
    /// When it is needed and cannot be made.
    pub async fn http2(&self) -> Result<Http2Lease<B>, ConnectError> {
        let limit = self.0.connect_timeout.get();
        // Who waits for another's connection waits no longer than for an own one.
        let Ok(mut kept) = timeout(limit, self.0.http2.lock()).await else {
            let address = self.0.endpoint.address().clone();
            return Err(ConnectError::TimedOut { address, limit });
        };
        if let Some(sender) = kept.as_ref().filter(|it| !it.is_closed()) {
            let sender = sender.clone();
            return Ok(Http2Lease {
                sender,
                pooled: true,
            });
        }
        let sender = self.connect_http2().await?;
        if self.0.keeps.get() {
            *kept = Some(sender.clone());
        }
        Ok(Http2Lease {
            sender,
            pooled: false,
        })
    }

    /// Closes what is idle for too long or was closed by the node.
    pub fn sweep(&self) {
        let timeout = self.0.params.get().idle_timeout;
        let mut idle = self.0.idle.borrow_mut();
        idle.retain(|it| it.is_usable(timeout, Look::Glance));
        self.0.places.borrow_mut().truncate(idle.len());
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

    async fn connect_http2(&self) -> Result<http2::SendRequest<B>, ConnectError> {
        let (stream, open) = self.connect().await?;
        let (stream_window, connection_window) = WINDOWS;
        let (sender, connection) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.handshake_error(source))?;
        tokio::task::spawn_local(async move {
            let _open = open;
            // The exchanges that the connection carries report the error to their requests.
            let _reported = connection.await;
        });
        Ok(sender)
    }

    async fn connect(&self) -> Result<(Stream, Open), ConnectError> {
        let inner = &*self.0;
        let counters = inner.counters.of(inner.thread);
        let max = inner.params.get().max_connections;
        let Some(slot) = inner.endpoint.slot(SlotKind::Connection, max) else {
            counters.limit.increment();
            let address = inner.endpoint.address().clone();
            return Err(ConnectError::Limit { address, max });
        };
        let connected = connect(&inner.endpoint, inner.connect_timeout.get()).await;
        match &connected {
            Ok(_) => counters.ok.increment(),
            Err(ConnectError::TimedOut { .. }) => counters.timeout.increment(),
            Err(_) => counters.refused.increment(),
        }
        let stream = connected?;
        counters.open.add(1);
        let open = Open {
            counters: Arc::clone(&inner.counters),
            thread: inner.thread,
            _slot: slot,
        };
        Ok((stream, open))
    }

    fn lease(&self, connection: Box<Http1Connection>, pooled: bool) -> Http1Lease<B> {
        Http1Lease {
            connection,
            pool: Rc::clone(&self.0),
            pooled,
        }
    }

    fn handshake_error(&self, source: hyper::Error) -> ConnectError {
        let address = self.0.endpoint.address().clone();
        ConnectError::Handshake { address, source }
    }
}

// === impl Http1Lease ===

impl<B> Http1Lease<B> {
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

impl<B> Inner<B> {
    fn keep(&self, connection: Box<Http1Connection>) {
        let mut idle = self.idle.borrow_mut();
        if self.keeps.get() && self.has_place(idle.len()) {
            let since = clock::recent();
            idle.push(Idle { connection, since });
        }
    }

    /// Whether one more connection may be kept beside `idle` others.
    fn has_place(&self, idle: usize) -> bool {
        let mut places = self.places.borrow_mut();
        if idle >= places.len() {
            let max = self.params.get().max_idle;
            places.extend(self.endpoint.slot(SlotKind::Idle, max));
        }
        idle < places.len()
    }
}

// === impl Idle ===

impl Idle {
    fn is_usable(&self, timeout: Duration, look: Look) -> bool {
        clock::recent().saturating_duration_since(self.since) < timeout
            && match look {
                Look::Glance => self.connection.wire.stream.is_quiet(),
                Look::Ask => self.connection.wire.stream.is_surely_quiet(),
            }
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.of(self.thread).open.add(-1);
    }
}
