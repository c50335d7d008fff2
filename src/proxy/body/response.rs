//! A response's body: whoever drops it has seen the request's true end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::activity::{Activity, Silence};
use super::{BACKLOG, ClientFault};
use crate::cluster::counters::Class;
use crate::http1::Length;
use crate::net::WireError;
use crate::proxy::attempt::AttemptGuard;
use crate::proxy::exchange::Http1Exchange;
use crate::proxy::exchange::http2::Http2Exchange;
use crate::proxy::outcome::Outcome;

/// The last piece of a response is held where it is larger than this: else it is gone at once, or
/// was copied.
const SMALL: usize = 16 << 10;

/// How long nothing may be taken of keyway's own answer: the default of `idle_timeout`.
const LOCAL_PATIENCE: Duration = Duration::from_mins(1);

/// The body of a response on its way to the client, with all that ends when it ends.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseBody {
    from: From,
    outcome: Outcome,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation a request"
)]
enum From {
    /// keyway's own answer, until it was given away.
    Local(Option<Bytes>),
    Node(Exchange),
}

/// A response being read from a node.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange {
    /// `None` once it was read to its end.
    body: Option<NodeBody>,
    /// How the body was framed.
    length: Length,
    attempt: AttemptGuard,
    silence: Silence,
}

/// The body that a node sends.
#[derive(Debug)]
pub(in crate::proxy) enum NodeBody {
    /// On a connection of its own.
    Http1(Http1Exchange),
    /// On an HTTP/2 stream.
    Http2(Http2Exchange),
}

/// A response that broke off at the node.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum Broken {
    /// By HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] WireError),
    /// By HTTP/2. Its source has the code, if it is a reset.
    #[error("the stream broke")]
    Http2(#[from] h2::Error),
    /// By HTTP/2, without an error, and without an end.
    #[error("the node reset the stream within its response")]
    Cut,
}

/// Why a response breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum BodyError {
    /// The node's bytes ended or were wrong.
    #[error("the node's body broke")]
    Node(#[source] Broken),
    /// No byte moved for the route's idle timeout.
    #[error("no byte moved for the idle timeout")]
    Idle,
    /// The client spoiled its request, of which the node still waited for the rest.
    #[error("the client spoiled its request")]
    Client(#[source] ClientFault),
}

// === impl ResponseBody ===

impl ResponseBody {
    /// keyway's own answer.
    pub(in crate::proxy) fn local(body: Bytes, outcome: Outcome) -> Self {
        let body = Some(body).filter(|it| !it.is_empty());
        if body.is_none() {
            outcome.complete();
        }
        Self {
            from: From::Local(body),
            outcome,
        }
    }

    /// A node's response.
    pub(in crate::proxy) fn node(exchange: Exchange, outcome: Outcome) -> Self {
        if exchange.body.is_none() {
            outcome.complete();
        }
        Self {
            from: From::Node(exchange),
            outcome,
        }
    }

    /// How the body is framed where it comes from.
    pub(in crate::proxy) fn length(&self) -> Length {
        match &self.from {
            From::Local(None) => Length::Empty,
            From::Local(Some(body)) => Length::Exact(body.len() as u64),
            From::Node(exchange) => exchange.length,
        }
    }

    /// Sends nothing of a body where there must be none: what follows the head would be taken for
    /// the next response (RFC 9112 6.3, 1). HTTP/2 nodes can send one all the same.
    pub(in crate::proxy) fn withhold(&mut self) {
        match &mut self.from {
            From::Local(body) => drop(body.take()),
            From::Node(exchange) => exchange.end(),
        }
        self.outcome.complete();
    }

    /// Goes on with the request's body while the client does not read the response.
    pub(in crate::proxy) fn poll_upload(&mut self, cx: &mut Context<'_>) {
        if let From::Node(exchange) = &mut self.from
            && let Some(body) = &mut exchange.body
        {
            // It is the client's reading that is waited for, which has a time of its own.
            exchange.silence.moved();
            body.poll_upload(cx);
        }
    }

    /// How long its reader may take nothing of it.
    pub(in crate::proxy) fn patience(&self) -> Duration {
        match &self.from {
            From::Local(_) => LOCAL_PATIENCE,
            From::Node(exchange) => exchange.silence.activity().timeout(),
        }
    }

    /// Where the request's end is written down.
    pub(in crate::proxy) fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.outcome.holds(0);
        let polled = match &mut self.from {
            From::Local(body) => Poll::Ready(body.take().map(|it| Ok(Frame::data(it)))),
            From::Node(exchange) => exchange.poll_frame(cx),
        };
        match &polled {
            Poll::Pending => self.outcome.waits(),
            Poll::Ready(Some(Err(BodyError::Client(_)))) => self.outcome.abandoned(),
            Poll::Ready(Some(Err(BodyError::Node(_) | BodyError::Idle))) => self.outcome.broke(),
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|it| it.as_ref().ok()?.data_ref());
                let len = data.map_or(0, Bytes::len);
                self.outcome.sent(len);
                if frame.is_none() || self.is_end_stream() {
                    self.outcome.complete();
                    self.outcome.holds(if len > SMALL { len } else { 0 });
                } else {
                    self.outcome.holds(len + BACKLOG);
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Local(body) => body.is_none(),
            From::Node(exchange) => exchange.body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Local(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            From::Node(exchange) => exchange.size_hint(),
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// The response whose body is `body`, framed by `length`.
    pub(in crate::proxy) fn new(
        body: NodeBody,
        length: Length,
        attempt: AttemptGuard,
        activity: Activity,
    ) -> Self {
        let mut exchange = Self {
            body: Some(body),
            length,
            attempt,
            silence: Silence::of(activity),
        };
        exchange.end_if_complete();
        exchange
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match body.poll_frame(cx) {
            Poll::Pending if self.fault() == Some(ClientFault::Slow) => {
                Poll::Ready(Some(Err(self.broke(BodyError::Idle))))
            }
            Poll::Pending => match self.silence.poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(Some(Err(self.broke(BodyError::Idle)))),
            },
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(self.broke(BodyError::Node(error)))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.moved();
                self.end_if_complete();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    /// Nobody will read it, because another attempt follows: the attempt ended as its head said.
    pub(in crate::proxy) fn discard(self) {
        self.attempt.complete();
    }

    fn end_if_complete(&mut self) {
        if self.body.as_ref().is_some_and(NodeBody::is_at_end) {
            self.end();
        }
    }

    /// The whole response was read: the connection can serve again.
    fn end(&mut self) {
        self.attempt.complete();
        match self.body.take() {
            Some(NodeBody::Http1(exchange)) => exchange.end(),
            Some(NodeBody::Http2(_)) | None => {}
        }
    }

    /// The response breaks off. A node that may still wait for the rest of the request is not to
    /// blame for its silence, nor one that heard how the client spoiled it.
    fn broke(&mut self, error: BodyError) -> BodyError {
        let activity = self.silence.activity();
        let late = matches!(error, BodyError::Idle) && activity.awaits_client();
        let fault = self.fault().or_else(|| late.then_some(ClientFault::Slow));
        let Some(fault) = fault else {
            self.attempt.broke();
            return error;
        };
        self.attempt.ended(Class::Aborted);
        BodyError::Client(fault)
    }

    fn fault(&self) -> Option<ClientFault> {
        self.silence.activity().fault()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            None => SizeHint::with_exact(0),
            // What an HTTP/2 node says of it stands in the head.
            Some(NodeBody::Http2(_)) => SizeHint::new(),
            Some(NodeBody::Http1(exchange)) => match exchange.remaining() {
                Some(bytes) => SizeHint::with_exact(bytes),
                None => SizeHint::new(),
            },
        }
    }
}

// === impl NodeBody ===

impl NodeBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Http1(exchange) => exchange.poll_frame(cx).map_err(Broken::from),
            Self::Http2(exchange) => exchange.poll_frame(cx),
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) {
        // A client that spoils its request now may still read the response.
        let _spoiled = match self {
            Self::Http1(exchange) => exchange.poll_upload(cx),
            Self::Http2(exchange) => exchange.poll_upload(cx),
        };
    }

    pub(in crate::proxy) fn is_at_end(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_at_end(),
            Self::Http2(exchange) => exchange.is_at_end(),
        }
    }
}
