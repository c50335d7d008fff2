//! The connections that one data thread keeps to one node.
//!
//! HTTP/1.1 connections carry one exchange at a time and are taken from the idle list, the most
//! recently used first, so that a quiet period shrinks the list to what is needed. HTTP/2 needs
//! one connection a thread. Nothing here is locked or shared between threads.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::connect::{ConnectError, connect};
use super::endpoint::{ConnectionCounters, Endpoint, Slot, SlotKind};
use super::{LocalExecutor, PoolParams};
use crate::net::Stream;
use crate::telemetry::{Striped, ThreadIndex};

/// How long a connection may take to finish an exchange whose response was read to the end.
const SETTLE: Duration = Duration::from_secs(1);

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
    idle: RefCell<Vec<Idle<B>>>,
    /// Held while the connection is made, so that waiting requests share it.
    http2: Mutex<Option<http2::SendRequest<B>>>,
}

#[derive(Debug)]
struct Idle<B> {
    connection: Http1<B>,
    since: Instant,
    _slot: Slot,
}

#[derive(Debug)]
struct Http1<B> {
    sender: http1::SendRequest<B>,
    /// The same socket, to look whether the node closed it.
    stream: Stream,
}

/// An HTTP/1.1 connection for one exchange. Dropped before [`keep`](Self::keep) it is closed.
#[derive(Debug)]
pub struct Http1Lease<B> {
    connection: Http1<B>,
    pool: Rc<Inner<B>>,
    pooled: bool,
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

    /// An HTTP/1.1 connection: an idle one that the node has not closed, else a new one.
    ///
    /// # Errors
    /// When a new one is needed and cannot be made.
    pub async fn http1(&self) -> Result<Http1Lease<B>, ConnectError> {
        while let Some(idle) = self.0.idle.borrow_mut().pop() {
            if idle.is_usable(self.0.params.get().idle_timeout) {
                return Ok(self.lease(idle.connection, true));
            }
        }
        self.fresh_http1().await
    }

    /// A new HTTP/1.1 connection, whatever is idle.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn fresh_http1(&self) -> Result<Http1Lease<B>, ConnectError> {
        let (stream, open) = self.connect().await?;
        let io = TokioIo::new(stream.clone());
        let (sender, connection) = http1::handshake(io)
            .await
            .map_err(|source| self.handshake_error(source))?;
        tokio::task::spawn_local(async move {
            let _open = open;
            // The exchange that the connection carries reports the error to its request.
            let _reported = connection.await;
        });
        Ok(self.lease(Http1 { sender, stream }, false))
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
        self.0.idle.borrow_mut().retain(|it| it.is_usable(timeout));
    }

    /// Closes what is idle and keeps nothing any more: the node has left.
    pub fn retire(&self) {
        self.0.keeps.set(false);
        self.0.idle.borrow_mut().clear();
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

    fn lease(&self, connection: Http1<B>, pooled: bool) -> Http1Lease<B> {
        let pool = Rc::clone(&self.0);
        Http1Lease {
            connection,
            pool,
            pooled,
        }
    }

    fn handshake_error(&self, source: hyper::Error) -> ConnectError {
        let address = self.0.endpoint.address().clone();
        ConnectError::Handshake { address, source }
    }
}

// === impl Http1Lease ===

impl<B: 'static> Http1Lease<B> {
    /// Sends requests on it.
    pub fn sender(&mut self) -> &mut http1::SendRequest<B> {
        &mut self.connection.sender
    }

    /// Breaks the connection when the node takes nothing of a request for `timeout`.
    pub fn set_write_timeout(&self, timeout: Duration) {
        self.connection.stream.set_write_timeout(timeout);
    }

    /// Whether the connection had served before.
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// Gives the connection back after a response that was read to its end.
    ///
    /// The next exchange may only begin when the request was sent to its end too.
    pub fn keep(mut self) {
        if self.connection.sender.is_ready() {
            self.pool.keep(self.connection);
        } else if !self.connection.sender.is_closed() {
            tokio::task::spawn_local(async move {
                let settled = timeout(SETTLE, self.connection.sender.ready()).await;
                if matches!(settled, Ok(Ok(()))) {
                    self.pool.keep(self.connection);
                }
            });
        }
    }
}

// === impl Inner ===

impl<B> Inner<B> {
    fn keep(&self, connection: Http1<B>) {
        let max = self.params.get().max_idle;
        if !self.keeps.get() {
            return;
        }
        if let Some(slot) = self.endpoint.slot(SlotKind::Idle, max) {
            let since = Instant::now();
            self.idle.borrow_mut().push(Idle {
                connection,
                since,
                _slot: slot,
            });
        }
    }
}

// === impl Idle ===

impl<B> Idle<B> {
    fn is_usable(&self, timeout: Duration) -> bool {
        self.connection.sender.is_ready()
            && self.since.elapsed() < timeout
            && self.connection.stream.is_quiet()
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.counters.of(self.thread).open.add(-1);
    }
}
