//! A connection that speaks HTTP/2: hyper serves its streams.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use super::Connection;
use crate::drain::Phase;
use crate::net;
use crate::proxy::body::{BodyError, ClientBody, ResponseBody};
use crate::proxy::dispatch;
use crate::proxy::reply::Reply;
use crate::proxy::request::Received;
use crate::proxy::rewrite;
use crate::upstream::LocalExecutor;

/// Concurrent streams a client may have (RFC 9113 6.5.2 advises at least 100), and the windows it
/// may fill of a stream and of the connection before they are read.
const STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What is held of one stream's response that the client does not read yet, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// How often a silent client is pinged, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Data up to this size goes to hyper as a copy: what waits there for the client's window would
/// else keep the large buffer that it was read into.
const COPY_MAX: usize = 16 << 10;

/// Serves the connection to its end, or to the end of the drain.
pub(super) async fn serve(connection: Rc<Connection>) {
    let mut drain = connection.thread.drain.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let connection = Rc::clone(&connection);
        // hyper moves this future to where it spawns it, so that it had better be small.
        async move {
            let workers = &connection.thread.workers.http2;
            let stream = (Rc::clone(&connection), request);
            Ok::<_, Infallible>(workers.serve(stream).await)
        }
    });
    let io = TokioIo::new(Begun::of(&connection));
    let mut served = pin!(builder().serve_connection(io, service));
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
        debug!(%error, client = ?connection.client(), "a client's connection broke");
    }
}

fn builder() -> Builder<LocalExecutor> {
    let mut builder = Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// A request that is to be answered.
pub(super) type Stream = (Rc<Connection>, Request<Incoming>);

/// Its answer.
pub(super) type Answer = Response<Copied>;

/// Answers one request.
pub(super) async fn respond((connection, request): Stream) -> Answer {
    let (parts, incoming) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let body = ClientBody::Http2(incoming);
    let Reply { head, mut body } = dispatch::serve(&connection, Received::http2(parts), body).await;
    if is_head {
        body.withhold();
    }
    // hyper sends it when it likes.
    body.outcome().waits();
    let head = rewrite::http2::response(head, &connection.thread.pseudonym);
    Response::from_parts(head, Copied(body))
}

/// A response's body whose small pieces are copied.
#[derive(Debug)]
pub(super) struct Copied(ResponseBody);

impl Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let small = |data: Bytes| match data.len() {
            ..=COPY_MAX => Bytes::copy_from_slice(&data),
            _ => data,
        };
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        polled.map(|it| it.map(|it| it.map(|frame| frame.map_data(small))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A stream of which something was read to see what protocol it speaks.
#[derive(Debug)]
struct Begun {
    read: Bytes,
    stream: net::Stream,
}

impl Begun {
    fn of(connection: &Connection) -> Self {
        let inbox = &mut connection.wire.borrow_mut().inbox;
        let read = Bytes::copy_from_slice(inbox.bytes());
        inbox.skip(read.len());
        inbox.rest();
        let stream = connection.stream.clone();
        Self { read, stream }
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let len = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..len]);
        self.read.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
