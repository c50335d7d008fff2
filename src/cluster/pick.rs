//! Which node a request tries next.
//!
//! The order is placement's and never changes with health; what was observed only decides who is
//! passed by. Nothing is remembered but what was tried, so a node that became suspect between two
//! attempts is passed by at once.

use super::state::{Cluster, Replica};
use crate::health::{Millis, Verdict};
use crate::placement::{MemberIndex, Token};
use crate::routing::{Order, WhenShardDown};

/// The most attempts that a request may make: the bound of what is remembered as tried.
pub const ATTEMPTS_MAX: usize = 16;

/// One request's way through the nodes of a cluster.
#[derive(Debug)]
pub struct Pick {
    token: Token,
    pinned: Option<usize>,
    tried: [usize; ATTEMPTS_MAX],
    tries: usize,
}

/// A node to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The place of its shard in the cluster.
    pub shard: usize,
    /// Its place in the shard.
    pub replica: usize,
    /// Its rank in the order that would be tried if all were well, from 0.
    pub rank: usize,
}

impl Pick {
    /// The way of a request whose key is `key`, which hashes to `token`.
    pub fn new(cluster: &Cluster, key: Option<&[u8]>, token: Token) -> Self {
        let pinned = key.and_then(|key| cluster.pins.get(key)).copied();
        Self {
            token,
            pinned,
            tried: [0; ATTEMPTS_MAX],
            tries: 0,
        }
    }

    /// The next node: the first of the order that is well, else the first that was not tried yet.
    pub fn next(&mut self, cluster: &Cluster, now: Millis) -> Option<Target> {
        if self.tries == ATTEMPTS_MAX {
            return None;
        }
        let well = |replica: &Replica| replica.is_active() && replica.node.admits(now);
        let target = self
            .untried(cluster, Reach::Configured)
            .find(|target| well(target.replica(cluster)))
            .or_else(|| self.last_resort(cluster))?;
        self.tried[self.tries] = target.replica(cluster).slot;
        self.tries += 1;
        Some(target)
    }

    /// Whether [`next`](Self::next) would find a node.
    pub fn has_next(&self, cluster: &Cluster, now: Millis) -> bool {
        let well = |target: Target| is_well(target.replica(cluster), now);
        self.tries < ATTEMPTS_MAX
            && (self.last_resort(cluster).is_some()
                || self.untried(cluster, Reach::Configured).any(well))
    }

    /// Whether `target` is the only node of the owning shards that is well, or was until it failed.
    pub fn is_only(&self, cluster: &Cluster, target: Target, now: Millis) -> bool {
        let mut others = self
            .order(cluster, Reach::Owners)
            .filter(|it| (it.shard, it.replica) != (target.shard, target.replica));
        !others.any(|it| is_well(it.replica(cluster), now))
    }

    /// Every node in the order that would be tried if all were well.
    pub fn order<'a>(
        &self,
        cluster: &'a Cluster,
        reach: Reach,
    ) -> impl Iterator<Item = Target> + use<'a> {
        let token = self.token;
        let placed = cluster
            .placement
            .candidates(token)
            .map(MemberIndex::as_usize);
        let owners = match self.pinned {
            Some(_) => 1,
            None => cluster.placement.replicas(token).count(),
        };
        let pinned = self.pinned;
        let shards = pinned
            .into_iter()
            .chain(placed.filter(move |it| Some(*it) != pinned));
        let further = reach == Reach::Configured
            && cluster.params.when_shard_down == WhenShardDown::NextShard;
        let shards = shards.take(if further { usize::MAX } else { owners });
        let prefer = cluster.params.prefer;
        let nodes = shards.flat_map(move |shard| {
            let order = Order::of(prefer, token, &cluster.shards[shard].seeds);
            order.map(move |replica| (shard, replica))
        });
        nodes.enumerate().map(|(rank, (shard, replica))| Target {
            shard,
            replica,
            rank,
        })
    }

    /// An owner's node that is not well, when nothing better is left: those that rest after a
    /// refusal before those that are drained.
    fn last_resort(&self, cluster: &Cluster) -> Option<Target> {
        let active = |target: &Target| target.replica(cluster).is_active();
        let mut resting = self.untried(cluster, Reach::Owners);
        resting
            .find(active)
            .or_else(|| self.untried(cluster, Reach::Owners).next())
    }

    fn untried<'a>(
        &'a self,
        cluster: &'a Cluster,
        reach: Reach,
    ) -> impl Iterator<Item = Target> + 'a {
        self.order(cluster, reach).filter(move |target| {
            let replica = target.replica(cluster);
            let tried = self.tried[..self.tries].contains(&replica.slot);
            !tried && replica.node.endpoint().is_resolved()
        })
    }
}

/// How far down the order a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The shards that hold the key.
    Owners,
    /// As far as the cluster's `when_shard_down` allows.
    Configured,
}

impl Target {
    /// The node in its place.
    pub fn replica(self, cluster: &Cluster) -> &Replica {
        &cluster.shards[self.shard].replicas[self.replica]
    }
}

fn is_well(replica: &Replica, now: Millis) -> bool {
    let resting = replica.node.standing().verdict(now) == Verdict::Suspect;
    replica.is_active() && replica.node.endpoint().is_resolved() && !resting
}
