//! Nodes: how they stand, what was tried at them, and which left rotation.

use crate::cluster::counters::{Class, EjectedFor, NodeCounters};
use crate::cluster::desired::Detail;
use crate::cluster::{Replica, State};
use crate::health::Verdict;
use crate::telemetry::Family;

pub(super) fn ejections(state: &State) -> [Family; 2] {
    let mut made = Family::counter(
        "ejections_total",
        "Nodes put out of rotation, by what for.",
        &["cluster", "reason"],
    );
    let mut kept = Family::counter(
        "ejections_denied_total",
        "Nodes that would have been, and were kept because too few others were left.",
        &["cluster", "reason"],
    );
    for cluster in &state.clusters {
        for reason in EjectedFor::ALL {
            let labels = [cluster.name.as_str(), reason.as_str()];
            let counts = cluster.ejections.counts(reason);
            made.count(&labels, counts.0);
            kept.count(&labels, counts.1);
        }
    }
    [made, kept]
}

/// The values of the `standing` label: exactly one is 1 for each node.
const STANDINGS: [&str; 6] = [
    "healthy",
    "suspect",
    "ejected",
    "down",
    "draining",
    "unresolved",
];

/// What stands in the way of a node, if anything does.
pub(in crate::admin) fn standing(replica: &Replica, now: u64) -> &'static str {
    if !replica.node.endpoint().is_resolved() {
        return "unresolved";
    }
    if !replica.is_active() {
        return "draining";
    }
    match replica.node.verdict(now) {
        Verdict::Healthy => "healthy",
        Verdict::Suspect | Verdict::Silent | Verdict::OnTrial => "suspect",
        Verdict::Ejected => "ejected",
        Verdict::Down => "down",
    }
}

const NODE: &[&str] = &["cluster", "shard", "node"];

pub(super) fn nodes(state: &State, now: u64) -> [Family; 4] {
    let mut attempts = Family::counter(
        "attempts_total",
        "Attempts ended.",
        &["cluster", "shard", "node", "class"],
    );
    let mut standings = Family::gauge(
        "node_standing",
        "1 for the standing that a node has, 0 for the others.",
        &["cluster", "shard", "node", "standing"],
    );
    let mut in_flight = Family::gauge("node_in_flight", "Attempts under way at a node.", NODE);
    let mut duration = Family::histogram(
        "node_attempt_duration_seconds",
        "From an attempt's start to the head of a node's response.",
        NODE,
    );
    let detail = state.desired.metrics;
    for cluster in &state.clusters {
        if detail == Detail::Cluster {
            let of_all = cluster.shards.iter().flat_map(|it| &it.replicas);
            tried(&mut attempts, [&cluster.name, "", ""], of_all);
        }
    }
    for (cluster, shard, replica) in state.replicas().filter(|_| detail > Detail::Cluster) {
        let node = &replica.node;
        let labels = [cluster.name.as_str(), shard.name.as_str(), node.id()];
        tried(&mut attempts, labels, [replica]);
        let found = standing(replica, now);
        for name in STANDINGS {
            let with = [labels[0], labels[1], labels[2], name];
            standings.sample(&with, f64::from(u8::from(name == found)));
        }
        in_flight.sample(&labels, f64::from(node.in_flight()));
        if detail == Detail::Node {
            let durations = node.counters.iter().filter_map(NodeCounters::duration);
            duration.observations(&labels, durations);
        }
    }
    [attempts, standings, in_flight, duration]
}

/// The attempts that ended at all of `replicas`.
fn tried<'a>(
    family: &mut Family,
    [cluster, shard, node]: [&str; 3],
    replicas: impl IntoIterator<Item = &'a Replica>,
) {
    let mut counts = [0; Class::ALL.len()];
    for counters in replicas.into_iter().flat_map(|it| it.node.counters.iter()) {
        for (count, counter) in counts.iter_mut().zip(&counters.attempts) {
            *count += counter.value();
        }
    }
    for (class, count) in Class::ALL.iter().zip(counts) {
        if count > 0 {
            family.count(&[cluster, shard, node, class.as_str()], count);
        }
    }
}

/// How many nodes of each cluster have which standing, whatever the detail.
pub(super) fn standings(state: &State, now: u64) -> Family {
    let mut family = Family::gauge(
        "nodes",
        "Nodes by their standing.",
        &["cluster", "standing"],
    );
    for cluster in &state.clusters {
        let mut counts = STANDINGS.map(|it| (it, 0));
        for replica in cluster.shards.iter().flat_map(|it| &it.replicas) {
            let found = standing(replica, now);
            if let Some((_, count)) = counts.iter_mut().find(|it| it.0 == found) {
                *count += 1;
            }
        }
        for (name, count) in counts {
            family.sample(&[&cluster.name, name], f64::from(count));
        }
    }
    family
}
