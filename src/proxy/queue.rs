//! A request's first node, and the wait for a place where a cluster is capped.

use tokio::time::timeout_at;

use super::answer::Refusal;
use super::forward::Call;
use crate::cluster::counters::Queued;
use crate::cluster::{Next, Pick, Target};
use crate::net::clock;
use crate::reason::Reason;

impl Call<'_> {
    /// The next node of `pick`, waiting for a place at it for as long as the cluster's queue allows.
    ///
    /// # Errors
    /// When there is no node to try, or none has a place.
    pub(super) async fn place(&self, pick: &mut Pick) -> Result<Target, Refusal> {
        let cluster = self.cluster();
        // Nobody overtakes those who wait.
        let others_wait =
            cluster.params.caps.queue > 0 && cluster.queue(pick.shard(cluster)).waiting() > 0;
        let next = if others_wait {
            Next::Full
        } else {
            self.next(pick)
        };
        match next {
            Next::Well(target) | Next::LastResort(target) => Ok(target),
            // Boxed: most requests never wait.
            Next::Full => Box::pin(self.queue(pick)).await,
            Next::None => Err(Reason::NoHealthyNode.into()),
        }
    }

    async fn queue(&self, pick: &mut Pick) -> Result<Target, Refusal> {
        let cluster = self.cluster();
        let caps = cluster.params.caps;
        let Some(mut waiting) = cluster.queue(pick.shard(cluster)).enter(caps.queue) else {
            return Err(self.overloaded(Queued::Refused));
        };
        let until = (clock::now() + caps.queue_timeout).min(self.deadline);
        // A place that became free before anybody waited woke nobody.
        let mut is_first = cluster.queue(pick.shard(cluster)).waiting() == 1;
        loop {
            if !std::mem::take(&mut is_first) {
                if timeout_at(until, waiting.changed()).await.is_err() {
                    return Err(self.overloaded(Queued::TimedOut));
                }
                clock::now();
            }
            match self.next(pick) {
                Next::Well(target) | Next::LastResort(target) => {
                    self.count_queued(Queued::Admitted);
                    return Ok(target);
                }
                Next::Full => {}
                Next::None => return Err(Reason::NoHealthyNode.into()),
            }
        }
    }

    fn overloaded(&self, outcome: Queued) -> Refusal {
        self.count_queued(outcome);
        let detail = match outcome {
            Queued::TimedOut => "no place became free in time",
            Queued::Refused | Queued::Admitted => "the nodes have as much under way as they may",
        };
        Refusal::because(Reason::Overloaded, detail)
    }

    fn count_queued(&self, outcome: Queued) {
        let counters = self.cluster().counters.of(self.thread().index);
        counters.queued[outcome as usize].increment();
    }
}
