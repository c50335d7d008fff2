//! One client's connection: idle most of the time, HTTP/1.1 or HTTP/2, whichever its first bytes
//! speak.
//!
//! An idle connection is this module's small future and a socket, no buffer: what it takes to serve
//! a request is a worker that the thread lends to whichever connection has one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};

use super::entrance::ListenerInfo;
use super::thread::Seat;
use crate::forwarded::Mode;
use crate::head::Fields;
use crate::http1::Decoder;
use crate::limits::Limit;
use crate::net::{Outbox, Stream, Wire};

mod asker;
mod client;
mod greet;
mod http1;
mod http2;
mod parking;
mod worker;

pub(super) use asker::Asker;
pub(super) use http2::STREAM_WINDOW;
pub(super) use parking::Parking;

use parking::Spot;
use worker::{Worker, Workers};

/// A thread's workers, by what they serve.
#[derive(Debug)]
pub(super) struct Staff {
    /// Connections that speak HTTP/1.1, as long as they are busy.
    http1: Workers<Rc<Connection>, Next>,
    /// HTTP/2 streams.
    http2: Workers<http2::Stream, ()>,
}

impl Default for Staff {
    fn default() -> Self {
        Self {
            http1: Workers::new(|| Worker::new(http1::serve)),
            http2: Workers::new(|| Worker::new(http2::respond)),
        }
    }
}

/// How long a client may take nothing of an answer before a route was found, which says how long:
/// the default of `idle_timeout`.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// A client's connection while it is served.
pub(super) struct Connection {
    pub(super) thread: Seat,
    pub(super) stream: Stream,
    /// Its place among the thread's.
    listener: u32,
    spot: Spot,
    /// What was read and is not used yet.
    wire: RefCell<Wire>,
    /// The body of the HTTP/1.1 request that is served.
    decoder: Cell<Decoder>,
    /// 1xx responses on their way to an HTTP/1.1 client; boxed, for few ever have any.
    interims: Cell<Option<Box<Outbox>>>,
    /// What is served: odd numbers are requests, even ones what is between them. Nobody takes the
    /// body of another request for that of its own.
    serial: Cell<u32>,
    /// When it began, by the thread's sweeps.
    born: u32,
    /// What the client of this HTTP/1.1 request waits for.
    awaits: Cell<Awaits>,
}

/// What may be done to a client while its request is at a node.
#[derive(Clone, Copy, Debug, Default)]
struct Awaits {
    /// It takes 1xx responses: it does not speak HTTP/1.0.
    interims: bool,
    /// It sends its body when it is told to.
    go_on: bool,
    presence: Presence,
}

/// Whether the client of a request is still there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    /// It sent more than the request, so that its end cannot be seen.
    #[default]
    Unknown,
    /// It has sent nothing after the request: its end would be seen.
    Watched,
    /// It ended before its body did.
    Left,
}

/// What becomes of a connection when a worker is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Its next request has not begun.
    Idle,
    /// It ends.
    Close,
    /// It speaks HTTP/2 from here on.
    Http2,
}

/// Serves what comes by `stream` as a task of its own.
///
/// Boxed: tasks are as large as a multiple of 128 bytes, which the future would just exceed.
pub(super) fn spawn(seat: Seat, stream: Stream, listener: u32) -> JoinHandle<()> {
    if !greet::is_expected(seat.listener(listener), &stream) {
        let connection = Connection::new(seat, stream, listener);
        return spawn_local(Box::pin(serve(Rc::new(connection))));
    }
    spawn_local(Box::pin(async move {
        let greeted = Box::pin(greet::greet(&seat, stream, seat.listener(listener))).await;
        if let Some(stream) = greeted {
            serve(Rc::new(Connection::new(seat, stream, listener))).await;
        }
    }))
}

/// Serves a connection to its end, or to the end of the drain.
async fn serve(connection: Rc<Connection>) {
    while poll_fn(|cx| connection.poll_wanted(cx)).await {
        let workers = &connection.thread.workers.http1;
        match workers.serve(Rc::clone(&connection)).await {
            Next::Idle => {}
            Next::Close => return,
            // Boxed: most connections never are one, and idle ones should be small.
            Next::Http2 => return Box::pin(http2::serve(connection)).await,
        }
    }
}

// === impl Connection ===

impl Connection {
    fn new(thread: Seat, stream: Stream, listener: u32) -> Self {
        // Until a route says how long.
        stream.set_write_timeout(WRITE_TIMEOUT);
        Self {
            wire: RefCell::new(Wire::new(stream.clone())),
            stream,
            listener,
            spot: Spot::default(),
            decoder: Cell::new(Decoder::ended()),
            interims: Cell::default(),
            serial: Cell::default(),
            born: thread.parking.now(),
            thread,
            awaits: Cell::default(),
        }
    }

    /// The listener that accepted it.
    pub(super) fn listener(&self) -> &ListenerInfo {
        self.thread.listener(self.listener)
    }

    /// The address of whom requests come from, the last of who may have passed them on; `None` on a
    /// Unix socket.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.stream.peer_ip()
    }

    /// The address of the client of a request with `fields`.
    pub(super) fn client(&self, fields: Fields<'_>) -> Option<IpAddr> {
        self.listener().forwarded.client(self.peer(), fields)
    }

    /// What is done with what its requests say of where they come from.
    pub(super) fn forwarded_mode(&self) -> Mode {
        self.listener().forwarded.mode_for(self.peer())
    }

    /// Ready when there is something to read, or, with `false`, when nobody waits for it any more.
    fn poll_wanted(&self, cx: &mut TaskContext<'_>) -> Poll<bool> {
        let parking = &self.thread.parking;
        if let Poll::Ready(readable) = self.stream.poll_readable(cx) {
            parking.leave(&self.spot);
            return Poll::Ready(readable.is_ok());
        }
        // Whoever drains or waits too long is woken by the thread.
        if self.thread.lets_go(self.serial.get() == 0) {
            return Poll::Ready(false);
        }
        if parking.is_over(&self.spot) {
            self.thread.reached(Limit::Idle);
            return Poll::Ready(false);
        }
        parking.park(&self.spot, cx.waker(), self.thread.limits().idle);
        Poll::Pending
    }

    /// Whether it has brought as many requests, or become as old, as it may.
    fn is_spent(&self) -> bool {
        let limits = self.thread.limits();
        // Those that were begun; before the first nothing is spent.
        let requests = self.serial.get().div_ceil(2);
        if requests == 0 {
            return false;
        }
        if limits
            .requests_per_connection
            .is_some_and(|max| requests >= max)
        {
            self.thread.reached(Limit::RequestsPerConnection);
            return true;
        }
        let age = self.thread.parking.now().wrapping_sub(self.born);
        let is_old = |max: Duration| u64::from(age) >= max.as_secs();
        if limits.connection_age.is_some_and(is_old) {
            self.thread.reached(Limit::ConnectionAge);
            return true;
        }
        false
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("listener", &self.listener())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.thread.parking.remove(&self.spot);
    }
}
