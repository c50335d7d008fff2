//! A connection that speaks HTTP/2: h2 reads and writes its frames, and one task runs it with all of
//! its streams.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason as Code, RecvStream};
use http::Request;
use tokio::task::unconstrained;
use tracing::debug;

use super::Connection;
use super::http1::linger;
use crate::drain::Phase;
use crate::limits::{HeadLimits, Limit, Limits};
use crate::net::{Cork, Corked, FloodWatch, Pulse, clock};
use crate::proxy::answer::Refusal;
use crate::proxy::dispatch;
use crate::reason::Reason;

mod send;
mod stream;
mod streams;

pub(super) use stream::{Stream, Unanswered, respond};

use streams::Streams;

/// The windows that a client may fill of a stream and of the connection before they are read.
pub(in crate::proxy) const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How long a client may be silent until it is asked whether it is there, and how long its answer may
/// take.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(10);

/// How often the connection and its streams may hand on the turn until another connection has one.
const ROUNDS: usize = 16;

/// Serves the connection to its end.
pub(super) async fn serve(connection: Rc<Connection>) {
    let thread = &connection.thread;
    thread.parking.leave(&connection.spot);
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

/// What was read to see what protocol the client speaks.
fn begun(connection: &Connection) -> Bytes {
    let inbox = &mut connection.wire.borrow_mut().inbox;
    let read = Bytes::copy_from_slice(inbox.bytes());
    inbox.skip(read.len());
    inbox.rest();
    read
}

/// Serves the connection's streams.
async fn serve_streams(
    connection: &Rc<Connection>,
    corked: Corked,
    cork: &Cork,
) -> Result<(), h2::Error> {
    let builder = builder(connection);
    // The whole preface was read before, so that this waits for nothing.
    let mut frames = builder.handshake(corked).await?;
    let pings = frames.ping_pong();
    let mut served = Served {
        connection,
        cork,
        streams: Streams::new(),
        frames,
        pulse: pings.map(|it| Pulse::new(it, SILENCE, ANSWER)),
        ends: false,
    };
    // The runtime's budget is a task's, and as many streams would spend it at once.
    unconstrained(poll_fn(|cx| served.poll(cx))).await
}

fn builder(connection: &Connection) -> Builder {
    let limits: Limits = connection.thread.limits();
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        // Of larger heads h2 holds nothing and says 431 itself: so that what exceeds the limit is answered as
        // the rest, it is looked at here.
        .max_header_list_size(u32::try_from(HeadLimits::MAX.bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(limits.stream_buffer)
        // How fast they may come is bounded as they come in.
        .max_pending_accept_reset_streams(limits.resets_per_second as usize);
    if connection.listener().upgrades {
        builder.enable_connect_protocol();
    }
    builder
}

/// Why h2 ended the connection, when it was h2 that did.
fn verdict(error: &h2::Error) -> Option<Code> {
    error.reason().filter(|_| error.is_library())
}

/// Whether h2 found a flood of its own and ended the connection.
fn is_calmed(error: &h2::Error) -> bool {
    verdict(error) == Some(Code::ENHANCE_YOUR_CALM)
}

/// Whether h2 ended the connection for what its frames were.
fn is_malformed(error: &h2::Error) -> bool {
    verdict(error).is_some_and(|it| ![Code::NO_ERROR, Code::ENHANCE_YOUR_CALM].contains(&it))
}

/// The connection and its streams while they are served.
struct Served<'a> {
    connection: &'a Rc<Connection>,
    cork: &'a Cork,
    streams: Streams<Stream>,
    frames: h2::server::Connection<Corked, Bytes>,
    pulse: Option<Pulse>,
    /// Whether the client was told to bring no more.
    ends: bool,
}

impl Served<'_> {
    /// Goes on with whoever was woken; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.streams.runs(cx.waker());
        let mut polled = self.poll_rounds();
        if polled.is_pending() && !self.ends && self.is_over(cx) {
            self.ends = true;
            self.frames.graceful_shutdown();
            self.streams.connection().wake();
            polled = self.poll_rounds();
        }
        self.streams.rests();
        polled
    }

    /// Streams write and so wake the connection, which reads and so wakes streams. What is written
    /// leaves when nobody has more to say.
    fn poll_rounds(&mut self) -> Poll<Result<(), h2::Error>> {
        let connection = self.streams.connection();
        let mut cx = Context::from_waker(&connection);
        for _ in 0..ROUNDS {
            let workers = &self.connection.thread.workers.http2;
            if self.streams.poll(workers)
                && let ended @ Poll::Ready(_) = self.poll_frames(&mut cx)
            {
                return ended;
            }
            if !self.streams.is_due() {
                // The connection may have waited for that.
                self.cork.release(&mut cx);
                if !self.streams.is_due() {
                    return Poll::Pending;
                }
            }
        }
        self.cork.release(&mut cx);
        Poll::Pending
    }

    /// Reads and writes frames, and takes up the streams that the client opens.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Some(pulse) = &mut self.pulse
            && pulse.poll(cx, self.cork.last_read(), true).is_ready()
        {
            debug!(peer = ?self.connection.peer(), "a client does not answer to pings");
            self.pulse = None;
            self.frames.abrupt_shutdown(Code::NO_ERROR);
        }
        loop {
            let accepted = self.frames.poll_accept(cx);
            self.count();
            match accepted {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let stream = respond.stream_id().as_u32();
        self.cork.watch(|it| it.accepted(stream));
        // One request, and what follows it.
        self.connection.next_serial();
        self.connection.next_serial();
        let workers = &self.connection.thread.workers.http2;
        self.streams.begin(workers.lend(Stream {
            connection: Rc::clone(self.connection),
            request,
            respond,
        }));
    }

    /// Counts what h2 answered itself.
    fn count(&self) {
        let (refused, oversize) = self
            .cork
            .watch(|it| (it.take_refused(), it.take_oversize()))
            .unwrap_or_default();
        let thread = &self.connection.thread;
        for _ in 0..refused {
            thread.reached(Limit::Streams);
        }
        for _ in 0..oversize {
            thread.reached(Limit::HeadBytes);
            let refusal = Refusal::from(Reason::HeadersTooLarge);
            let reply = dispatch::serve_bad(self.connection, &refusal);
            if let Some(mut body) = reply.body {
                body.withhold();
            }
        }
    }

    /// Whether no more is to be taken of the connection: it has brought what it may, or brings
    /// nothing, or the thread drains, which wakes whoever is parked.
    fn is_over(&self, cx: &Context<'_>) -> bool {
        let connection = self.connection;
        let is_idle = connection.is_idle(cx, !self.streams.is_empty());
        connection.thread.phase() >= Phase::Draining || is_idle || connection.is_spent()
    }
}

impl Connection {
    /// Whether there was no stream for too long. Has the drain wake the task from the first time on.
    fn is_idle(&self, cx: &Context<'_>, has_streams: bool) -> bool {
        let parking = &self.thread.parking;
        if !has_streams && parking.is_over(&self.spot) {
            self.thread.reached(Limit::Idle);
            return true;
        }
        parking.park(&self.spot, cx.waker(), self.thread.limits().idle);
        if has_streams {
            parking.leave(&self.spot);
        }
        false
    }
}
