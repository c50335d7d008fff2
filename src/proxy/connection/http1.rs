//! A connection that speaks HTTP/1.1: one request after the other, answered in order.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Method;
use tracing::debug;

use super::{Asker, Awaits, Connection, Next, Presence};
use crate::drain::Phase;
use crate::head::{Fields, Known};
use crate::http1::{self, Decoder, Length, PREFACE, Persistence};
use crate::limits::Limit;
use crate::net::{Alarm, Outbox, RequestBytes, clock};
use crate::proxy::answer::Refusal;
use crate::proxy::body::{Broke, ClientBody, ResponseBody, Transmit};
use crate::proxy::dispatch;
use crate::proxy::reply::{Reply, ReplyHead};
use crate::proxy::request::Received;
use crate::proxy::rewrite::http1::{Client, Framing, is_bodiless, response};
use crate::reason::Reason;

/// How long, and for how many bytes, a connection that ends is still read: a close with unread
/// bytes is a reset, which can overtake the answer (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// What a client's bytes turned out to be.
enum Begun {
    Request(RequestBytes),
    /// No request, and what is said to that.
    Bad(Refusal),
    Next(Next),
}

/// Serves the requests that are there, up to where the next one has not begun.
pub(super) async fn serve(connection: Rc<Connection>) -> Next {
    loop {
        let persistence = match poll_fn(|cx| connection.poll_request(cx)).await {
            Begun::Next(next) => {
                connection.rest();
                return next;
            }
            Begun::Bad(refusal) => {
                let Reply { head, mut body } = dispatch::serve_bad(&connection, &refusal);
                answer(&connection, &head, &mut body, &Asked::BAD).await
            }
            Begun::Request(request) => serve_request(&connection, request).await,
        };
        connection.thread.parking.leave(&connection.spot);
        if persistence == Persistence::Close {
            return Next::Close;
        }
        // What comes next is waited for without a worker; nothing was read of it.
        if !connection.has_unread() {
            connection.rest();
            return Next::Idle;
        }
    }
}

/// An answer broke off: the connection says so by its end.
struct Cut;

/// What of a request its response depends on.
struct Asked {
    method: Method,
    is_http_11: bool,
    takes_trailers: bool,
    persistence: Persistence,
}

impl Asked {
    /// Nothing can be said of what was no request, and nothing read after it.
    const BAD: Self = Self {
        method: Method::GET,
        is_http_11: true,
        takes_trailers: false,
        persistence: Persistence::Close,
    };
}

/// Answers a request; whether another may follow it.
async fn serve_request(connection: &Rc<Connection>, request: RequestBytes) -> Persistence {
    let RequestBytes { bytes, line, table } = request;
    let fields = Fields::Lines(&bytes, &table);
    let asked = Asked {
        method: line.method.clone(),
        is_http_11: line.is_http_11,
        takes_trailers: fields.lists(Known::Te, "trailers"),
        persistence: line.persistence,
    };
    let decoder = Decoder::new(line.length);
    connection.decoder.set(decoder);
    let mut received = Received::http1(bytes, line, table);
    connection.awaits.set(Awaits {
        interims: asked.is_http_11,
        go_on: !decoder.is_at_end() && received.expects_continue(),
        presence: Presence::Watched,
    });
    let body = ClientBody::Http1 {
        connection: Rc::downgrade(connection),
        serial: connection.next_serial(),
    };
    let mut served = pin!(dispatch::serve(
        connection,
        Asker::Http1(connection),
        &mut received,
        body
    ));
    let mut reply = None;
    let ended = poll_fn(|cx| match served.as_mut().poll(cx) {
        Poll::Ready(served) => {
            reply = Some(served);
            Poll::Ready(())
        }
        Poll::Pending => connection.poll_gone(cx),
    });
    ended.await;
    match &mut reply {
        Some(Reply { head, body }) => answer(connection, head, body, &asked).await,
        // Nobody waits for an answer any more.
        None => Persistence::Close,
    }
}

/// Writes the answer, and ends the connection where no other request may follow.
async fn answer(
    connection: &Connection,
    head: &ReplyHead,
    body: &mut Option<ResponseBody>,
    asked: &Asked,
) -> Persistence {
    match respond(connection, head, body, asked).await {
        Ok(Persistence::KeepAlive) => Persistence::KeepAlive,
        Ok(Persistence::Close) => {
            // A client that asked for the end, and was read to it, sends nothing more.
            if asked.persistence == Persistence::KeepAlive || connection.has_unread() {
                linger(connection).await;
            }
            Persistence::Close
        }
        Err(Cut) => Persistence::Close,
    }
}

/// What is said to a client that sent no request.
fn refusal(error: http1::Error) -> Refusal {
    use http1::Error as E;
    let reason = match error {
        E::HeadTooLarge | E::TooManyFields => Reason::HeadersTooLarge,
        E::TargetTooLong => Reason::TargetTooLong,
        E::Coding => Reason::UnsupportedCoding,
        E::StartLine
        | E::Target
        | E::Version
        | E::Field
        | E::LineEnd
        | E::ContentLength
        | E::Framing
        | E::Chunk
        | E::ChunkOverhead
        | E::Truncated => Reason::BadRequest,
    };
    Refusal::because(reason, error.to_string())
}

/// The limit that bytes which are no request did not keep.
fn limit(error: http1::Error) -> Option<Limit> {
    match error {
        http1::Error::HeadTooLarge => Some(Limit::HeadBytes),
        http1::Error::TooManyFields => Some(Limit::HeadFields),
        http1::Error::TargetTooLong => Some(Limit::TargetBytes),
        _ => None,
    }
}

/// Writes the answer; whether another request may follow it.
async fn respond(
    connection: &Connection,
    head: &ReplyHead,
    body: &mut Option<ResponseBody>,
    asked: &Asked,
) -> Result<Persistence, Cut> {
    let persistence = persistence(connection, head, asked).await;
    // What is left of 1xx responses goes first.
    let interims = connection.interims.take();
    let mut outbox = interims.map_or_else(Outbox::default, |it| *it);
    let length = body.as_ref().map_or(Length::Empty, ResponseBody::length);
    let (framing, persistence) = {
        let date = connection.thread.date();
        let client = Client {
            method: &asked.method,
            is_http_11: asked.is_http_11,
            takes_trailers: asked.takes_trailers,
            persistence,
            pseudonym: &connection.thread.pseudonym,
            date: &date,
        };
        response(outbox.buffer(), head, length, client)
    };
    if let Some(body) = body
        && is_bodiless(head.status(), &asked.method)
    {
        body.withhold();
    }
    // HTTP/1.0 would take the end of the connection for the end of the body.
    let needs_reset = persistence == Persistence::Close && !asked.is_http_11;
    send(connection, outbox, body, framing, needs_reset).await?;
    connection.next_serial();
    if persistence == Persistence::Close {
        return Ok(persistence);
    }
    let skipped = poll_fn(|cx| Poll::Ready(connection.skip_body(cx))).await;
    Ok(if skipped {
        persistence
    } else {
        Persistence::Close
    })
}

/// What is known of the connection's future when the answer begins.
async fn persistence(connection: &Connection, head: &ReplyHead, asked: &Asked) -> Persistence {
    let skipped = match head {
        // A body that nobody read is skipped while it is short.
        ReplyHead::Local(_) => poll_fn(|cx| Poll::Ready(connection.skip_body(cx))).await,
        // Whether a client that was not told to go on still sends its body cannot be known.
        ReplyHead::Node(_) => !connection.expects_continue(),
    };
    let goes_on = skipped && connection.thread.phase() < Phase::Draining;
    if goes_on && !connection.is_spent() {
        asked.persistence
    } else {
        Persistence::Close
    }
}

/// Sends what is in the outbox and the body behind it, while the client stays.
async fn send(
    connection: &Connection,
    mut outbox: Outbox,
    body: &mut Option<ResponseBody>,
    framing: Framing,
    needs_reset: bool,
) -> Result<(), Cut> {
    let mut transmit = Transmit::new(framing);
    let sent = poll_fn(|cx| {
        let sent = transmit.poll(cx, body, &mut outbox, &connection.stream);
        if sent.is_ready() {
            return sent;
        }
        if let Some(body) = body {
            body.outcome().waits();
            if !outbox.is_empty() {
                // A client may want to send before it reads.
                body.poll_upload(cx);
            }
        }
        let left = || Err(Broke::Io(io::ErrorKind::ConnectionAborted.into()));
        connection.poll_gone(cx).map(|()| left())
    });
    match sent.await {
        Ok(()) => return Ok(()),
        Err(Broke::Body(error)) => {
            debug!(%error, peer = ?connection.peer(), "a response broke");
            if needs_reset {
                connection.stream.reset_on_close();
            }
        }
        Err(Broke::Io(error)) => {
            debug!(%error, peer = ?connection.peer(), "a client left before its answer's end");
            if let Some(body) = body {
                body.outcome().abandoned();
            }
        }
    }
    Err(Cut)
}

/// Ends the connection so that the client gets what was written.
pub(super) async fn linger(connection: &Connection) {
    if connection.stream.shut_down().is_err() {
        return;
    }
    let deadline = clock::now() + LINGER;
    let (mut alarm, mut left) = (Alarm::default(), LINGER_BYTES);
    poll_fn(|cx| {
        let mut wire = connection.wire.borrow_mut();
        loop {
            let there = wire.inbox.bytes().len();
            wire.inbox.skip(there);
            left = left.saturating_sub(there);
            if left == 0 {
                return Poll::Ready(());
            }
            match wire.poll_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => return alarm.poll_until(cx, deadline),
            }
        }
    })
    .await;
}

// === impl Connection: what a request needs of it ===

impl Connection {
    /// The next request, once its head is there.
    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Begun> {
        let mut wire = self.wire.borrow_mut();
        loop {
            let there = wire.inbox.bytes();
            if there.starts_with(PREFACE) {
                return Poll::Ready(Begun::Next(Next::Http2));
            }
            // A preface may come in pieces.
            if there.is_empty() || !PREFACE.starts_with(there) {
                let limits = self.thread.limits().head;
                match wire.parse_request(&limits) {
                    Ok(Some(request)) => {
                        self.thread.parking.leave(&self.spot);
                        return Poll::Ready(Begun::Request(request));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        if let Some(limit) = limit(error) {
                            self.thread.reached(limit);
                        }
                        return Poll::Ready(Begun::Bad(refusal(error)));
                    }
                }
            }
            match wire.poll_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Begun::Next(Next::Close)),
                Poll::Pending if wire.inbox.bytes().is_empty() => {
                    return Poll::Ready(Begun::Next(Next::Idle));
                }
                Poll::Pending => {
                    let is_empty_line = wire.inbox.bytes().iter().all(u8::is_ascii_whitespace);
                    if is_empty_line && self.thread.phase() >= Phase::Draining {
                        return Poll::Ready(Begun::Next(Next::Close));
                    }
                    let parking = &self.thread.parking;
                    if parking.is_over(&self.spot) {
                        self.thread.reached(Limit::HeadWait);
                        return Poll::Ready(if is_empty_line {
                            Begun::Next(Next::Close)
                        } else {
                            Begun::Bad(Reason::RequestTimeout.into())
                        });
                    }
                    parking.park(&self.spot, cx.waker(), self.thread.limits().head_wait);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether the client sent, or may be sending, more than was read.
    fn has_unread(&self) -> bool {
        !self.is_body_at_end() || !self.wire.borrow().inbox.bytes().is_empty()
    }

    /// Holds no memory while nothing happens.
    fn rest(&self) {
        self.wire.borrow_mut().inbox.rest();
    }
}
