//! The whole failover: the nodes of the plan, one after the other, until one answers.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderName;
use tokio::time::{Instant, sleep};

use super::answer::Refusal;
use super::attempt::{Answer, Reuse, Try, attempt};
use super::body::{Activity, Exchange, Source};
use super::connection::{Asker, Connection};
use super::deadline::Patience;
use super::error::AttemptError;
use super::outcome::Outcome;
use super::reply::{NodeHead, NodeReply};
use super::request::Received;
use super::retry_after::retry_after;
use super::rewrite::Told;
use super::thread::Context;
use super::view::View;
use crate::cluster::counters::{RANK_MAX, denied_index, retry_index};
use crate::cluster::{Cluster, Next, Pick, Target};
use crate::net::clock;
use crate::reason::Reason;
use crate::retry::{Decision, Denied, Failure, GrpcCode, RepeatableMethods, Situation};

/// Marks a retry, by its number, so that the next keyway leaves trying again to this one: attempts
/// would multiply from hop to hop.
pub(super) static ATTEMPT: HeaderName = HeaderName::from_static("x-keyway-attempt");

/// A request on its way to nodes: all that stays the same from attempt to attempt.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) connection: &'a Rc<Connection>,
    /// Who is told what comes before the response.
    pub(super) asker: Asker<'a>,
    pub(super) view: &'a Rc<View>,
    /// The place of the cluster in the state.
    pub(super) cluster: usize,
    pub(super) received: &'a Received,
    /// Whether the node is asked whether it wants the body, as the client asked.
    pub(super) passes_expect: bool,
    /// Whether the node is offered another protocol, as the client offers it.
    pub(super) upgrades: bool,
    pub(super) grpc: bool,
    pub(super) repeatable: RepeatableMethods,
    /// The body; `None` when there is none.
    pub(super) source: Option<Source>,
    pub(super) deadline: Instant,
    /// What the client said of its own deadline.
    pub(super) patience: Option<Patience>,
    pub(super) activity: Activity,
    pub(super) choice: Choice,
    pub(super) outcome: &'a Outcome,
}

/// Which nodes a request may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Those that are well: it can wait for one.
    Well,
    /// Any, as a last resort.
    Any,
}

/// A node's answer that is passed on.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) reply: NodeReply,
    pub(super) exchange: Exchange,
}

/// How often a request may lose a place that it was told of, before it is overload.
const PLACES_LOST_MAX: u32 = 3;

/// What an attempt led to.
type Attempted = Result<Answer, AttemptError>;

/// Tries the nodes that `pick` finds until one answers, or no other may be tried.
///
/// # Errors
/// What keyway answers itself.
pub(super) async fn forward(call: &Call<'_>, mut pick: Pick) -> Result<Forwarded, Refusal> {
    let mut target = call.place(&mut pick).await?;
    let (mut reuse, mut sent, mut attempts, mut lost) = (Reuse::Pooled, false, 0, 0);
    loop {
        attempts += 1;
        call.outcome.attempted(target);
        let mut number = attempts;
        let attempted = match call.hedges_after(target) {
            // In its place: it is a few hundred bytes before it begins, too.
            None => pin!(attempt(Try::new(call, &pick, target, reuse, attempts))).await,
            Some(after) => {
                // Boxed: few clusters are hedged, and two attempts take twice the room.
                let hedged = call.hedged(&mut pick, (target, reuse, attempts), after);
                let tried = Box::pin(hedged).await;
                (target, number, attempts) = (tried.target, tried.attempt, tried.attempts);
                tried.attempted
            }
        };
        if let Err(AttemptError::Full) = attempted
            && reuse == Reuse::Pooled
            && lost < PLACES_LOST_MAX
        {
            // Another thread took the last place in the meantime: that was no attempt.
            (lost, attempts) = (lost + 1, attempts - 1);
            call.outcome.takes_back();
            pick.give_back();
            target = call.place(&mut pick).await?;
            continue;
        }
        sent |= !matches!(
            attempted,
            Err(AttemptError::Connect(_) | AttemptError::Full)
        );
        let next = failure(call, &attempted).and_then(|failure| {
            call.outcome.failed(target, failure);
            call.retry(failure, &attempted, &mut pick, target, attempts)
        });
        let Some((next, wait)) = next else {
            let answer = attempted.map_err(|error| Refusal::from(error.reason(sent)))?;
            return Ok(call.conclude(answer, target, number));
        };
        // What made one idle connection stale (a deploy, a common idle timeout) did it to others:
        // a request that met one meets no second one, of which the last candidate would be lost.
        let stale = attempted.as_ref().is_err_and(AttemptError::met_stale);
        if let Ok(answer) = attempted {
            answer.exchange.discard();
        }
        reuse = if next == target || stale {
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
pub(super) fn failure(call: &Call<'_>, attempted: &Attempted) -> Option<Failure> {
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
pub(super) fn grpc_status(head: &NodeHead) -> Option<GrpcCode> {
    GrpcCode::new(head.text("grpc-status")?.parse().ok()?)
}

// === impl Call ===

impl Call<'_> {
    pub(super) fn thread(&self) -> &Rc<Context> {
        &self.connection.thread
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.view.state.clusters[self.cluster]
    }

    /// What may be told of the attempt at `target`.
    pub(super) fn told(&self, target: Target, attempt: u32) -> Told<'_> {
        Told {
            view: self.view,
            cluster: self.cluster(),
            target,
            attempt,
        }
    }

    /// A node's answer by this head.
    pub(super) fn reply(&self, head: NodeHead, target: Target, attempt: u32) -> NodeReply {
        NodeReply {
            head,
            view: Rc::clone(self.view),
            cluster: self.cluster,
            target,
            attempt,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.thread().millis(clock::recent())
    }

    /// `pick` as this request goes by it: who may not be repeated does not try who may not answer.
    pub(super) fn prepared(&self, pick: Pick) -> Pick {
        let is_replayable = self.source.as_ref().is_none_or(Source::is_replayable);
        let is_repeatable = self.repeatable != RepeatableMethods::None && is_replayable;
        pick.leaving_trials(!is_repeatable)
    }

    /// The next node of `pick`.
    pub(super) fn next(&self, pick: &mut Pick) -> Next {
        let next = pick.next(self.cluster(), self.now(), || self.thread().random());
        if let Next::LastResort(target) = next {
            if self.choice == Choice::Well {
                pick.give_back();
                return Next::None;
            }
            let shard = &self.cluster().shards[target.shard];
            let counters = shard.counters.of(self.thread().index);
            counters.last_resorts.increment();
        }
        next
    }

    /// Whether an attempt that waits for a response's head may be given up for another node, as
    /// `pick` finds it, because its own left rotation; the budget grants it then. If not it goes on
    /// waiting: an answer may still come.
    pub(super) fn may_move(&self, pick: &Pick, attempts: u32) -> bool {
        let situation = self.situation(pick, Some(Duration::ZERO), attempts);
        let policy = &self.cluster().params.retry;
        policy.decide(Failure::Left, &situation) == Decision::NextNode && self.withdraw()
    }

    /// Whether the request may wait for a node to be well, after all that were tried led to `refusal`:
    /// when nothing of it was sent; else, as a retry that the budget grants, once.
    pub(super) fn may_wait(&self, refusal: &Refusal, pick: &Pick, resent: &mut bool) -> bool {
        match refusal.reason {
            Reason::NoHealthyNode => true,
            Reason::ConnectFailed | Reason::UpstreamReset if !*resent => {
                let situation = Situation {
                    next_node: true,
                    ..self.situation(pick, Some(Duration::ZERO), 0)
                };
                let failure = Failure::Reset { pooled: false };
                *resent = self.decide(failure, &situation) == Decision::NextNode;
                *resent
            }
            _ => false,
        }
    }

    /// The node that is tried next after `failure`, and how long to wait before; `None` when no
    /// other may be tried.
    fn retry(
        &self,
        failure: Failure,
        attempted: &Attempted,
        pick: &mut Pick,
        target: Target,
        attempts: u32,
    ) -> Option<(Target, Duration)> {
        let wait = self.wait(attempted, attempts);
        let asked_back = attempted.as_ref().ok().and_then(|it| retry_after(&it.head));
        // Who was known not to be usable is not tried twice because it refused again.
        let hopeless = failure == Failure::Connect && pick.has_resorted();
        let situation = Situation {
            only_node: !hopeless && pick.is_only(self.cluster(), target, self.now()),
            asked_back: asked_back.is_some_and(|it| self.has_time_for(it)),
            ..self.situation(pick, wait, attempts)
        };
        let (next, wait) = match self.decide(failure, &situation) {
            Decision::NextNode => {
                let next = self.next(pick).target();
                if next.is_none() {
                    self.count_denied(Denied::NoCandidate);
                }
                (next, wait)
            }
            Decision::SameNode => (Some(target), wait.max(asked_back)),
            Decision::Stop(denied) => {
                self.count_denied(denied);
                (None, None)
            }
        };
        let next = next.zip(wait)?;
        self.count_retry(failure);
        Some(next)
    }

    /// Counts what is passed on.
    fn conclude(&self, answer: Answer, target: Target, attempt: u32) -> Forwarded {
        if target.rank > 0 {
            let shard = &self.cluster().shards[target.shard];
            let failovers = &shard.counters.of(self.thread().index).failovers;
            failovers[target.rank.min(RANK_MAX) - 1].increment();
        }
        Forwarded {
            reply: self.reply(answer.head, target, attempt),
            exchange: answer.exchange,
        }
    }

    /// What follows `failure`: the policy's decision, if the budget grants it.
    fn decide(&self, failure: Failure, situation: &Situation) -> Decision {
        let decision = self.cluster().params.retry.decide(failure, situation);
        let denied = matches!(decision, Decision::Stop(_));
        // What reached no node's application does not add to any node's load, and what left its node
        // was granted already.
        let free = matches!(failure, Failure::Connect | Failure::Left);
        if denied || free || self.withdraw() {
            decision
        } else {
            Decision::Stop(Denied::Budget)
        }
    }

    /// What is known of the request, if `wait` passes before another attempt.
    fn situation(&self, pick: &Pick, wait: Option<Duration>, attempts: u32) -> Situation {
        Situation {
            repeatable: self.repeatable,
            body_replayable: self.source.as_ref().is_none_or(Source::is_replayable),
            attempts,
            time_left: wait.is_some_and(|wait| self.has_time_for(wait)),
            next_node: pick.has_next(self.cluster(), self.now()),
            only_node: false,
            asked_back: false,
            nested: self.received.fields().first(&ATTEMPT).is_some(),
        }
    }

    pub(super) fn has_time_for(&self, wait: Duration) -> bool {
        clock::now() + wait < self.deadline
    }

    /// Takes one retry of the cluster's budget, if there is one.
    pub(super) fn withdraw(&self) -> bool {
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
