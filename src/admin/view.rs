//! Pure: the state as JSON, and why a key goes where it goes.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::metrics::standing;
use crate::cluster::counters::{ClusterCounters, NodeCounters, RouteCounters};
use crate::cluster::{
    Change, ChangeOutcome, Cluster, Moved, Pick, Reach, Reloads, Replica, RouteEntry, State,
};
use crate::drain::Phase;
use crate::placement::{Algorithm, Token};
use crate::telemetry::Counter;

/// How many points of a ring are shown: more than a picture has room for.
const SAMPLES: u32 = 720;

/// What `/v1/state` shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) state: &'a State,
    pub(super) reloads: &'a Reloads,
    pub(super) phase: Phase,
    /// On the process's clock, in milliseconds.
    pub(super) now: u64,
}

impl Shown<'_> {
    pub(super) fn to_json(self) -> Value {
        let state = self.state;
        let clusters = state.clusters.iter().map(|it| cluster(it, self.now));
        let changes = self.reloads.history.changes();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": Duration::from_millis(self.now).as_secs_f64(),
            "phase": phase(self.phase),
            "generation": state.generation,
            "epoch": state.desired.topology.epoch,
            "zone": state.desired.zone,
            "restart_required": self.reloads.restart_required.load(Relaxed),
            "reloads": changes.iter().map(change).collect::<Vec<_>>(),
            "routes": state.routes.iter().map(route).collect::<Vec<_>>(),
            "clusters": clusters.collect::<Vec<_>>(),
        })
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::PreDrain => "pre_drain",
        Phase::Draining => "draining",
        Phase::Over => "over",
    }
}

fn change(change: &Change) -> Value {
    let at_seconds = change.at_seconds;
    match &change.outcome {
        ChangeOutcome::Applied { generation, moved } => {
            let shares = moved.iter().map(|(name, it)| (name.clone(), json!(it)));
            let moved = Value::Object(shares.collect());
            json!({ "at_seconds": at_seconds, "outcome": "applied", "generation": generation, "moved": moved })
        }
        ChangeOutcome::Rejected { problems, more } => {
            json!({ "at_seconds": at_seconds, "outcome": "rejected", "problems": problems, "more": more })
        }
    }
}

fn route(entry: &RouteEntry) -> Value {
    let counters = &entry.counters;
    let ended =
        |it: &RouteCounters| -> u64 { it.requests.iter().flatten().map(Counter::value).sum() };
    let errors = |it: &RouteCounters| -> u64 { it.errors.iter().map(Counter::value).sum() };
    let spent = Duration::from_nanos(counters.sum(|it| it.duration.sum_ns()));
    json!({
        "name": entry.route.name,
        "cluster": entry.route.cluster,
        "requests": counters.sum(ended),
        "errors": counters.sum(errors),
        "seconds": spent.as_secs_f64(),
        "in_flight": counters.sum(|it| it.in_flight.value()),
    })
}

fn cluster(cluster: &Cluster, now: u64) -> Value {
    let shards = cluster
        .shards
        .iter()
        .zip(cluster.placement.ownership())
        .map(|(shard, share)| {
            let nodes: Vec<_> = shard.replicas.iter().map(|it| node(it, now)).collect();
            json!({ "name": shard.name, "ownership": share, "nodes": nodes })
        });
    let retries = |it: &ClusterCounters| -> u64 { it.retries.iter().map(Counter::value).sum() };
    json!({
        "name": cluster.name,
        "placement": {
            "algorithm": cluster.placement.algorithm().as_str(),
            "fingerprint": format!("{:016x}", cluster.placement.fingerprint()),
        },
        "requests": cluster.counters.sum(|it| it.requests.value()),
        "retries": cluster.counters.sum(retries),
        "shards": shards.collect::<Vec<_>>(),
    })
}

fn node(replica: &Replica, now: u64) -> Value {
    let node = &replica.node;
    let attempts = |it: &NodeCounters| -> u64 { it.attempts.iter().map(Counter::value).sum() };
    json!({
        "id": node.id(),
        "address": node.endpoint().address().to_string(),
        "resolved": node.endpoint().resolved().addresses(),
        "zone": replica.zone,
        "standing": standing(replica, now),
        "failures": node.standing().failures(),
        "probed": node.probed().as_str(),
        "drained": node.is_drained(),
        "in_flight": node.in_flight(),
        "connections": node.endpoint().connections(),
        "attempts": node.counters.sum(attempts),
        "failed": node.counters.sum(|it| it.failures.value()),
    })
}

/// The body of `/v1/ring`: who owns which part of a cluster's key space, in the order of tokens.
///
/// Each arc is the place of a shard in the state, and how many points in a row it owns.
pub(super) fn ring(cluster: &Cluster) -> Value {
    let placement = &cluster.placement;
    let width: u32 = match placement.algorithm() {
        Algorithm::Slots { .. } => u64::BITS,
        Algorithm::Ketama => u32::BITS,
    };
    let owner = |at: u32| {
        let token = (u128::from(at) << width) / u128::from(SAMPLES);
        let token = u64::try_from(token).expect("a token must lie below the width");
        placement.owner(Token::new(token)).as_usize()
    };
    let mut arcs: Vec<(usize, u32)> = Vec::new();
    for shard in (0..SAMPLES).map(owner) {
        match arcs.last_mut() {
            Some((last, length)) if *last == shard => *length += 1,
            _ => arcs.push((shard, 1)),
        }
    }
    json!({ "cluster": cluster.name, "samples": SAMPLES, "arcs": arcs })
}

/// The body of `/v1/explain`: every node in the order it would be tried, and who is passed by.
pub(super) fn explain(cluster: &Cluster, key: &[u8], now: u64) -> Value {
    let token = cluster.placement.token(key);
    let pick = Pick::new(cluster, Some(key), token);
    let candidates = pick.order(cluster, Reach::Configured).map(|target| {
        let replica = target.replica(cluster);
        let standing = standing(replica, now);
        json!({
            "rank": target.rank,
            "shard": cluster.shards[target.shard].name,
            "node": replica.node.id(),
            "address": replica.node.endpoint().address().to_string(),
            "standing": standing,
            "skipped": (standing != "healthy").then_some(standing),
        })
    });
    let candidates: Vec<_> = candidates.collect();
    json!({
        "cluster": cluster.name,
        "token": token.to_string(),
        "slot": cluster.placement.slot(token),
        "pinned": cluster.pins.contains_key(key),
        "shard": candidates.first().map(|it| &it["shard"]),
        "candidates": candidates,
    })
}

/// How much of each cluster's key space a change moved.
pub(super) fn moved(moved: &[Moved]) -> Value {
    let shares = moved
        .iter()
        .map(|it| (it.cluster.clone(), Value::from(it.diff.moved)));
    Value::Object(shares.collect())
}
