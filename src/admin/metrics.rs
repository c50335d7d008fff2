//! What Prometheus sees: every thread's counters, added up when asked.
//!
//! The families are those of the README's table. A removed node's or route's series go with it,
//! for only what the current state names is shown.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::time::Instant;

use crate::cluster::counters::{
    Class, ClusterCounters, DENIED_REASONS, EjectedFor, Hedged, Held, METHODS, Queued,
    RETRY_REASONS, RouteCounters,
};
use crate::cluster::{Reloads, Replica, SharedState, State};
use crate::health::Verdict;
use crate::names::LookupCounters;
use crate::proxy::Fleet;
use crate::reason::Reason;
use crate::telemetry::{DroppedLines, Family, Gauge, Striped};

mod connections;
mod names;
mod probes;

/// The registry that `/metrics` shows.
#[derive(Clone, Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// A registry of keyway's own families and the process's.
    ///
    /// # Errors
    /// When a family is registered twice.
    pub fn register(sources: Sources) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(sources))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process))?;
        Ok(Self(registry))
    }

    /// The exposition, in Prometheus' text format.
    ///
    /// # Errors
    /// When a sample cannot be written as text.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(64 << 10);
        TextEncoder::new().encode(&self.0.gather(), &mut text)?;
        Ok(text)
    }
}

/// Where the samples come from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The state with all counters that hang on it.
    pub shared: Arc<SharedState>,
    /// Clients' connections.
    pub fleet: Arc<Fleet>,
    /// Reloads.
    pub reloads: Arc<Reloads>,
    /// The access log's lines that were not written.
    pub dropped_lines: DroppedLines,
    /// How lookups of names ended.
    pub lookups: Arc<LookupCounters>,
    /// When the process began: standings are told by its clock.
    pub started: Instant,
}

impl Collector for Sources {
    /// None: the families follow the state and are described as they are collected.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = self.shared.load();
        let mut families = Vec::new();
        families.extend(requests(&state));
        families.extend(clusters(&state));
        families.extend(ejections(&state));
        families.extend(probes::probes(&state));
        families.extend(queues(&state));
        families.extend(nodes(&state, self.now()));
        families.extend(placements(&state, &self.reloads));
        families.extend(reloads(&self.reloads));
        families.extend(connections::connections(&state, &self.fleet));
        families.push(connections::certificates(&state));
        families.push(connections::limits(&self.fleet));
        families.push(connections::buffered(&self.fleet));
        families.extend(names::lookups(&self.lookups));
        families.extend(names::addresses(&state, self.now()));
        families.push(access_log(&self.dropped_lines));
        families.push(build_info());
        let filled = families.into_iter().map(Family::into_inner);
        filled.filter(|it| !it.get_metric().is_empty()).collect()
    }
}

impl Sources {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn requests(state: &State) -> [Family; 5] {
    let mut total = Family::counter(
        "requests_total",
        "Requests ended.",
        &["route", "cluster", "method", "class"],
    );
    let mut duration = Family::histogram(
        "request_duration_seconds",
        "From a request's head to the end of its response.",
        &["route", "cluster"],
    );
    let mut in_flight = Family::gauge("requests_in_flight", "Requests under way.", &["route"]);
    let mut errors = Family::counter(
        "errors_total",
        "Answers that keyway made itself.",
        &["route", "reason"],
    );
    let mut missing = Family::counter(
        "missing_keys_total",
        "Requests without a key, by what the route does with them.",
        &["route", "policy"],
    );
    for (route, cluster, counters) in routes(state) {
        for (at, method) in METHODS.iter().enumerate() {
            for class in Class::ALL {
                let count = counters.sum(|it| it.requests[at][class as usize].value());
                if count > 0 {
                    total.count(&[route, cluster, method, class.as_str()], count);
                }
            }
        }
        duration.observations(&[route, cluster], counters, |it| &it.duration);
        in_flight.sample(&[route], level(counters, |it| &it.in_flight));
        for reason in Reason::ALL {
            let count = counters.sum(|it| it.errors[reason.index()].value());
            if count > 0 {
                errors.count(&[route, reason.as_str()], count);
            }
        }
    }
    for entry in &state.routes {
        let count = entry.counters.sum(|it| it.missing_keys.value());
        missing.count(
            &[&entry.route.name, entry.route.on_missing_key.as_str()],
            count,
        );
    }
    [total, duration, in_flight, errors, missing]
}

/// Every route with its cluster, and requests without a route under empty names.
fn routes(state: &State) -> impl Iterator<Item = (&str, &str, &Striped<RouteCounters>)> {
    let named = state.routes.iter().map(|it| {
        let (route, cluster) = (&it.route.name, &it.route.cluster);
        (route.as_str(), cluster.as_str(), &*it.counters)
    });
    named.chain([("", "", &*state.unrouted)])
}

fn clusters(state: &State) -> [Family; 6] {
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
        for shard in &cluster.shards {
            let labels = [name, shard.name.as_str()];
            duration.observations(&labels, &shard.counters, |it| &it.attempt_duration);
            let count = shard.counters.sum(|it| it.last_resorts.value());
            last_resorts.count(&labels, count);
            let count = shard.counters.sum(|it| it.suspicions.value());
            suspicions.count(&labels, count);
            for rank in 0..crate::cluster::counters::RANK_MAX {
                let count = shard.counters.sum(|it| it.failovers[rank].value());
                if count > 0 {
                    failovers.count(&[name, &shard.name, &(rank + 1).to_string()], count);
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

fn queues(state: &State) -> [Family; 5] {
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

fn ejections(state: &State) -> [Family; 2] {
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
pub(super) const STANDINGS: [&str; 6] = [
    "healthy",
    "suspect",
    "ejected",
    "down",
    "draining",
    "unresolved",
];

/// What stands in the way of a node, if anything does.
pub(super) fn standing(replica: &Replica, now: u64) -> &'static str {
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

fn nodes(state: &State, now: u64) -> [Family; 3] {
    const NODE: &[&str] = &["cluster", "shard", "node"];
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
    for (cluster, shard, replica) in state.replicas() {
        let node = &replica.node;
        let labels = [cluster.name.as_str(), shard.name.as_str(), node.id()];
        let with = |last| [labels[0], labels[1], labels[2], last];
        for class in Class::ALL {
            let count = node.counters.sum(|it| it.attempts[class as usize].value());
            if count > 0 {
                attempts.count(&with(class.as_str()), count);
            }
        }
        let found = standing(replica, now);
        for name in STANDINGS {
            standings.sample(&with(name), f64::from(u8::from(name == found)));
        }
        in_flight.sample(&labels, f64::from(node.in_flight()));
    }
    [attempts, standings, in_flight]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' samples are doubles"
)]
fn placements(state: &State, reloads: &Reloads) -> [Family; 4] {
    let mut info = Family::gauge(
        "ring_info",
        "1 for the placement in force; sidecars with one fingerprint place alike.",
        &["cluster", "algorithm", "fingerprint"],
    );
    let mut generation = Family::gauge("ring_generation", "The number of the state in force.", &[]);
    let mut ownership = Family::gauge(
        "ring_ownership_ratio",
        "The share of the key space that a shard owns.",
        &["cluster", "shard"],
    );
    let mut moved = Family::gauge(
        "ring_moved_ratio",
        "The share of the key space that the last applied change moved.",
        &["cluster"],
    );
    generation.sample(&[], state.generation as f64);
    let shares = reloads.moved();
    for cluster in &state.clusters {
        let name = cluster.name.as_str();
        let fingerprint = format!("{:016x}", cluster.placement.fingerprint());
        info.sample(
            &[name, cluster.placement.algorithm().as_str(), &fingerprint],
            1.0,
        );
        for (shard, share) in cluster.shards.iter().zip(cluster.placement.ownership()) {
            ownership.sample(&[name, &shard.name], share);
        }
        let of_this = |it: &&(String, f64)| it.0 == name;
        moved.sample(&[name], shares.iter().find(of_this).map_or(0.0, |it| it.1));
    }
    [info, generation, ownership, moved]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' samples are doubles"
)]
fn reloads(reloads: &Reloads) -> [Family; 4] {
    let mut total = Family::counter(
        "config_reloads_total",
        "Looks at changed files, by what came of them.",
        &["outcome"],
    );
    total.count(&["applied"], reloads.applied.load(Relaxed));
    total.count(&["unchanged"], reloads.unchanged.load(Relaxed));
    total.count(&["rejected"], reloads.rejected.load(Relaxed));
    let single = |name, help, value| {
        let mut family = Family::gauge(name, help, &[]);
        family.sample(&[], value);
        family
    };
    let flag = |flag: bool| f64::from(u8::from(flag));
    [
        total,
        single(
            "config_last_reload_successful",
            "1 when the files say what is in force.",
            flag(reloads.last_successful.load(Relaxed)),
        ),
        single(
            "config_last_reload_success_timestamp_seconds",
            "When a change was last applied, since the Unix epoch.",
            reloads.last_success_seconds.load(Relaxed) as f64,
        ),
        single(
            "config_restart_required",
            "1 when the file changed a key that only a restart takes up.",
            flag(reloads.restart_required.load(Relaxed)),
        ),
    ]
}

fn access_log(dropped: &DroppedLines) -> Family {
    let mut family = Family::counter(
        "access_log_dropped_total",
        "Lines of the access log that standard output did not take.",
        &[],
    );
    family.count(&[], dropped.count());
    family
}

fn build_info() -> Family {
    let mut family = Family::gauge("build_info", "1 for the version that runs.", &["version"]);
    family.sample(&[env!("CARGO_PKG_VERSION")], 1.0);
    family
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' samples are doubles"
)]
fn level<T>(stripes: &Striped<T>, gauge: impl Fn(&T) -> &Gauge) -> f64 {
    stripes.sum(|it| gauge(it).value()) as f64
}
