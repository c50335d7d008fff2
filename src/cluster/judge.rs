//! Looks at what the data threads counted, and draws the conclusions that no single request can.
//!
//! Nodes whose attempts fail more often than others' are ejected
//! ([`health::outliers`](crate::health::outliers) decides), and it is found how long a shard's answers
//! take, by which nodes are suspected and requests may be hedged. It runs on the control thread, so that no request pays for
//! it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;

use super::counters::{Class, EjectedFor};
use super::node::Node;
use super::state::{Cluster, Replica, SharedState};
use crate::health::{Millis, QuantileWindow, RateParams, RateWindow, Sample, outliers};
use crate::telemetry::Histogram;

/// How often it looks: soon enough after a node went bad, and a thousand nodes cost nothing.
const LOOK: Duration = Duration::from_millis(500);

/// The windows of all nodes that are judged.
#[derive(Debug, Default)]
pub struct Judge {
    /// By node, so that a new process under an old id begins anew.
    windows: HashMap<usize, RateWindow>,
    /// By shard, likewise.
    latencies: HashMap<usize, QuantileWindow<{ Histogram::BOUNDS.len() + 1 }>>,
}

impl Judge {
    /// Judges by what `shared` holds, for ever; `started` is where the process's clock begins.
    pub async fn run(mut self, shared: Arc<SharedState>, started: Instant) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let tick = ticks.tick().await;
            let now = tick.saturating_duration_since(started).as_millis();
            let state = shared.load();
            let known: HashSet<_> = state.replicas().map(|(.., it)| key(&it.node)).collect();
            self.windows.retain(|node, _| known.contains(node));
            let shards = state.clusters.iter().flat_map(|it| &it.shards);
            let known: HashSet<_> = shards.map(|it| Arc::as_ptr(&it.p95) as usize).collect();
            self.latencies.retain(|shard, _| known.contains(shard));
            let now = Millis::try_from(now).unwrap_or(Millis::MAX);
            for cluster in &state.clusters {
                self.judge(cluster, now);
                self.time(cluster, now);
            }
        }
    }

    /// Judges the nodes of one cluster.
    fn judge(&mut self, cluster: &Cluster, now: Millis) {
        let Some(rate) = &cluster.params.eject.failure_rate else {
            return;
        };
        let replicas: Vec<_> = places(cluster).collect();
        let mut recent = Vec::with_capacity(replicas.len());
        for (shard, replica) in &replicas {
            // Where shards serve for each other they are one.
            let group = if cluster.reaches_beyond_a_shard() {
                0
            } else {
                *shard
            };
            recent.push((group, self.recent(&replica.node, now, rate)));
        }
        for at in outliers(&recent, rate) {
            let (shard, replica) = replicas[at];
            self.eject(cluster, shard, replica, now, recent[at].1);
        }
    }

    /// Finds how long the answers of each shard of `cluster` take.
    fn time(&mut self, cluster: &Cluster, now: Millis) {
        for shard in &cluster.shards {
            let mut counts = [0; Histogram::BOUNDS.len() + 1];
            for stripe in shard.counters.iter() {
                let more = stripe.attempt_duration.counts();
                counts.iter_mut().zip(more).for_each(|(sum, it)| *sum += it);
            }
            let window = self.latencies.entry(Arc::as_ptr(&shard.p95) as usize);
            let window = window.or_default();
            let recent = window.push(now, counts);
            let quantile = |it| recent.quantile(&Histogram::BOUNDS, it);
            shard.p95.set(quantile(0.95));
            shard.p99.set(quantile(0.99));
        }
    }

    fn recent(&mut self, node: &Arc<Node>, now: Millis, rate: &RateParams) -> Sample {
        let window = self.windows.entry(key(node)).or_default();
        // Out of rotation it is not judged, and comes back with a clean sheet.
        if !node.standing().is_serving() {
            window.clear();
        }
        window.push(now, sample(node), rate)
    }

    fn eject(
        &mut self,
        cluster: &Cluster,
        shard: usize,
        replica: &Replica,
        now: Millis,
        recent: Sample,
    ) {
        let node = &replica.node;
        if !cluster.spares(shard, replica.slot, now) {
            cluster.ejections.kept(EjectedFor::FailureRate);
            return;
        }
        if node.eject(
            now,
            &cluster.params.eject,
            now.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ) {
            cluster.ejections.made(EjectedFor::FailureRate);
            self.windows.remove(&key(node));
            let Sample { attempts, failures } = recent;
            info!(
                cluster = cluster.name,
                node = node.id(),
                attempts,
                failures,
                "the node is ejected"
            );
        }
    }
}

/// Every node of `cluster` with the place of its shard.
fn places(cluster: &Cluster) -> impl Iterator<Item = (usize, &Replica)> {
    let shards = cluster.shards.iter().enumerate();
    shards.flat_map(|(at, shard)| shard.replicas.iter().map(move |it| (at, it)))
}

/// What a node's attempts came to so far; what its clients broke off counts neither way.
fn sample(node: &Node) -> Sample {
    let ended = |it: &super::counters::NodeCounters| -> u64 {
        let classes = Class::ALL.iter().filter(|it| **it != Class::Aborted);
        classes
            .map(|class| it.attempts[*class as usize].value())
            .sum()
    };
    Sample {
        attempts: node.counters.sum(ended),
        failures: node.counters.sum(|it| it.failures.value()),
    }
}

fn key(node: &Arc<Node>) -> usize {
    Arc::as_ptr(node) as usize
}
