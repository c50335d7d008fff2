//! Clusters: what was tried again, by whom it was served, and who waits.

use super::shards;
use crate::cluster::State;
use crate::cluster::counters::{
    ClusterCounters, DENIED_REASONS, Hedged, Held, Queued, RANK_MAX, RETRY_REASONS,
};
use crate::telemetry::Family;

pub(super) fn clusters(state: &State) -> [Family; 6] {
    let mut retries = Family::counter(
        "retries_total",
        "Attempts made after a failed one, by what failed.",
        &["cluster", "reason"],
    );
    let mut denied = Family::counter(
        "retries_denied_total",
        "Failed attempts that were not tried again, by what denied it.",
        &["cluster", "reason"],
    );
    let mut duration = Family::histogram(
        "attempt_duration_seconds",
        "From an attempt's start to the response's head.",
        &["cluster", "shard"],
    );
    let mut failovers = Family::counter(
        "failovers_total",
        "Requests served by another than the first node, by that node's rank.",
        &["cluster", "shard", "rank"],
    );
    let mut last_resorts = Family::counter(
        "last_resorts_total",
        "Attempts at nodes that were not well, because no node of the shard was.",
        &["cluster", "shard"],
    );
    let mut suspicions = Family::counter(
        "suspicions_total",
        "Nodes passed by because requests waited at them and none was answered.",
        &["cluster", "shard"],
    );
    for cluster in &state.clusters {
        let name = cluster.name.as_str();
        let sum = |of: &dyn Fn(&ClusterCounters) -> u64| cluster.counters.sum(of);
        for (at, reason) in RETRY_REASONS.iter().enumerate() {
            retries.count(&[name, reason], sum(&|it| it.retries[at].value()));
        }
        for (at, reason) in DENIED_REASONS.iter().enumerate() {
            denied.count(&[name, reason], sum(&|it| it.retries_denied[at].value()));
        }
        for (shard, shards) in shards(cluster, state.desired.metrics) {
            let labels = [name, shard];
            let counters = || shards.iter().flat_map(|it| it.counters.iter());
            duration.observations(&labels, counters().map(|it| &it.attempt_duration));
            last_resorts.count(&labels, counters().map(|it| it.last_resorts.value()).sum());
            suspicions.count(&labels, counters().map(|it| it.suspicions.value()).sum());
            for rank in 0..RANK_MAX {
                let count = counters().map(|it| it.failovers[rank].value()).sum();
                if count > 0 {
                    failovers.count(&[name, shard, &(rank + 1).to_string()], count);
                }
            }
        }
    }
    [
        retries,
        denied,
        duration,
        failovers,
        last_resorts,
        suspicions,
    ]
}

pub(super) fn queues(state: &State) -> [Family; 5] {
    let mut hedges = Family::counter(
        "hedges_total",
        "Second nodes asked beside the first (sent), those that answered (won), those that were not asked for want of budget.",
        &["cluster", "outcome"],
    );
    let mut queued = Family::counter(
        "queued_total",
        "Requests that found no place under a cap, by what became of them.",
        &["cluster", "outcome"],
    );
    let mut held = Family::counter(
        "held_total",
        "Requests whose shard had no node that was well, by what became of them.",
        &["cluster", "outcome"],
    );
    let mut holding = Family::gauge(
        "holding",
        "Requests that wait for a node to be well.",
        &["cluster"],
    );
    let mut waiting = Family::gauge(
        "queue_waiting",
        "Requests that wait for a place under a cap.",
        &["cluster"],
    );
    for cluster in &state.clusters {
        let name = cluster.name.as_str();
        for outcome in Queued::ALL {
            let count = cluster
                .counters
                .sum(|it| it.queued[outcome as usize].value());
            queued.count(&[name, outcome.as_str()], count);
        }
        for outcome in Hedged::ALL {
            let count = cluster
                .counters
                .sum(|it| it.hedges[outcome as usize].value());
            hedges.count(&[name, outcome.as_str()], count);
        }
        for outcome in Held::ALL {
            let count = cluster.counters.sum(|it| it.held[outcome as usize].value());
            held.count(&[name, outcome.as_str()], count);
        }
        holding.sample(&[name], f64::from(cluster.load.hold.waiting()));
        let of_shards = cluster.shards.iter().map(|it| it.queue.waiting());
        let count = of_shards.sum::<u32>() + cluster.load.queue.waiting();
        waiting.sample(&[name], f64::from(count));
    }
    [queued, waiting, hedges, held, holding]
}
