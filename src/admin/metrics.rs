//! What Prometheus sees: every thread's counters, added up when asked.
//!
//! The families are those of the README's table. A removed node's or route's series go with it,
//! for only what the current state names is shown.

use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::time::Instant;

use crate::cluster::counters::{Class, METHODS, RouteCounters};
use crate::cluster::desired::Detail;
use crate::cluster::{Cluster, Reloads, Shard, SharedState, State};
use crate::names::LookupCounters;
use crate::otlp::SpanCounts;
use crate::proxy::Fleet;
use crate::reason::Reason;
use crate::telemetry::{DroppedLines, Family, Gauge, LogCounts, Striped};

mod clusters;
mod connections;
mod names;
mod nodes;
mod placements;
mod probes;

pub(super) use nodes::standing;

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
    /// What became of traces' spans.
    pub spans: SpanCounts,
    /// The lines of the process's own log that nobody saw.
    pub log: LogCounts,
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
        families.extend(clusters::clusters(&state));
        families.extend(clusters::queues(&state));
        families.extend(probes::probes(&state));
        families.extend(nodes::ejections(&state));
        families.extend(nodes::nodes(&state, self.now()));
        families.push(nodes::standings(&state, self.now()));
        families.extend(placements::placements(&state, &self.reloads));
        families.extend(reloads(&self.reloads));
        families.push(held(&self.shared));
        families.extend(connections::connections(&state, &self.fleet));
        families.push(connections::certificates(&state));
        families.push(connections::limits(&self.fleet));
        families.push(connections::buffered(&self.fleet));
        families.extend(names::lookups(&self.lookups));
        families.extend(names::addresses(&state, self.now()));
        families.push(access_log(&self.dropped_lines));
        families.push(spans(&self.spans));
        families.push(log(&self.log));
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
        let durations = counters.iter().map(|it| &it.duration);
        duration.observations(&[route, cluster], durations);
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

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn held(shared: &SharedState) -> Family {
    let mut held = Family::gauge(
        "config_states_held",
        "States in memory: the newest, and older ones that requests began with.",
        &[],
    );
    held.sample(&[], shared.held() as f64);
    held
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

/// The shards of a cluster as Prometheus is told of them: each by its name, or all of them as one that
/// has none.
fn shards(cluster: &Cluster, detail: Detail) -> Vec<(&str, &[Shard])> {
    if detail == Detail::Cluster {
        return vec![("", &cluster.shards)];
    }
    let shards = cluster.shards.iter();
    shards
        .map(|it| (it.name.as_str(), slice::from_ref(it)))
        .collect()
}

fn access_log(dropped: &DroppedLines) -> Family {
    let mut family = Family::counter(
        "access_log_dropped_total",
        "Lines of the access log that its output did not take.",
        &[],
    );
    family.count(&[], dropped.count());
    family
}

fn spans(counts: &SpanCounts) -> Family {
    let mut family = Family::counter(
        "traces_spans_total",
        "Spans of recorded requests, by what became of them.",
        &["outcome"],
    );
    for (outcome, count) in counts.all() {
        family.count(&[outcome], count);
    }
    family
}

fn log(counts: &LogCounts) -> Family {
    let mut family = Family::counter(
        "log_dropped_total",
        "Lines of the process's own log that standard error did not take, and that said the same as others.",
        &["reason"],
    );
    family.count(&["output"], counts.output());
    family.count(&["repeat"], counts.repeats());
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
