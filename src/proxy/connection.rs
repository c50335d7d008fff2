//! One client's connection: idle most of the time, HTTP/1.1 or HTTP/2, whichever its first bytes
//! speak.
//!
//! An idle connection is this module's small future and a socket, no buffer: what it takes to serve
//! a request is a worker that the thread lends to whichever connection has one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use super::thread::Context;
use crate::drain::Phase;
use crate::http1::Decoder;
use crate::net::{Outbox, Stream, Wire};

mod client;
mod http1;
mod http2;
mod parking;
mod worker;

pub(super) use parking::Parking;

use parking::Spot;
use worker::{Worker, Workers};

/// A thread's workers, by what they serve.
#[derive(Debug)]
pub(super) struct Staff {
    /// Connections that speak HTTP/1.1, as long as they are busy.
    http1: Workers<Rc<Connection>, Next>,
    /// HTTP/2 streams.
    http2: Workers<http2::Stream, http2::Answer>,
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
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) thread: Rc<Context>,
    pub(super) stream: Stream,
    pub(super) listener: Rc<str>,
    spot: Spot,
    /// What was read and is not used yet.
    wire: RefCell<Wire>,
    /// The body of the HTTP/1.1 request that is served.
    decoder: Cell<Decoder>,
    /// 1xx responses on their way to an HTTP/1.1 client; boxed, for few ever have any.
    interims: RefCell<Option<Box<Outbox>>>,
    /// The number of the HTTP/1.1 request that is served, so that nobody takes the body of another
    /// for it.
    request: Cell<u32>,
    /// What the client of this HTTP/1.1 request waits for.
    awaits: Cell<Awaits>,
}

/// What may be done to a client while its request is at a node.
#[derive(Clone, Copy, Debug, Default)]
struct Awaits {
    /// It takes 1xx responses: it speaks HTTP/1.1.
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

/// Serves a connection to its end, or to the end of the drain.
pub(super) async fn serve(connection: Rc<Connection>) {
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
    pub(super) fn new(thread: Rc<Context>, stream: Stream, listener: Rc<str>) -> Self {
        thread.fleet.connections.of(thread.index).open.add(1);
        // Until a route says how long.
        stream.set_write_timeout(WRITE_TIMEOUT);
        Self {
            wire: RefCell::new(Wire::new(stream.clone())),
            thread,
            stream,
            listener,
            spot: Spot::default(),
            decoder: Cell::new(Decoder::ended()),
            interims: RefCell::default(),
            request: Cell::default(),
            awaits: Cell::default(),
        }
    }

    /// The client's address; `None` on a Unix socket.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.stream.peer_ip()
    }

    /// Ready when there is something to read, or, with `false`, when nobody waits for it any more.
    fn poll_wanted(&self, cx: &mut TaskContext<'_>) -> Poll<bool> {
        let parking = &self.thread.parking;
        if let Poll::Ready(readable) = self.stream.poll_readable(cx) {
            parking.leave(&self.spot);
            return Poll::Ready(readable.is_ok());
        }
        // Whoever drains or waits too long is woken by the thread.
        let over = parking.is_over(&self.spot) || self.thread.phase() >= Phase::Draining;
        if over {
            return Poll::Ready(false);
        }
        parking.park(&self.spot, cx.waker());
        Poll::Pending
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.thread.parking.remove(&self.spot);
        let connections = &self.thread.fleet.connections;
        connections.of(self.thread.index).open.add(-1);
        self.thread.connection_ended();
    }
}
