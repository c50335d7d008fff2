//! One client's connection: HTTP/1.1 or HTTP/2, whichever its first bytes speak.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tracing::debug;

use super::dispatch;
use super::thread::Context;
use crate::drain::Phase;
use crate::net::Stream;
use crate::upstream::LocalExecutor;

/// How long a request's head may take, the idle time before it included (nginx's
/// `keepalive_timeout`): hyper does not tell them apart.
const HEAD_WAIT: Duration = Duration::from_secs(75);

/// The largest HTTP/1.1 head, in bytes, and the most fields of it.
const HEAD_BYTES: usize = 64 << 10;
const HEAD_FIELDS: usize = 100;

/// HTTP/2: concurrent streams a client may have (RFC 9113 6.5.2 advises at least 100), and the
/// windows it may fill of a stream and of the connection before they are read.
const STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What HTTP/2 holds of one stream's response that the client does not read yet, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// How often a silent HTTP/2 client is pinged, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A client's connection while it is served.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) thread: Rc<Context>,
    pub(super) stream: Stream,
    pub(super) listener: Rc<str>,
    pub(super) client: Option<IpAddr>,
}

/// Serves a connection to its end, or to the end of the drain.
pub(super) async fn serve(connection: Connection) {
    let connection = Rc::new(connection);
    let mut drain = connection.thread.drain.clone();
    let io = TokioIo::new(connection.stream.clone());
    let service = service_fn(|request: Request<Incoming>| {
        let connection = Rc::clone(&connection);
        async move { Ok::<_, Infallible>(dispatch::serve(connection, request).await) }
    });
    let builder = builder();
    let mut served = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = drain.reached(Phase::Draining) => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served.as_mut() => ended,
                () = drain.reached(Phase::Over) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, client = ?connection.client, "a client's connection broke");
    }
}

fn builder() -> Builder<LocalExecutor> {
    let mut builder = Builder::new(LocalExecutor);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(thread: Rc<Context>, stream: Stream, listener: Rc<str>) -> Self {
        thread.fleet.connections.of(thread.index).open.add(1);
        let client = stream.peer_ip();
        Self {
            thread,
            stream,
            listener,
            client,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.thread
            .fleet
            .connections
            .of(self.thread.index)
            .open
            .add(-1);
        self.thread.connection_ended();
    }
}
