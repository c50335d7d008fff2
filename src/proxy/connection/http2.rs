//! A connection that speaks HTTP/2: hyper serves its streams.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::iter;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT};
use http::{Method, Request, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::spawn_local;
use tracing::debug;

use super::Connection;
use super::http1::linger;
use super::readers::{Reader, Readers};
use crate::drain::Phase;
use crate::limits::{HeadLimits, Limit, Limits};
use crate::net::{Cork, Corked, FloodWatch, clock, is_clients_fault};
use crate::proxy::answer::Refusal;
use crate::proxy::body::{BodyError, ClientBody, ResponseBody};
use crate::proxy::dispatch;
use crate::proxy::reply::{Reply, ReplyHead};
use crate::proxy::request::Received;
use crate::proxy::rewrite;
use crate::proxy::websocket::WEBSOCKET;
use crate::reason::Reason;

/// The windows that a client may fill of a stream and of the connection before they are read.
pub(in crate::proxy) const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How often a silent client is pinged, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Data up to this size goes to hyper as a copy: what waits there for the client's window would
/// else keep the large buffer that it was read into.
const COPY_MAX: usize = 16 << 10;

/// Held by each stream of a connection as long as it lasts.
#[derive(Clone, Debug)]
pub(super) struct Open {
    _stream: Rc<()>,
    reader: Rc<Reader>,
}

/// Serves the connection to its end, or to the end of the drain.
pub(super) async fn serve(connection: Rc<Connection>) {
    connection.thread.parking.leave(&connection.spot);
    let thread = &connection.thread;
    let watch = FloodWatch::new(thread.limits().resets_per_second, clock::now().into_std());
    let begun = begun(&connection);
    let (corked, cork) = Corked::watched(connection.stream.clone(), begun, watch);
    let ended = serve_streams(&connection, corked, &cork).await;
    let is_flood = poll_fn(|cx| Poll::Ready(cork.ends_flood(cx))).await;
    if is_flood || ended.as_ref().is_err_and(is_calmed) {
        thread.reached(Limit::ResetsPerSecond);
    } else if ended.as_ref().is_err_and(is_malformed) {
        // As of what is no HTTP/1.1; nobody can be answered any more.
        let refusal = Refusal::because(Reason::BadRequest, "the frames are no HTTP/2");
        drop(dispatch::serve_bad(&connection, &refusal));
    }
    if let Err(error) = ended {
        debug!(%error, is_flood, peer = ?connection.peer(), "a client's connection broke");
    }
    if is_flood {
        linger(&connection).await;
    }
}

/// Why h2 ended the connection, when it was h2 that did.
fn verdict(error: &hyper::Error) -> Option<h2::Reason> {
    let h2 = error.source()?.downcast_ref::<h2::Error>()?;
    h2.reason().filter(|_| h2.is_library())
}

/// Whether h2 found a flood of its own and ended the connection.
fn is_calmed(error: &hyper::Error) -> bool {
    verdict(error) == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

/// Whether h2 ended the connection for what its frames were.
fn is_malformed(error: &hyper::Error) -> bool {
    verdict(error)
        .is_some_and(|it| ![h2::Reason::NO_ERROR, h2::Reason::ENHANCE_YOUR_CALM].contains(&it))
}

/// Serves the connection's streams.
async fn serve_streams(
    connection: &Rc<Connection>,
    corked: Corked,
    cork: &Cork,
) -> Result<(), hyper::Error> {
    let mut drain = connection.thread.drain.clone();
    let (streams, readers) = (Rc::new(()), Readers::default());
    let service = service_fn(|request: Request<Incoming>| {
        let connection = Rc::clone(connection);
        let open = Open {
            _stream: Rc::clone(&streams),
            reader: readers.next(),
        };
        // One request, and what follows it.
        connection.next_serial();
        connection.next_serial();
        // hyper moves this future to where it spawns it, so that it had better be small.
        async move {
            let workers = &connection.thread.workers.http2;
            let stream = (Rc::clone(&connection), request, open);
            Ok::<_, Infallible>(workers.serve(stream).await)
        }
    });
    let mut builder = builder(connection.thread.limits(), readers.clone());
    if connection.listener().upgrades {
        builder.enable_connect_protocol();
    }
    let mut served = pin!(builder.serve_connection(TokioIo::new(corked), service));
    // Of a connection that has brought what it may, or brings nothing, no more is taken.
    let mut ends = false;
    tokio::select! {
        ended = poll_fn(|cx| {
            let mut polled = cork.poll(cx, served.as_mut());
            for _ in 0..cork.take_refused() {
                connection.thread.reached(Limit::Streams);
            }
            let has_streams = Rc::strong_count(&streams) > 1;
            if polled.is_pending()
                && !ends
                && (connection.is_spent() || connection.is_idle(cx, has_streams))
            {
                ends = true;
                served.as_mut().graceful_shutdown();
                polled = cork.poll(cx, served.as_mut());
            }
            polled
        }) => ended,
        () = drain.reached(Phase::Draining) => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = poll_fn(|cx| cork.poll(cx, served.as_mut())) => ended,
                () = drain.reached(Phase::Over) => Ok(()),
            }
        }
    }
}

impl Connection {
    /// Whether there was no stream for too long.
    fn is_idle(&self, cx: &Context<'_>, has_streams: bool) -> bool {
        let parking = &self.thread.parking;
        if has_streams {
            parking.leave(&self.spot);
        } else if parking.is_over(&self.spot) {
            self.thread.reached(Limit::Idle);
            return true;
        } else {
            parking.park(&self.spot, cx.waker(), self.thread.limits().idle);
        }
        false
    }
}

/// What was read to see what protocol the client speaks.
fn begun(connection: &Connection) -> Bytes {
    let inbox = &mut connection.wire.borrow_mut().inbox;
    let read = Bytes::copy_from_slice(inbox.bytes());
    inbox.skip(read.len());
    inbox.rest();
    read
}

fn builder(limits: Limits, readers: Readers) -> Builder<Readers> {
    let mut builder = Builder::new(readers);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        // What is larger than any head may be, h2 answers by itself and tells nobody: so that what exceeds
        // the limit is counted, the limit is looked at here.
        .max_header_list_size(u32::try_from(HeadLimits::MAX.bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(limits.stream_buffer)
        // How fast they may come is bounded as they come in.
        .max_pending_accept_reset_streams(limits.resets_per_second as usize)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// A request that is to be answered.
pub(super) type Stream = (Rc<Connection>, Request<Incoming>, Open);

/// Its answer.
pub(super) type Answer = Response<Copied>;

/// Answers one request.
pub(super) async fn respond((connection, request, open): Stream) -> Answer {
    let mut request = request;
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, incoming) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let body = ClientBody::Http2(incoming);
    let mut received = match protocol(&parts) {
        None => Received::http2(parts),
        Some(WEBSOCKET) => {
            let bits = [(); 2].map(|()| connection.thread.random());
            Received::websocket(parts, bits, Rc::default())
        }
        // RFC 9220 section 3.
        Some(_) => return unknown_protocol(&connection, open),
    };
    let Reply { head, mut body } = dispatch::serve(&connection, &mut received, body).await;
    if let Some(tunnel) = received.tunnel()
        && head.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        let tunnel = Rc::clone(tunnel);
        let held = open.clone();
        spawn_local(async move {
            if let (Ok(stream), Some(body)) = (upgrade.await, body) {
                tunnel.carry(stream, body).await;
            }
            drop(held);
        });
        return switched(&connection, head, open);
    }
    if let Some(body) = &mut body {
        if is_head {
            body.withhold();
        }
        // hyper sends it when it likes.
        body.outcome().waits();
    }
    let head = rewrite::http2::response(head, &connection.thread.pseudonym);
    let body = Copied {
        body,
        buffer: connection.thread.limits().stream_buffer,
        open,
    };
    Response::from_parts(head, body)
}

/// The value of `:protocol` (RFC 8441 section 4).
fn protocol(parts: &request::Parts) -> Option<&str> {
    let protocol = parts.extensions.get::<hyper::ext::Protocol>()?;
    Some(protocol.as_str()).filter(|_| parts.method == Method::CONNECT)
}

/// The answer to who asks for another protocol than may be spoken.
fn unknown_protocol(connection: &Connection, open: Open) -> Answer {
    let detail = "expected the protocol websocket";
    let refusal = Refusal::because(Reason::UnsupportedCoding, detail);
    let Reply { head, body } = dispatch::serve_bad(connection, &refusal);
    let head = rewrite::http2::response(head, &connection.thread.pseudonym);
    let body = Copied {
        body,
        buffer: 0,
        open,
    };
    Response::from_parts(head, body)
}

/// What says that the tunnel is there: 200, and of the node's 101 what is said of neither the
/// connection nor the key (RFC 8441 section 5).
fn switched(connection: &Connection, head: ReplyHead, open: Open) -> Answer {
    let mut head = rewrite::http2::response(head, &connection.thread.pseudonym);
    head.status = StatusCode::OK;
    head.headers.remove(SEC_WEBSOCKET_ACCEPT);
    head.headers.remove(CONTENT_LENGTH);
    let body = Copied {
        body: None,
        buffer: 0,
        open,
    };
    Response::from_parts(head, body)
}

/// A response's body whose small pieces are copied; none where a tunnel follows.
#[derive(Debug)]
pub(super) struct Copied {
    body: Option<ResponseBody>,
    /// What h2 may hold of it, in bytes.
    buffer: usize,
    open: Open,
}

/// A response broke off. Its source is where hyper finds the code that the stream is reset with: a
/// node's own, unless it is one that would be held against the client.
#[derive(Debug)]
pub(super) struct Cut(BodyError);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Cut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let sources = iter::successors(self.0.source(), |&it| it.source());
        let code = sources.filter_map(|it| it.downcast_ref::<h2::Error>()?.reason());
        let blames = code.map(u32::from).any(is_clients_fault);
        self.0.source().filter(|_| !blames)
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let small = |data: Bytes| match data.len() {
            ..=COPY_MAX => Bytes::copy_from_slice(&data),
            _ => data,
        };
        let buffer = self.buffer;
        let reader = Rc::clone(&self.open.reader);
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        reader.took();
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            reader.owes(body.patience());
        }
        if matches!(polled, Poll::Ready(Some(Ok(_)))) && !body.is_end_stream() {
            body.outcome().holds_more(buffer);
        }
        polled.map(|it| it.map(|it| it.map(|frame| frame.map_data(small)).map_err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(none, Body::size_hint)
    }
}
