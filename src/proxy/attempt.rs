//! One try at one node: a connection, the request on it, and the head of the response in time.

use std::cell::Cell;
use std::error::Error as _;
use std::rc::Rc;

use http::{Response, response};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info};

use super::body::{Exchange, RequestBody, Source};
use super::error::{AttemptError, classify};
use super::forward::Call;
use super::rewrite::{http1_request, http2_request};
use super::thread::{Context, View};
use crate::cluster::counters::{Class, HEAD_SENT};
use crate::cluster::{Cluster, Node, Target};
use crate::health::Standing;
use crate::upstream::{Http1Lease, Protocol};

/// The head of a node's response, and the exchange that its body comes by.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: response::Parts,
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
    let started = Instant::now();
    let responded = send(call, target, reuse, number).await;
    let (response, lease) = match responded {
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
    counters.attempt_duration.observe(started.elapsed());
    let (head, incoming) = response.into_parts();
    guard.head.set(Some(Class::of(head.status)));
    let exchange = Exchange::new(
        incoming,
        lease,
        guard,
        call.activity.clone(),
        call.reset(&head),
    );
    Ok(Answer { head, exchange })
}

/// Gets a connection, sends the request on it and waits for the response's head.
async fn send(
    call: &Call,
    target: Target,
    reuse: Reuse,
    number: u32,
) -> Result<(Response<Incoming>, Option<Http1Lease<RequestBody>>), AttemptError> {
    let cluster = call.cluster();
    let pool = &call.view.pools[target.replica(cluster).slot];
    let deadline = |_elapsed| AttemptError::Deadline;
    match (cluster.params.protocol, call.grpc) {
        (Protocol::H2, _) | (Protocol::Auto, true) => {
            let connecting = timeout_at(call.deadline, pool.http2());
            let mut lease = connecting
                .await
                .map_err(deadline)?
                .map_err(AttemptError::Connect)?;
            let request = http2_request(call, target, number);
            let sent = async {
                let ready = lease.sender.ready().await;
                ready.map_err(AttemptError::Unsent)?;
                let response = lease.sender.try_send_request(request).await;
                response.map_err(|mut error| {
                    let unsent = error.take_message().is_some();
                    classify(error.into_error(), unsent, lease.pooled)
                })
            };
            Ok((in_time(call, sent).await?, None))
        }
        (Protocol::Http1, _) | (Protocol::Auto, false) => {
            let connection = async {
                match reuse {
                    Reuse::Pooled => pool.http1().await,
                    Reuse::Fresh => pool.fresh_http1().await,
                }
            };
            let connecting = timeout_at(call.deadline, connection);
            let mut lease = connecting
                .await
                .map_err(deadline)?
                .map_err(AttemptError::Connect)?;
            lease.set_write_timeout(call.idle_timeout());
            let pooled = lease.pooled();
            let sent = lease
                .sender()
                .try_send_request(http1_request(call, target, number));
            let sent = async {
                sent.await.map_err(|mut error| {
                    let unsent = error.take_message().is_some();
                    classify(error.into_error(), unsent, pooled)
                })
            };
            let response = in_time(call, sent).await?;
            Ok((response, Some(lease)))
        }
    }
}

/// Waits for the response's head: as long as the attempt may take once the request is sent, and
/// never past the deadline. What the client spoiled is the client's fault.
async fn in_time<T>(
    call: &Call,
    sent: impl Future<Output = Result<T, AttemptError>>,
) -> Result<T, AttemptError> {
    let outcome = tokio::select! {
        biased;
        outcome = sent => outcome,
        expired = expiry(call) => Err(expired),
    };
    let fault = call.source.as_ref().and_then(Source::fault);
    outcome.map_err(|error| fault.map_or(error, AttemptError::Client))
}

async fn expiry(call: &Call) -> AttemptError {
    if let Some(source) = &call.source
        && timeout_at(call.deadline, source.finished()).await.is_err()
    {
        let slow = source.waits_for_client();
        return if slow {
            AttemptError::SlowClient
        } else {
            AttemptError::Deadline
        };
    }
    let attempt = Instant::now() + call.cluster().params.attempt_timeout;
    sleep_until(attempt.min(call.deadline)).await;
    if attempt < call.deadline {
        AttemptError::TimedOut
    } else {
        AttemptError::Deadline
    }
}

fn observe_refusal(
    call: &Call,
    cluster: &Cluster,
    node: &Node,
    seen: Standing,
    error: &AttemptError,
) {
    let now = call.thread().millis(Instant::now());
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
