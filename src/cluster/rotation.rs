//! Which nodes are in rotation, and which must stay.

use std::num::NonZeroU32;
use std::time::Duration;

use super::desired::{Caps, ClusterParams};
use super::load::Turnstile;
use super::node::{Node, Waits};
use super::state::{Cluster, Replica, Shard};
use crate::health::{Millis, Verdict, is_suspect};
use crate::routing::WhenShardDown;

impl Replica {
    /// Whether it takes new requests, as far as operators say.
    pub fn is_active(&self) -> bool {
        self.lifecycle == crate::topology::Lifecycle::Active && !self.node.is_drained()
    }

    /// Whether a request may try it first now. After its time out, one caller is told so.
    pub fn admits(&self, now: Millis) -> bool {
        self.is_active() && self.node.admits(now)
    }

    /// Whether a request may try it first, if only as the one that tries it anew.
    pub fn is_well(&self, now: Millis) -> bool {
        let stands = match self.node.verdict(now) {
            Verdict::Healthy | Verdict::OnTrial => true,
            Verdict::Suspect | Verdict::Silent | Verdict::Ejected | Verdict::Down => false,
        };
        stands && self.is_active() && self.node.endpoint().is_resolved()
    }

    /// Whether it is in rotation.
    fn serves(&self, now: Millis) -> bool {
        self.is_well(now) && self.node.verdict(now) == Verdict::Healthy
    }
}

impl Cluster {
    /// Whether as much is under way in the whole cluster as may be.
    pub fn is_full(&self) -> bool {
        let cap = self.params.caps.cluster;
        cap.is_some_and(|cap| self.load.in_flight() >= cap.get())
    }

    /// Whether `replica` may have one more under way.
    pub fn has_place(&self, replica: &Replica) -> bool {
        let cap = self.cap_of(&replica.node);
        cap.is_none_or(|cap| replica.node.in_flight() < cap)
    }

    /// How much `node` may have under way.
    pub fn cap_of(&self, node: &Node) -> Option<u32> {
        let Caps {
            node: most,
            adaptive,
            ..
        } = self.params.caps;
        let found = adaptive.then(|| node.limit().get());
        let most = most.map(NonZeroU32::get);
        found.into_iter().chain(most).min()
    }

    /// Whether attempts are counted over the whole cluster.
    pub fn counts_load(&self) -> bool {
        self.params.caps.cluster.is_some() || self.params.balance.is_some()
    }

    /// Who waits for a place at the nodes of `shard`, or, where nodes of others serve too, of all.
    pub fn queue(&self, shard: usize) -> &Turnstile {
        if self.params.caps.cluster.is_some() || self.reaches_beyond_a_shard() {
            &self.load.queue
        } else {
            &self.shards[shard].queue
        }
    }

    /// What a node may have under way before its keys go on to the next.
    pub(super) fn balance_bound(&self) -> u32 {
        let Some(balance) = self.params.balance else {
            return u32::MAX;
        };
        let nodes = self.nodes_count.max(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a factor above 1 of a count that fits"
        )]
        let bound = {
            let mean = f64::from(self.load.in_flight() + 1) / nodes as f64;
            (balance.factor * mean).ceil() as u32
        };
        bound.max(balance.min_in_flight)
    }

    /// Whether nodes are passed by although they are well and have a place.
    pub(super) fn spreads(&self) -> bool {
        self.params.balance.is_some() || !self.params.slow_start.is_zero()
    }

    /// Whether the node in `slot` of `shard` may be put out of rotation at `now`: whether as many
    /// others as must stay would stay, of those that could serve in its place.
    pub fn spares(&self, shard: usize, slot: usize, now: Millis) -> bool {
        let keep = self.params.eject.keep;
        let others = self.others(shard, slot, now);
        others.take(keep).count() == keep
    }

    /// Whether an attempt that `waits` for more than `patience` at the node in `slot` of `shard` makes it
    /// suspect: whether enough do, and as many others as must stay are in rotation and answer.
    pub fn suspects(
        &self,
        (shard, slot): (usize, usize),
        waits: &Waits<'_>,
        patience: Duration,
        now: Millis,
    ) -> bool {
        let others = self.others(shard, slot, now);
        let others = others.map(|it| it.node.as_other());
        is_suspect(waits.overdue, now, patience, self.params.eject.keep, others)
    }

    /// The nodes in rotation that could serve in the place of the one in `slot` of `shard`.
    fn others(&self, shard: usize, slot: usize, now: Millis) -> impl Iterator<Item = &Replica> {
        let in_place: &[Shard] = if self.reaches_beyond_a_shard() {
            &self.shards
        } else {
            std::slice::from_ref(&self.shards[shard])
        };
        let serves = move |it: &&Replica| it.slot != slot && it.serves(now);
        in_place.iter().flat_map(|it| &it.replicas).filter(serves)
    }

    /// Whether nodes of other shards serve in the place of one: as replicas, or because the cluster
    /// is a cache.
    pub fn reaches_beyond_a_shard(&self) -> bool {
        let ClusterParams {
            when_shard_down, ..
        } = &self.params;
        *when_shard_down == WhenShardDown::NextShard || self.placement.replica_count() > 1
    }
}
