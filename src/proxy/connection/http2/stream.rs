//! One stream: a request, what comes before its response, and the response.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT};
use http::{Method, Request, Response, StatusCode, request};
use http_body::Body;
use tracing::debug;

use super::send::{Cut, send};
use crate::head::content_length;
use crate::proxy::answer::Refusal;
use crate::proxy::body::{ClientBody, Incoming, ResponseBody, Tunnel};
use crate::proxy::connection::Connection;
use crate::proxy::connection::asker::Asker;
use crate::proxy::dispatch;
use crate::proxy::reply::{NodeReply, Reply, ReplyHead};
use crate::proxy::request::Received;
use crate::proxy::rewrite;
use crate::proxy::websocket::WEBSOCKET;
use crate::reason::Reason;

/// What a stream's client may be sent before the response, in bytes of fields: h2 keeps what the
/// client does not take, and does not tell how much that is.
const INTERIM_BYTES: usize = 16 << 10;

/// A request that is to be answered.
#[derive(Debug)]
pub(in crate::proxy) struct Stream {
    pub(super) connection: Rc<Connection>,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
}

/// The client's end of a stream whose response has not begun.
#[derive(Debug)]
pub(in crate::proxy) struct Unanswered {
    connection: Rc<Connection>,
    respond: RefCell<SendResponse<Bytes>>,
    go_on: GoOn,
    /// The bytes of 1xx responses so far.
    told: Cell<usize>,
}

/// Whether a client sends its body once it is told to, known to who tells it and who reads that;
/// `None` where it never waited for it.
type GoOn = Option<Rc<Cell<bool>>>;

/// Answers the request of a stream. Dropped before it has, it resets the stream.
pub(in crate::proxy) async fn respond(stream: Stream) {
    let Stream {
        connection,
        request,
        respond,
    } = stream;
    let is_head = request.method() == Method::HEAD;
    let (mut received, body, go_on) = match receive(&connection, request) {
        Ok(received) => received,
        Err(refusal) => {
            let Reply { mut head, mut body } = dispatch::serve_bad(&connection, &refusal);
            let stream = Unanswered::new(connection, respond, None);
            return stream.answer(&mut head, &mut body, is_head).await;
        }
    };
    let stream = Unanswered::new(connection, respond, go_on);
    let mut served = pin!(dispatch::serve(
        &stream.connection,
        Asker::Http2(&stream),
        &mut received,
        body
    ));
    let mut reply = None;
    let ended = poll_fn(|cx| match served.as_mut().poll(cx) {
        Poll::Ready(served) => {
            reply = Some(served);
            Poll::Ready(())
        }
        Poll::Pending => stream.poll_gone(cx),
    });
    ended.await;
    // Without one nobody waits for an answer any more.
    if let Some(Reply { head, body }) = &mut reply {
        stream.answer(head, body, is_head).await;
    }
}

/// The request that came on a stream, and its body.
///
/// # Errors
/// What is said to who asks for another protocol than may be spoken.
fn receive(
    connection: &Connection,
    request: Request<RecvStream>,
) -> Result<(Received, ClientBody, GoOn), Refusal> {
    let (parts, stream) = request.into_parts();
    match protocol(&parts) {
        None => {
            let length = parts.headers.get(CONTENT_LENGTH);
            let length = length.and_then(|it| content_length(it.as_bytes()));
            let incoming = Incoming::new(stream, length);
            let received = Received::http2(parts);
            let awaits = !incoming.is_at_end() && received.expects_continue();
            let go_on = awaits.then(|| Rc::new(Cell::new(true)));
            let told = go_on.clone();
            Ok((received, ClientBody::Http2 { incoming, go_on }, told))
        }
        Some(WEBSOCKET) => {
            let bits = [(); 2].map(|()| connection.thread.random());
            let tunnel = Rc::new(Tunnel::new(Incoming::new(stream, None)));
            let received = Received::websocket(parts, bits, tunnel);
            Ok((received, ClientBody::Empty, None))
        }
        // RFC 9220 section 3.
        Some(_) => {
            let detail = "expected the protocol websocket";
            Err(Refusal::because(Reason::UnsupportedCoding, detail))
        }
    }
}

/// The value of `:protocol` (RFC 8441 section 4).
fn protocol(parts: &request::Parts) -> Option<&str> {
    Some(parts.extensions.get::<Protocol>()?.as_str())
}

impl Unanswered {
    fn new(connection: Rc<Connection>, respond: SendResponse<Bytes>, go_on: GoOn) -> Self {
        Self {
            connection,
            respond: RefCell::new(respond),
            go_on,
            told: Cell::new(0),
        }
    }

    /// Ready when the client left: nobody waits for the response any more.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.respond.borrow_mut().poll_reset(cx).map(|_reset| ())
    }

    pub(in crate::proxy::connection) fn expects_continue(&self) -> bool {
        self.go_on.as_ref().is_some_and(|it| it.get())
    }

    pub(in crate::proxy::connection) fn says_continue(&self) {
        if self.expects_continue() {
            let mut head = Response::new(());
            *head.status_mut() = StatusCode::CONTINUE;
            self.tell(head);
        }
    }

    /// The same rules as by HTTP/1.1: a client that was told already, or that did not ask, is not
    /// told to go on.
    pub(in crate::proxy::connection) fn passes_interim(&self, reply: &NodeReply) {
        if reply.head.status() == StatusCode::CONTINUE && !self.expects_continue() {
            return;
        }
        let head = rewrite::http2::interim(reply, &self.connection.thread.pseudonym);
        let fields = head.headers().iter();
        let bytes: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let told = self.told.get() + bytes;
        if told <= INTERIM_BYTES {
            self.told.set(told);
            self.tell(head);
        }
    }

    /// Sends a 1xx response.
    fn tell(&self, head: Response<()>) {
        if let Some(go_on) = &self.go_on
            && head.status() == StatusCode::CONTINUE
        {
            go_on.set(false);
        }
        // A client that is gone is seen when its response is waited for.
        let _gone = self.respond.borrow_mut().send_informational(head).is_err();
    }

    /// Sends the response, while the client stays and takes it.
    async fn answer(&self, head: &mut ReplyHead, body: &mut Option<ResponseBody>, is_head: bool) {
        let Some(body) = body else {
            return;
        };
        let thread = &self.connection.thread;
        let is_tunnel = head.status() == StatusCode::SWITCHING_PROTOCOLS;
        if is_head {
            body.withhold();
        }
        let mut head = rewrite::http2::response(head, &thread.pseudonym);
        if is_tunnel {
            switches(&mut head);
        }
        complete(head.headers_mut(), &thread.date(), body);
        let is_whole = body.is_end_stream();
        let sent = self.respond.borrow_mut().send_response(head, is_whole);
        let cut = match sent {
            Ok(_) if is_whole => return,
            Ok(mut stream) => send(&mut stream, body, thread.limits().stream_buffer).await,
            Err(error) => {
                self.respond
                    .borrow_mut()
                    .send_reset(h2::Reason::INTERNAL_ERROR);
                body.outcome().abandoned();
                Err(Cut::Left(error))
            }
        };
        if let Err(cut) = cut {
            let (cause, peer) = (cut.source(), self.connection.peer());
            debug!(error = %cut, ?cause, ?peer, "a response did not reach its end");
        }
    }
}

/// Makes of a node's 101 what says that the tunnel is there: 200, without what is said of the key
/// (RFC 8441 section 5).
fn switches(head: &mut Response<()>) {
    *head.status_mut() = StatusCode::OK;
    head.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
    head.headers_mut().remove(CONTENT_LENGTH);
}

/// Says when the response was made, and how long it is, where that is known and not said.
fn complete(fields: &mut HeaderMap, date: &str, body: &ResponseBody) {
    if !fields.contains_key(DATE)
        && let Ok(date) = HeaderValue::from_str(date)
    {
        fields.insert(DATE, date);
    }
    if let Some(length) = body.size_hint().exact()
        && !body.is_end_stream()
        && !fields.contains_key(CONTENT_LENGTH)
    {
        fields.insert(CONTENT_LENGTH, length.into());
    }
}
