//! The whole failover: the nodes of the plan, one after the other, until one answers.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::answer::Refusal;
use super::attempt::{Answer, Reuse, attempt};
use super::body::{Activity, ResponseBody, Source};
use super::connection::Connection;
use super::error::AttemptError;
use super::outcome::Outcome;
use super::reply::{NodeHead, NodeReply, Reply, ReplyHead};
use super::request::Received;
use super::rewrite::Told;
use super::thread::{Context, View};
use crate::cluster::counters::{RANK_MAX, denied_index, retry_index};
use crate::cluster::{Cluster, Pick, Target};
use crate::net::clock;
use crate::reason::Reason;
use crate::retry::{Decision, Denied, Failure, GrpcCode, RepeatableMethods, Situation};

/// A request on its way to nodes: all that stays the same from attempt to attempt.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) connection: Rc<Connection>,
    pub(super) view: Rc<View>,
    /// The place of the cluster in the state.
    pub(super) cluster: usize,
    pub(super) received: Received,
    /// Whether the node is asked whether it wants the body, as the client asked.
    pub(super) passes_expect: bool,
    pub(super) grpc: bool,
    pub(super) repeatable: RepeatableMethods,
    /// The body; `None` when there is none.
    pub(super) source: Option<Source>,
    pub(super) deadline: Instant,
    pub(super) activity: Activity,
    pub(super) outcome: Outcome,
}

/// What an attempt led to.
type Attempted = Result<Answer, AttemptError>;

/// Tries the nodes that `pick` finds until one answers, or no other may be tried.
pub(super) async fn forward(call: Call, mut pick: Pick) -> Reply {
    let Some(mut target) = pick.next(call.cluster(), call.now()) else {
        return refuse(call.outcome, &Reason::NoHealthyNode.into(), call.grpc);
    };
    let (mut reuse, mut sent, mut attempts) = (Reuse::Pooled, false, 0);
    loop {
        attempts += 1;
        call.outcome.attempted(target);
        let attempted = attempt(&call, target, reuse, attempts).await;
        sent |= !matches!(attempted, Err(AttemptError::Connect(_)));
        let Some(failure) = failure(&call, &attempted) else {
            return conclude(call, attempted, target, sent, attempts);
        };
        let wait = call.wait(&attempted, attempts);
        let only_node = pick.is_only(call.cluster(), target, call.now());
        let next = match call.decide(failure, &pick, only_node, wait, attempts) {
            Decision::NextNode => pick.next(call.cluster(), call.now()),
            Decision::SameNode => Some(target),
            Decision::Stop(denied) => {
                call.count_denied(denied);
                None
            }
        };
        let (Some(next), Some(wait)) = (next, wait) else {
            return conclude(call, attempted, target, sent, attempts);
        };
        call.count_retry(failure);
        if let Ok(answer) = attempted {
            answer.exchange.discard();
        }
        reuse = if next == target {
            Reuse::Fresh
        } else {
            Reuse::Pooled
        };
        // Another node is tried at once the first time: it is no worse for the first one's fault.
        if next == target || attempts > 1 {
            sleep(wait).await;
            clock::now();
        }
        target = next;
    }
}

/// What of an attempt the retry policy is asked about.
fn failure(call: &Call, attempted: &Attempted) -> Option<Failure> {
    match attempted {
        Err(error) => error.failure(),
        Ok(answer) => {
            let status = answer.head.status().as_u16();
            let retry = &call.cluster().params.retry;
            let listed = retry
                .on
                .statuses
                .contains(&status)
                .then_some(Failure::Status(status));
            let grpc = call.grpc.then(|| grpc_status(&answer.head)).flatten();
            let grpc = grpc.filter(|it| retry.grpc.contains(it));
            listed.or_else(|| grpc.map(Failure::Grpc))
        }
    }
}

/// The status of a trailers-only gRPC response.
fn grpc_status(head: &NodeHead) -> Option<GrpcCode> {
    GrpcCode::new(head.text("grpc-status")?.parse().ok()?)
}

/// The last attempt's answer, or the refusal that its failure means.
fn conclude(call: Call, attempted: Attempted, target: Target, sent: bool, attempts: u32) -> Reply {
    let Answer { head, exchange } = match attempted {
        Ok(answer) => answer,
        Err(error) => {
            let refusal = Refusal::from(error.reason(sent));
            return refuse(call.outcome, &refusal, call.grpc);
        }
    };
    if target.rank > 0 {
        let shard = &call.cluster().shards[target.shard];
        let failovers = &shard.counters.of(call.thread().index).failovers;
        failovers[target.rank.min(RANK_MAX) - 1].increment();
    }
    call.outcome.responded(head.status());
    Reply {
        head: ReplyHead::Node(call.reply(head, target, attempts)),
        body: ResponseBody::node(exchange, call.outcome),
    }
}

/// keyway's own answer, counted and logged as such.
pub(super) fn refuse(outcome: Outcome, refusal: &Refusal, grpc: bool) -> Reply {
    outcome.refused(refusal.reason);
    let (head, body) = refusal.response(grpc).into_parts();
    outcome.responded(head.status);
    Reply {
        head: ReplyHead::Local(head),
        body: ResponseBody::local(body, outcome),
    }
}

// === impl Call ===

impl Call {
    pub(super) fn thread(&self) -> &Rc<Context> {
        &self.connection.thread
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.view.state.clusters[self.cluster]
    }

    /// What may be told of the attempt at `target`.
    pub(super) fn told(&self, target: Target, attempt: u32) -> Told<'_> {
        Told {
            view: &self.view,
            cluster: self.cluster(),
            target,
            attempt,
        }
    }

    /// A node's answer by this head.
    pub(super) fn reply(&self, head: NodeHead, target: Target, attempt: u32) -> NodeReply {
        NodeReply {
            head,
            view: Rc::clone(&self.view),
            cluster: self.cluster,
            target,
            attempt,
        }
    }

    fn now(&self) -> u64 {
        self.thread().millis(clock::recent())
    }

    /// What follows `failure`: the policy's decision, if the budget grants it.
    fn decide(
        &self,
        failure: Failure,
        pick: &Pick,
        only_node: bool,
        wait: Option<Duration>,
        attempts: u32,
    ) -> Decision {
        let cluster = self.cluster();
        let now = clock::now();
        let situation = Situation {
            repeatable: self.repeatable,
            body_replayable: self.source.as_ref().is_none_or(Source::is_replayable),
            attempts,
            time_left: wait.is_some_and(|wait| now + wait < self.deadline),
            next_node: pick.has_next(cluster, self.now()),
            only_node,
        };
        let decision = cluster.params.retry.decide(failure, &situation);
        let denied = matches!(decision, Decision::Stop(_));
        // What reached no node's application does not add to any node's load.
        if denied || failure == Failure::Connect || self.withdraw() {
            decision
        } else {
            Decision::Stop(Denied::Budget)
        }
    }

    fn withdraw(&self) -> bool {
        let cluster = self.cluster();
        let requests = cluster.counters.sum(|it| it.requests.value());
        let mut budget = cluster
            .budget
            .lock()
            .expect("a budget must not be poisoned");
        budget.withdraw(requests, self.thread().uptime())
    }

    /// How long to wait before the next attempt; `None` when the node forbids one by
    /// `grpc-retry-pushback-ms` (gRFC A6).
    fn wait(&self, attempted: &Attempted, attempts: u32) -> Option<Duration> {
        let answered = attempted.as_ref().ok().filter(|_| self.grpc);
        let pushback = answered.and_then(|answer| {
            let value = answer.head.text("grpc-retry-pushback-ms")?;
            Some(value.parse().ok().map(Duration::from_millis))
        });
        let backoff = self.cluster().params.retry.backoff;
        let jittered = || backoff.full_jitter(attempts - 1, self.thread().random());
        pushback.unwrap_or_else(|| Some(jittered()))
    }

    fn count_retry(&self, failure: Failure) {
        let counters = self.cluster().counters.of(self.thread().index);
        counters.retries[retry_index(failure)].increment();
    }

    fn count_denied(&self, denied: Denied) {
        if let Some(index) = denied_index(denied) {
            let counters = self.cluster().counters.of(self.thread().index);
            counters.retries_denied[index].increment();
        }
    }
}
