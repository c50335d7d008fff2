//! A response's body: whoever drops it has seen the request's true end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::RequestBody;
use super::activity::{Activity, Silence};
use crate::net::Stream;
use crate::proxy::attempt::AttemptGuard;
use crate::proxy::outcome::Outcome;
use crate::upstream::Http1Lease;

/// The body of a response on its way to the client, with all that ends when it ends.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseBody {
    from: From,
    outcome: Outcome,
}

#[derive(Debug)]
enum From {
    /// keyway's own answer, until it was given away.
    Local(Option<Bytes>),
    Node(Box<Exchange>),
}

/// A response being read from a node.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange {
    incoming: Incoming,
    /// The connection to give back; `None` for a share of an HTTP/2 connection.
    lease: Option<Http1Lease<RequestBody>>,
    attempt: AttemptGuard,
    silence: Silence,
    /// The client's connection, where only a reset can show that a response broke.
    reset: Option<Stream>,
}

/// Why a response breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum BodyError {
    /// The node's bytes ended or were wrong.
    #[error("the node's body broke")]
    Node(#[source] hyper::Error),
    /// No byte moved for the route's idle timeout.
    #[error("no byte moved for the idle timeout")]
    Idle,
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
    pub(in crate::proxy) fn node(mut exchange: Exchange, outcome: Outcome) -> Self {
        if exchange.incoming.is_end_stream() {
            exchange.complete();
            outcome.complete();
        }
        Self {
            from: From::Node(Box::new(exchange)),
            outcome,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let me = &mut *self;
        let polled = match &mut me.from {
            From::Local(body) => Poll::Ready(body.take().map(|it| Ok(Frame::data(it)))),
            From::Node(exchange) => exchange.poll_frame(cx),
        };
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Err(_broken))) => me.outcome.broke(),
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|it| it.as_ref().ok()?.data_ref());
                me.outcome.sent(data.map_or(0, Bytes::len));
                if frame.is_none() || me.is_end_stream() {
                    me.outcome.complete();
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.from {
            From::Local(body) => body.is_none(),
            From::Node(exchange) => exchange.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.from {
            From::Local(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            From::Node(exchange) => exchange.incoming.size_hint(),
        }
    }
}

// === impl Exchange ===

impl Exchange {
    pub(in crate::proxy) fn new(
        incoming: Incoming,
        lease: Option<Http1Lease<RequestBody>>,
        attempt: AttemptGuard,
        activity: Activity,
        reset: Option<Stream>,
    ) -> Self {
        Self {
            incoming,
            lease,
            attempt,
            silence: Silence::of(activity),
            reset,
        }
    }

    /// Ends a response that nobody will read: another attempt follows.
    pub(in crate::proxy) fn discard(mut self) {
        if self.incoming.is_end_stream() {
            self.complete();
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => match self.silence.poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(Some(Err(self.broke(BodyError::Idle)))),
            },
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(self.broke(BodyError::Node(error)))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.moved();
                if self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    /// The whole response was read: the connection can serve again.
    fn complete(&mut self) {
        self.attempt.complete();
        if let Some(lease) = self.lease.take() {
            lease.keep();
        }
    }

    fn broke(&mut self, error: BodyError) -> BodyError {
        self.attempt.broke();
        if let Some(client) = &self.reset {
            client.reset_on_close();
        }
        error
    }
}
