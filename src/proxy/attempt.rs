//! One try at one node: a connection, the request on it, and the head of the response in time.

use std::cell::Cell;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{self, Poll, ready};

use http::response;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::body::{ClientFault, Exchange, NodeBody, RequestBody, Source};
use super::error::{AttemptError, classify};
use super::exchange::Http1Exchange;
use super::forward::Call;
use super::reply::NodeHead;
use super::rewrite;
use super::thread::{Context, View};
use crate::cluster::counters::{Class, HEAD_SENT};
use crate::cluster::{Cluster, Node, Target};
use crate::head::{Known, content_length};
use crate::health::Standing;
use crate::http1::Length;
use crate::net::{Alarm, ResponseBytes, clock};
use crate::retry::RepeatableMethods;
use crate::upstream::{Http1Lease, Look, Pool, Protocol};

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

/// Counts an attempt while it is under way, and how it ended.
#[derive(Debug)]
pub(super) struct AttemptGuard {
    thread: Rc<Context>,
    view: Rc<View>,
    cluster: usize,
    target: Target,
    head: Cell<Option<Class>>,
    ended: Cell<Option<Class>>,
}

/// Tries `target` once.
pub(super) async fn attempt(
    call: &Call,
    target: Target,
    reuse: Reuse,
    number: u32,
) -> Result<Answer, AttemptError> {
    let cluster = call.cluster();
    let node = &target.replica(cluster).node;
    let seen = node.standing();
    let guard = AttemptGuard::begin(call, target);
    let started = clock::recent();
    let responded = send(call, target, reuse, number).await;
    let arrived = clock::now();
    let (head, body) = match responded {
        Ok(responded) => responded,
        Err(error) => {
            guard.ended(error.class());
            if error.blames_connection() {
                observe_refusal(call, cluster, node, seen, &error);
            }
            debug!(node = node.id(), error = %error, cause = ?error.source(), "an attempt failed");
            return Err(error);
        }
    };
    if node.answered(seen) {
        info!(
            cluster = cluster.name,
            node = node.id(),
            "the node answers again"
        );
    }
    let counters = cluster.shards[target.shard]
        .counters
        .of(call.thread().index);
    counters.attempt_duration.observe(arrived - started);
    guard.head.set(Some(Class::of(head.status())));
    let length = length(&head, &body);
    let exchange = Exchange::new(body, length, guard, call.activity.clone());
    Ok(Answer { head, exchange })
}

/// How the body of a response is framed; of HTTP/2 as HTTP/1.1 would frame it.
fn length(head: &NodeHead, body: &NodeBody) -> Length {
    match (head, body) {
        (NodeHead::Http1(head), _) => head.line.length,
        (NodeHead::Http2(_), body) if body.is_at_end() => Length::Empty,
        (NodeHead::Http2(_), _) => {
            let declared = head.fields().known(Known::ContentLength).next();
            declared
                .and_then(content_length)
                .map_or(Length::Chunked, Length::Exact)
        }
    }
}

/// Gets a connection, sends the request on it and waits for the response's head.
async fn send(
    call: &Call,
    target: Target,
    reuse: Reuse,
    number: u32,
) -> Result<(NodeHead, NodeBody), AttemptError> {
    let cluster = call.cluster();
    let pool = &call.view.pools[target.replica(cluster).slot];
    match (cluster.params.protocol, call.grpc) {
        (Protocol::H2, _) | (Protocol::Auto, true) => {
            let (head, body) = send_http2(call, target, number, pool).await?;
            Ok((NodeHead::Http2(head), NodeBody::Http2(body)))
        }
        (Protocol::Http1, _) | (Protocol::Auto, false) => {
            let lease = http1_lease(call, reuse, pool).await?;
            let mut exchange = Http1Exchange::new(lease, call, call.told(target, number));
            let head = send_http1(call, target, number, &mut exchange).await?;
            Ok((NodeHead::Http1(head), NodeBody::Http1(exchange)))
        }
    }
}

/// A connection from the idle ones, or a new one before the route's time is over.
async fn http1_lease(
    call: &Call,
    reuse: Reuse,
    pool: &Pool<RequestBody>,
) -> Result<Http1Lease<RequestBody>, AttemptError> {
    let look = match call.repeatable {
        RepeatableMethods::None => Look::Ask,
        RepeatableMethods::Safe | RepeatableMethods::Idempotent => Look::Glance,
    };
    let idle = (reuse == Reuse::Pooled).then(|| pool.idle_http1(look));
    if let Some(lease) = idle.flatten() {
        return Ok(lease);
    }
    let connecting = timeout_at(call.deadline, pool.fresh_http1()).await;
    // The attempt's time begins with the connection.
    clock::now();
    connecting
        .map_err(|_elapsed| AttemptError::Deadline)?
        .map_err(AttemptError::Connect)
}

/// Sends the request on its own connection, while the client stays and the time lasts.
async fn send_http1(
    call: &Call,
    target: Target,
    number: u32,
    exchange: &mut Http1Exchange,
) -> Result<ResponseBytes, AttemptError> {
    let mut interims = 0;
    let mut pause = Alarm::default();
    in_time(call, |cx| {
        loop {
            let polled = exchange.poll_head(cx, call.received.method());
            let Poll::Ready(head) = polled? else {
                break;
            };
            match head.line.status.as_u16() {
                101 => return Poll::Ready(Err(AttemptError::Switched)),
                100..200 if interims == INTERIMS_MAX => {
                    return Poll::Ready(Err(AttemptError::Interims));
                }
                100..200 => {
                    interims += 1;
                    let head = NodeHead::Http1(head);
                    call.connection
                        .passes_interim(&call.reply(head, target, number));
                }
                _ => return Poll::Ready(Ok(head)),
            }
        }
        call.connection
            .poll_interims(cx, &mut pause, call.outcome.started());
        Poll::Pending
    })
    .await
}

/// Sends the request as a stream of the node's HTTP/2 connection.
async fn send_http2(
    call: &Call,
    target: Target,
    number: u32,
    pool: &Pool<RequestBody>,
) -> Result<(response::Parts, Incoming), AttemptError> {
    let connecting = timeout_at(call.deadline, pool.http2()).await;
    let mut lease = connecting
        .map_err(|_elapsed| AttemptError::Deadline)?
        .map_err(AttemptError::Connect)?;
    let request = rewrite::http2::request(call, call.told(target, number));
    let request = request.ok_or(AttemptError::Client(ClientFault::Target))?;
    // hyper keeps 1xx responses for itself, so the client is told to go on by keyway.
    call.connection.says_continue();
    let sent = async {
        let ready = lease.sender.ready().await;
        ready.map_err(|error| AttemptError::Unsent(error.into()))?;
        let response = lease.sender.try_send_request(request).await;
        response.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            classify(error.into_error(), unsent, lease.pooled)
        })
    };
    let mut sent = pin!(sent);
    let mut pause = Alarm::default();
    let response = in_time(call, |cx| {
        call.connection
            .poll_interims(cx, &mut pause, call.outcome.started());
        sent.as_mut().poll(cx)
    });
    Ok(response.await?.into_parts())
}

/// Waits for the response's head: as long as the attempt may take once the request is sent, and
/// never past the deadline. What the client spoiled is the client's fault.
async fn in_time<T>(
    call: &Call,
    mut sent: impl FnMut(&mut task::Context<'_>) -> Poll<Result<T, AttemptError>>,
) -> Result<T, AttemptError> {
    let mut expiry = Expiry::default();
    let outcome = poll_fn(|cx| match sent(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => expiry.poll(cx, call).map(Err),
    });
    let outcome = outcome.await;
    outcome.map_err(|error| {
        let fault = call.source.as_ref().and_then(Source::fault);
        fault.map_or(error, AttemptError::Client)
    })
}

/// The time of one attempt.
#[derive(Default)]
struct Expiry {
    alarm: Alarm,
    /// When the attempt is over, since it is the node's turn.
    attempt: Option<Instant>,
}

impl Expiry {
    fn poll(&mut self, cx: &mut task::Context<'_>, call: &Call) -> Poll<AttemptError> {
        let source = call.source.as_ref();
        // A client that waits to be told leaves the node its turn.
        let uploading = source.filter(|it| it.poll_finished(cx).is_pending());
        if let Some(source) = uploading.filter(|_| !call.connection.expects_continue()) {
            self.attempt = None;
            ready!(self.alarm.poll_until(cx, call.deadline));
            return Poll::Ready(if source.waits_for_client() {
                AttemptError::SlowClient
            } else {
                AttemptError::Deadline
            });
        }
        let limit = call.cluster().params.attempt_timeout;
        let attempt = *self.attempt.get_or_insert_with(|| {
            let now = if source.is_none() {
                clock::recent()
            } else {
                clock::now()
            };
            now + limit
        });
        ready!(self.alarm.poll_until(cx, attempt.min(call.deadline)));
        Poll::Ready(if attempt < call.deadline {
            AttemptError::TimedOut
        } else {
            AttemptError::Deadline
        })
    }
}

fn observe_refusal(
    call: &Call,
    cluster: &Cluster,
    node: &Node,
    seen: Standing,
    error: &AttemptError,
) {
    let now = call.thread().millis(clock::recent());
    if node.refused(seen, now, call.thread().random()) {
        let cause = error.source().map(ToString::to_string);
        info!(
            cluster = cluster.name,
            node = node.id(),
            ?cause,
            "the node is not tried first for a while"
        );
    }
}

// === impl AttemptGuard ===

impl AttemptGuard {
    fn begin(call: &Call, target: Target) -> Self {
        let guard = Self {
            thread: Rc::clone(call.thread()),
            view: Rc::clone(&call.view),
            cluster: call.cluster,
            target,
            head: Cell::new(None),
            ended: Cell::new(None),
        };
        guard.node().begin();
        guard
    }

    /// The attempt ended as `class`.
    pub(super) fn ended(&self, class: Class) {
        self.ended.set(Some(class));
    }

    /// The response broke off after its head, when nothing can be tried again.
    pub(super) fn broke(&self) {
        self.ended(Class::Error);
        let cluster = &self.view.state.clusters[self.cluster];
        cluster.counters.of(self.thread.index).retries_denied[HEAD_SENT].increment();
    }

    /// The whole response was read.
    pub(super) fn complete(&self) {
        self.ended.set(self.head.get());
    }

    fn node(&self) -> &Node {
        &self
            .target
            .replica(&self.view.state.clusters[self.cluster])
            .node
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        let class = self.ended.get().unwrap_or(Class::Aborted);
        let node = self.node();
        node.end();
        node.counters.of(self.thread.index).attempts[class as usize].increment();
    }
}
