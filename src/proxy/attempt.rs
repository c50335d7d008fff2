//! One try at one node: a connection, the request on it, and the head of the response in time.

use std::error::Error as _;
use std::future::poll_fn;
use std::task::{self, Poll, ready};

use http::StatusCode;
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::body::{ClientFault, Exchange, NodeBody, RequestBody, Source};
use super::error::AttemptError;
use super::exchange::Http1Exchange;
use super::exchange::http2::Http2Exchange;
use super::forward::Call;
use super::journey::Arrival;
use super::reply::NodeHead;
use super::rewrite;
use crate::cluster::counters::Class;
use crate::cluster::desired::Detail;
use crate::cluster::{Cluster, Node, Pick, Target};
use crate::head::{Known, content_length};
use crate::health::Standing;
use crate::http1::Length;
use crate::net::{Alarm, clock};
use crate::retry::RepeatableMethods;
use crate::upstream::{Http2Lease, Lease, Look, Protocol, Speak};

mod expiry;
mod guard;
mod observe;

use expiry::Expiry;
pub(super) use guard::AttemptGuard;

/// How many 1xx responses a node may send before its response: more than any needs, so that they
/// end.
const INTERIMS_MAX: u32 = 32;

/// The head of a node's response, and the exchange that its body comes by.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: NodeHead,
    pub(super) exchange: Exchange,
}

/// Which connections an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// An idle one first.
    Pooled,
    /// Only a new one: an idle one just turned out to be stale.
    Fresh,
}

/// One try at one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try<'a> {
    call: &'a Call<'a>,
    /// What would be tried next.
    pick: &'a Pick,
    target: Target,
    reuse: Reuse,
    /// Its number among the request's attempts, from 1.
    number: u32,
    /// The node's standing when it began.
    seen: Standing,
    began: Instant,
}

/// Tries a node once.
pub(super) async fn attempt(it: Try<'_>) -> Result<Answer, AttemptError> {
    let Try { call, .. } = it;
    let guard = AttemptGuard::begin(&it).ok_or(AttemptError::Full)?;
    let responded = send(&it).await;
    let arrived = clock::now();
    let arrival = match &responded {
        Ok((head, _)) => Arrival::Head(head.status(), head.version()),
        Err(error) => Arrival::Failure(error.reason(true)),
    };
    call.outcome.arrived(it.target, arrived, arrival);
    let (head, body) = match responded {
        Ok(responded) => responded,
        Err(error) => {
            guard.ended(error.class());
            it.observe_failure(&error);
            let (node, cause) = (it.node().id(), error.source());
            debug!(node, error = %error, ?cause, "an attempt failed");
            return Err(error);
        }
    };
    it.observe_answer(&head);
    let shard = &it.cluster().shards[it.target.shard];
    let counters = shard.counters.of(call.thread().index);
    counters.attempt_duration.observe(arrived - it.began);
    if call.view.state.desired.metrics == Detail::Node {
        let counters = it.node().counters.of(call.thread().index);
        counters.took(arrived - it.began);
    }
    guard.responded(Class::of(head.status()));
    if call.grpc
        && let Some(source) = &call.source
    {
        source.converses();
    }
    let length = length(&head, &body);
    let exchange = Exchange::new(body, length, guard, call.activity.clone());
    Ok(Answer { head, exchange })
}

/// How the body of a response is framed; of HTTP/2 as HTTP/1.1 would frame it.
fn length(head: &NodeHead, body: &NodeBody) -> Length {
    match (head, body) {
        (NodeHead::Http1(head), _) => head.line.length,
        (NodeHead::Http2(..), body) if body.is_at_end() => Length::Empty,
        (NodeHead::Http2(..), _) => {
            let declared = head.fields().known(Known::ContentLength).next();
            declared
                .and_then(content_length)
                .map_or(Length::Chunked, Length::Exact)
        }
    }
}

/// Gets a connection, sends the request on it and waits for the response's head.
async fn send(it: &Try<'_>) -> Result<(NodeHead, NodeBody), AttemptError> {
    let Try { call, target, .. } = *it;
    match lease(it).await? {
        Lease::Http2(lease) => {
            let (head, exchange) = send_http2(it, lease).await?;
            Ok((head, NodeBody::Http2(exchange)))
        }
        Lease::Http1(lease) => {
            let mut exchange = Http1Exchange::new(lease, call, call.told(target, it.number));
            let method = call.received.method();
            let head = answered(it, |cx| {
                exchange.poll_head(cx, method).map_ok(NodeHead::Http1)
            });
            let head = head.await?;
            if head.status() == StatusCode::SWITCHING_PROTOCOLS {
                exchange.open_tunnel(call)?;
            }
            Ok((head, NodeBody::Http1(exchange)))
        }
    }
}

/// A connection from the idle ones, or a new one before the route's time is over.
async fn lease(it: &Try<'_>) -> Result<Lease, AttemptError> {
    let Try { call, target, .. } = *it;
    let cluster = call.cluster();
    let pool = &call.view.pools[target.replica(cluster).slot];
    let speak = match cluster.params.protocol {
        Protocol::H2 => Speak::Http2,
        Protocol::Auto if call.grpc => Speak::Http2,
        // Only HTTP/1.1 can switch to another protocol.
        Protocol::Auto if !call.upgrades => Speak::Either,
        Protocol::Auto | Protocol::Http1 => Speak::Http1,
    };
    let look = match call.repeatable {
        RepeatableMethods::None => Look::Ask,
        RepeatableMethods::Safe | RepeatableMethods::Idempotent => Look::Glance,
    };
    // Where nodes are told whose a connection is, each client has its own.
    let introduces = cluster.params.proxy_protocol.is_some();
    let ends = introduces.then(|| call.connection.stream.ends()).flatten();
    let ready = (it.reuse == Reuse::Pooled).then(|| pool.ready(speak, look, ends));
    if let Some(lease) = ready.flatten() {
        return Ok(lease);
    }
    let connecting = timeout_at(call.deadline, pool.connected(speak, ends)).await;
    // The attempt's time begins with the connection.
    clock::now();
    connecting
        .map_err(|_elapsed| AttemptError::Deadline)?
        .map_err(AttemptError::Connect)
}

/// Sends the request as a stream of the node's HTTP/2 connection, once it takes one more.
async fn send_http2(
    it: &Try<'_>,
    lease: Http2Lease,
) -> Result<(NodeHead, Http2Exchange), AttemptError> {
    let Try { call, target, .. } = *it;
    let body = RequestBody::of(call.source.as_ref());
    let length = body.size_hint().exact();
    let request = rewrite::http2::request(call, call.told(target, it.number), length);
    let request = request.ok_or(AttemptError::Client(ClientFault::Target))?;
    let mut unsent = Some((lease, request, body));
    let mut exchange = None;
    let head = answered(it, |cx| {
        if let Some((lease, ..)) = &mut unsent {
            let ready = ready!(lease.stream.poll_ready(cx));
            ready.map_err(|error| AttemptError::Unsent(error.into()))?;
        }
        if let Some((lease, request, body)) = unsent.take() {
            exchange = Some(Http2Exchange::open(lease, request, body)?);
        }
        let Some(exchange) = &mut exchange else {
            return Poll::Pending;
        };
        exchange.poll_head(cx).map_ok(NodeHead::http2)
    });
    let head = head.await?;
    if head.fields().known(Known::ContentLength).nth(1).is_some() {
        return Err(AttemptError::Lengths);
    }
    let exchange = exchange.expect("a head must come by an exchange");
    Ok((head, exchange))
}

/// The response's head, of those that `poll_head` finds; 1xx responses before it go to the client.
async fn answered(
    it: &Try<'_>,
    mut poll_head: impl FnMut(&mut task::Context<'_>) -> Poll<Result<NodeHead, AttemptError>>,
) -> Result<NodeHead, AttemptError> {
    let Try { call, target, .. } = *it;
    let mut interims = 0;
    let mut pause = Alarm::default();
    in_time(it, |cx| {
        while let Poll::Ready(head) = poll_head(cx)? {
            match head.status().as_u16() {
                101 if may_switch(call, &head) => return Poll::Ready(Ok(head)),
                101 => return Poll::Ready(Err(AttemptError::Switched)),
                100..200 if interims == INTERIMS_MAX => {
                    return Poll::Ready(Err(AttemptError::Interims));
                }
                100..200 => {
                    interims += 1;
                    call.asker
                        .passes_interim(&call.reply(head, target, it.number));
                }
                _ => return Poll::Ready(Ok(head)),
            }
        }
        call.asker
            .poll_interims(cx, &mut pause, call.outcome.started());
        Poll::Pending
    })
    .await
}

/// Whether the node may change the protocol as it says by this head: as it was asked to, and never
/// by HTTP/2 (RFC 9113 8.6).
fn may_switch(call: &Call<'_>, head: &NodeHead) -> bool {
    let is_http1 = matches!(head, NodeHead::Http1(_));
    is_http1 && call.upgrades && call.received.is_switch(head.fields())
}

/// Waits for the response's head as long as [`Expiry`] lets it. What the client spoiled is the
/// client's fault.
async fn in_time<T>(
    it: &Try<'_>,
    mut sent: impl FnMut(&mut task::Context<'_>) -> Poll<Result<T, AttemptError>>,
) -> Result<T, AttemptError> {
    let mut expiry = Expiry::new(it);
    let outcome = poll_fn(|cx| match sent(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => expiry.poll(cx).map(Err),
    });
    let outcome = outcome.await;
    outcome.map_err(|error| {
        let fault = it.call.source.as_ref().and_then(Source::fault);
        fault.map_or(error, AttemptError::Client)
    })
}

// === impl Try ===

impl<'a> Try<'a> {
    /// One that begins now.
    pub(super) fn new(
        call: &'a Call<'a>,
        pick: &'a Pick,
        target: Target,
        reuse: Reuse,
        number: u32,
    ) -> Self {
        let node = &target.replica(call.cluster()).node;
        Self {
            call,
            pick,
            target,
            reuse,
            number,
            seen: node.standing(),
            began: clock::recent(),
        }
    }

    fn cluster(&self) -> &'a Cluster {
        self.call.cluster()
    }

    fn node(&self) -> &'a Node {
        &self.target.replica(self.cluster()).node
    }
}
