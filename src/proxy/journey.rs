//! Where a request went and what of its time passed at nodes, kept only for the access log and spans.

use std::rc::Rc;
use std::time::Duration;

use http::{StatusCode, Version};
use tokio::time::Instant;

use super::body::Activity;
use super::view::View;
use crate::cluster::{Node, Target};
use crate::reason::Reason;
use crate::retry::Failure;
use crate::trace_context::SpanId;

/// A request's way from node to node.
#[derive(Debug, Default)]
pub(super) struct Journey {
    tries: Vec<Tried>,
    /// Attempts under way: two where a request is hedged.
    under_way: u32,
    /// Since when there is any.
    since: Option<Instant>,
    /// How long there was any before that.
    at_nodes: Duration,
    /// When the last of them came to its head, or failed.
    last: Option<Instant>,
    answered: bool,
    responded: Option<Instant>,
    /// What counts the bytes that the client sends.
    activity: Option<Activity>,
}

/// An attempt.
#[derive(Debug)]
pub(super) struct Tried {
    /// The state that it was made by: a held request sees two.
    view: Rc<View>,
    cluster: usize,
    target: Target,
    /// What failed.
    pub(super) failure: Option<Failure>,
    /// Its span, where the request is recorded.
    pub(super) span: Option<SpanId>,
    pub(super) began: Instant,
    /// When it came to its answer's head, or failed, and how.
    pub(super) arrived: Option<(Instant, Arrival)>,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// The head of an answer.
    Head(StatusCode, Version),
    /// No answer, for this reason if it was the last attempt.
    Failure(Reason),
}

impl Journey {
    /// What the client sends from now on is counted by `activity`.
    pub(super) fn follows(&mut self, activity: &Activity) {
        self.activity = Some(activity.clone());
    }

    /// An attempt begins.
    pub(super) fn begins(
        &mut self,
        (view, cluster): (&Rc<View>, usize),
        target: Target,
        span: Option<SpanId>,
        now: Instant,
    ) {
        self.tries.push(Tried {
            view: Rc::clone(view),
            cluster,
            target,
            failure: None,
            span,
            began: now,
            arrived: None,
        });
        self.under_way += 1;
        self.since.get_or_insert(now);
        self.answered = false;
    }

    /// The attempt that began last was none.
    pub(super) fn takes_back(&mut self) {
        self.tries.pop();
        self.under_way = self.under_way.saturating_sub(1);
        if self.under_way == 0 {
            self.since = None;
        }
    }

    /// An attempt came to its answer's head, or failed.
    pub(super) fn arrives(&mut self, target: Target, now: Instant, arrival: Arrival) {
        if let Some(tried) = self.last_mut(target) {
            tried.arrived = Some((now, arrival));
        }
        self.under_way = self.under_way.saturating_sub(1);
        self.last = Some(now);
        self.answered = matches!(arrival, Arrival::Head(..));
        if self.under_way == 0
            && let Some(since) = self.since.take()
        {
            self.at_nodes += now.saturating_duration_since(since);
        }
    }

    /// What failed of the attempt at `target`.
    pub(super) fn failed(&mut self, target: Target, failure: Failure) {
        if let Some(tried) = self.last_mut(target) {
            tried.failure.get_or_insert(failure);
        }
    }

    /// The span of the attempt at `target`.
    pub(super) fn span(&self, target: Target) -> Option<SpanId> {
        let mut tries = self.tries.iter().rev();
        tries.find(|it| it.target == target)?.span
    }

    /// The last attempt at `target`: no two are under way there.
    fn last_mut(&mut self, target: Target) -> Option<&mut Tried> {
        let mut tries = self.tries.iter_mut().rev();
        tries.find(|it| it.target == target)
    }

    /// The answer's head goes to the client.
    pub(super) fn responds(&mut self, now: Instant) {
        self.responded = Some(now);
    }

    /// The attempts, in the order in which they began.
    pub(super) fn tries(&self) -> &[Tried] {
        &self.tries
    }

    /// When an attempt last came to its answer's head, or failed.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// The bytes of its body that came from the client.
    pub(super) fn received(&self) -> u64 {
        self.activity.as_ref().map_or(0, Activity::received)
    }

    /// From the request's head to the head of the node's answer, if one answered.
    pub(super) fn first_byte(&self, started: Instant) -> Option<Duration> {
        let last = self.last.filter(|_| self.answered)?;
        Some(last.saturating_duration_since(started))
    }

    /// What of the time to the answer's head no node was waited for: keyway's own work, queues and
    /// back-offs. `None` without an answer.
    pub(super) fn overhead(&self, started: Instant) -> Option<Duration> {
        // An attempt that was dropped for another's answer was under way to that.
        let dropped = self.since.zip(self.last);
        let dropped = dropped.map(|(since, last)| last.saturating_duration_since(since));
        let at_nodes = self.at_nodes + dropped.unwrap_or_default();
        let whole = self.responded?.saturating_duration_since(started);
        Some(whole.saturating_sub(at_nodes))
    }

    /// Forgets all of it, but for the memory.
    pub(super) fn clear(&mut self) {
        let mut tries = std::mem::take(&mut self.tries);
        tries.clear();
        *self = Self {
            tries,
            ..Self::default()
        };
    }
}

impl Tried {
    /// The node's id.
    pub(super) fn node(&self) -> &str {
        self.place().2.id()
    }

    /// Where it was made.
    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// The cluster's name, the shard's, and the node.
    pub(super) fn place(&self) -> (&str, &str, &Node) {
        let cluster = &self.view.state.clusters[self.cluster];
        let shard = &cluster.shards[self.target.shard];
        (
            &cluster.name,
            &shard.name,
            &self.target.replica(cluster).node,
        )
    }

    /// Whether the cluster's connections are under TLS.
    pub(super) fn is_https(&self) -> bool {
        self.view.state.clusters[self.cluster].params.tls.is_some()
    }
}
