//! Which node a request tries next.
//!
//! The order is placement's and never changes with health; what was observed only decides who is
//! passed by: who is not well, has as much under way as it may, has more than its share, or is warming
//! up and gets this key later. Nothing is remembered but what was tried, so a node that became suspect between two
//! attempts is passed by at once.

use super::state::{Cluster, Replica};
use crate::health::{Millis, Verdict, WhenAllBad};
use crate::placement::{MemberIndex, Token};
use crate::routing::{NODES_PER_SHARD_MAX, Order, Prefer, WhenShardDown};

/// The most attempts that a request may make: the bound of what is remembered as tried.
pub const ATTEMPTS_MAX: usize = 16;

/// One request's way through the nodes of a cluster.
#[derive(Clone, Debug)]
pub struct Pick {
    token: Token,
    pinned: Option<usize>,
    tried: [usize; ATTEMPTS_MAX],
    tries: usize,
    /// Whether the last of them was not well.
    resorted: bool,
    /// Whether it leaves it to others to try a node anew.
    leaves_trials: bool,
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

/// What a request does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It tries this node, which is well.
    Well(Target),
    /// It tries this node, which is not, because none is.
    LastResort(Target),
    /// It waits for a place: nodes are well, and have as much under way as they may.
    Full,
    /// It has no node to try.
    None,
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
            resorted: false,
            leaves_trials: false,
        }
    }

    /// The same of a request that may not be repeated, if `leaves`: it would be lost with a trial that
    /// fails, so it leaves trials to others for the cluster's `eject.base`, as long as another node is well.
    #[must_use]
    pub fn leaving_trials(self, leaves: bool) -> Self {
        Self {
            leaves_trials: leaves,
            ..self
        }
    }

    /// The next node: one that is well, as the cluster prefers; else, if the cluster has such tried,
    /// the first that was not tried yet. `random` is drawn only where two are compared.
    pub fn next(&mut self, cluster: &Cluster, now: Millis, random: impl Fn() -> u64) -> Next {
        if self.tries == ATTEMPTS_MAX {
            return Next::None;
        }
        let next = self.well(cluster, now, random);
        let next = match next {
            Next::None => self
                .last_resort(cluster)
                .map_or(Next::None, Next::LastResort),
            next => next,
        };
        if let Some(target) = next.target() {
            self.tried[self.tries] = target.replica(cluster).slot;
            self.tries += 1;
            self.resorted = matches!(next, Next::LastResort(_));
        }
        next
    }

    /// A node that is well and was not tried yet.
    fn well(&self, cluster: &Cluster, now: Millis, random: impl Fn() -> u64) -> Next {
        if cluster.is_full() {
            return Next::Full;
        }
        let mut is_capped = false;
        let mut has_place = |target: &Target| {
            let has_place = cluster.has_place(target.replica(cluster));
            is_capped |= !has_place && target.replica(cluster).is_well(now);
            has_place
        };
        let admits = |target: &Target| {
            !self.leaves(target, cluster, now) && target.replica(cluster).admits(now)
        };
        let found = if cluster.params.prefer == Prefer::LeastLoaded {
            self.lightest(cluster, now, &random, &mut has_place)
        } else {
            let bound = cluster.balance_bound();
            let eager = |it: &Target| {
                let replica = it.replica(cluster);
                let seed = cluster.shards[it.shard].seeds[it.replica];
                let share = replica.node.warmth(now, cluster.params.slow_start);
                replica.node.in_flight() < bound && (share >= 1.0 || seed.takes(self.token, share))
            };
            let mut eagers = self.untried(cluster, Reach::Configured).filter(eager);
            // Who is warming up or has more than its share is better than nobody.
            eagers.find(|it| has_place(it) && admits(it)).or_else(|| {
                let mut all = self.untried(cluster, Reach::Configured);
                cluster
                    .spreads()
                    .then(|| all.find(|it| has_place(it) && admits(it)))?
            })
        };
        let found = found.or_else(|| {
            let mut left = self.untried(cluster, Reach::Configured);
            self.leaves_trials
                .then(|| left.find(|it| has_place(it) && it.replica(cluster).admits(now)))?
        });
        match found {
            Some(target) => Next::Well(target),
            None if is_capped => Next::Full,
            None => Next::None,
        }
    }

    /// The less loaded of two nodes that are well: the power of two choices (Mitzenmacher, 2001), by
    /// requests under way and latency, which between more sidecars than one does not herd.
    fn lightest(
        &self,
        cluster: &Cluster,
        now: Millis,
        random: impl Fn() -> u64,
        mut has_place: impl FnMut(&Target) -> bool,
    ) -> Option<Target> {
        let mut well = [None; NODES_PER_SHARD_MAX];
        let mut count = 0;
        let admitted = self.untried(cluster, Reach::Owners);
        for target in admitted.filter(|it| has_place(it)) {
            let replica = target.replica(cluster);
            match replica.node.verdict(now) {
                // Somebody has to try it.
                Verdict::OnTrial if !self.leaves(&target, cluster, now) && replica.admits(now) => {
                    return Some(target);
                }
                Verdict::Healthy if replica.is_active() && count < well.len() => {
                    well[count] = Some(target);
                    count += 1;
                }
                _ => {}
            }
        }
        let cost = |target: Target| {
            let seed = cluster.shards[target.shard].seeds[target.replica];
            let node = &target.replica(cluster).node;
            // One that is warming up counts as one of a smaller weight.
            let warmth = node.warmth(now, cluster.params.slow_start).max(0.05);
            node.cost(now) / (warmth * f64::from(seed.weight().max(1)))
        };
        let bits = random();
        let one = draw(bits, count)?;
        let other = draw(bits >> 32, count - 1).map_or(one, |it| it + usize::from(it >= one));
        let (one, other) = (well[one]?, well[other]?);
        // Its rank says how many were tried before: there is no order.
        let rank = self.tries;
        let chosen = if cost(other) < cost(one) { other } else { one };
        Some(Target { rank, ..chosen })
    }

    /// Whether it leaves it to others to try `target` anew.
    fn leaves(&self, target: &Target, cluster: &Cluster, now: Millis) -> bool {
        let within = cluster.params.eject.times.base;
        self.leaves_trials && target.replica(cluster).node.risks(now, within)
    }

    /// Gives back the last node that [`next`](Self::next) found: it was not tried after all.
    pub fn give_back(&mut self) {
        self.tries -= 1;
    }

    /// The shard whose nodes come first.
    pub fn shard(&self, cluster: &Cluster) -> usize {
        let owner = || cluster.placement.owner(self.token).as_usize();
        self.pinned.unwrap_or_else(owner)
    }

    /// Whether a node is well that was not tried yet.
    pub fn has_well(&self, cluster: &Cluster, now: Millis) -> bool {
        let mut untried = self.untried(cluster, Reach::Configured);
        untried.any(|target| target.replica(cluster).is_well(now))
    }

    /// Whether [`next`](Self::next) would find a node.
    pub fn has_next(&self, cluster: &Cluster, now: Millis) -> bool {
        self.tries < ATTEMPTS_MAX
            && (self.last_resort(cluster).is_some() || self.has_well(cluster, now))
    }

    /// Whether the last node that [`next`](Self::next) found was not well.
    pub fn has_resorted(&self) -> bool {
        self.resorted
    }

    /// Whether `target` is the only node of the owning shards that is well, or was until it failed.
    pub fn is_only(&self, cluster: &Cluster, target: Target, now: Millis) -> bool {
        let mut others = self
            .order(cluster, Reach::Owners)
            .filter(|it| (it.shard, it.replica) != (target.shard, target.replica));
        !others.any(|it| it.replica(cluster).is_well(now))
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
            None => cluster.placement.replica_count(),
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
        // By zone they are walked twice: those of keyway's own come first, then the others.
        let zoned = prefer == Prefer::Zone;
        let is_local = move |(shard, replica): &(usize, usize)| {
            !zoned || cluster.shards[*shard].replicas[*replica].is_local
        };
        let local = nodes.clone().filter(is_local);
        let others = nodes.filter(move |it| !is_local(it));
        let others = others.take(if zoned { usize::MAX } else { 0 });
        let ranked = local.chain(others).enumerate();
        ranked.map(|(rank, (shard, replica))| Target {
            shard,
            replica,
            rank,
        })
    }

    /// An owner's node that is not well, when nothing better is left: those that are out of rotation
    /// before those that are drained.
    fn last_resort(&self, cluster: &Cluster) -> Option<Target> {
        if cluster.params.eject.when_all_bad == WhenAllBad::Fail {
            return None;
        }
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

impl Next {
    /// The node, if there is one.
    pub fn target(self) -> Option<Target> {
        match self {
            Self::Well(target) | Self::LastResort(target) => Some(target),
            Self::Full | Self::None => None,
        }
    }
}

/// One of `count` places, as `bits` fall; `None` of none.
#[expect(clippy::cast_possible_truncation, reason = "32 bits are used")]
fn draw(bits: u64, count: usize) -> Option<usize> {
    let scaled = (u64::from(bits as u32) * count as u64) >> 32;
    (count > 0).then_some(scaled as usize)
}
