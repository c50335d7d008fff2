//! A second node beside the first, for a safe request whose answer takes longer than most.
//!
//! Whoever answers first is the answer; the other attempt is dropped, which resets its stream or
//! closes its connection. A hedge is a retry to the budget, so that a slow cluster is not asked twice
//! for everything.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::sleep;

use super::attempt::{Answer, Reuse, Try, attempt};
use super::error::AttemptError;
use super::forward::{Call, failure};
use crate::cluster::counters::Hedged;
use crate::cluster::desired::HedgeAfter;
use crate::cluster::{Next, Pick, Target};
use crate::net::clock;
use crate::retry::RepeatableMethods;

/// What an attempt led to, and where it was made.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) attempted: Result<Answer, AttemptError>,
    pub(super) target: Target,
    /// Its number.
    pub(super) attempt: u32,
    /// The attempts so far.
    pub(super) attempts: u32,
}

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Answer, AttemptError>> + 'a>>;

impl Call<'_> {
    /// How long the node at `target` has before another is asked too; `None` when none is.
    pub(super) fn hedges_after(&self, target: Target) -> Option<Duration> {
        let after = self.cluster().params.hedge?;
        let safe = self.repeatable == RepeatableMethods::Safe && self.source.is_none();
        // An upgrade is one connection's.
        if !safe || self.upgrades {
            return None;
        }
        match after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::P95 => self.cluster().shards[target.shard].p95.get(),
        }
    }

    /// Tries `target`, and after `after` the next node of `pick` beside it.
    pub(super) async fn hedged(
        &self,
        pick: &mut Pick,
        (target, reuse, attempts): (Target, Reuse, u32),
        after: Duration,
    ) -> Tried {
        let at_first = pick.clone();
        let mut first: Attempt<'_> =
            Box::pin(attempt(Try::new(self, &at_first, target, reuse, attempts)));
        let only = |attempted| Tried {
            attempted,
            target,
            attempt: attempts,
            attempts,
        };
        tokio::select! {
            biased;
            attempted = &mut first => return only(attempted),
            () = sleep(after) => {}
        }
        clock::now();
        let Some(next) = self.hedge(pick, attempts) else {
            return only(first.await);
        };
        let number = attempts + 1;
        self.outcome.attempted(next);
        let at_second = pick.clone();
        let second = Try::new(self, &at_second, next, Reuse::Pooled, number);
        let second: Attempt<'_> = Box::pin(attempt(second));
        let (attempted, is_second) = self.first_of(first, second, [target, next]).await;
        let (target, attempt) = if is_second {
            self.count_hedge(Hedged::Won);
            (next, number)
        } else {
            self.outcome.answers(target);
            (target, attempts)
        };
        Tried {
            attempted,
            target,
            attempt,
            attempts: number,
        }
    }

    /// The node that is asked beside the first, if there is one that is well and the budget grants it.
    fn hedge(&self, pick: &mut Pick, attempts: u32) -> Option<Target> {
        if attempts >= self.cluster().params.retry.attempts || !self.has_time_for(Duration::ZERO) {
            return None;
        }
        let Next::Well(next) = self.next(pick) else {
            return None;
        };
        if !self.withdraw() {
            pick.give_back();
            self.count_hedge(Hedged::Denied);
            return None;
        }
        self.count_hedge(Hedged::Sent);
        Some(next)
    }

    /// What the first of two to succeed led to, else what the last did; and whether it was the second.
    async fn first_of<'a>(
        &self,
        mut first: Attempt<'a>,
        mut second: Attempt<'a>,
        targets: [Target; 2],
    ) -> (Result<Answer, AttemptError>, bool) {
        let (attempted, is_second) = tokio::select! {
            biased;
            attempted = &mut first => (attempted, false),
            attempted = &mut second => (attempted, true),
        };
        let failure = failure(self, &attempted);
        if let Some(failure) = failure {
            self.outcome
                .failed(targets[usize::from(is_second)], failure);
        }
        match attempted {
            Ok(answer) if failure.is_some() => answer.exchange.discard(),
            Ok(answer) => return (Ok(answer), is_second),
            Err(_) => {}
        }
        let other = if is_second { first } else { second };
        (other.await, !is_second)
    }

    fn count_hedge(&self, what: Hedged) {
        let counters = self.cluster().counters.of(self.thread().index);
        counters.hedges[what as usize].increment();
    }
}
