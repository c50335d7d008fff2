//! Names of nodes: how lookups ended, and what is known of each.

use crate::cluster::State;
use crate::cluster::desired::Detail;
use crate::names::LookupCounters;
use crate::telemetry::Family;

pub(super) fn lookups(counters: &LookupCounters) -> [Family; 2] {
    let mut total = Family::counter(
        "dns_lookups_total",
        "Lookups of nodes' names, by how they ended.",
        &["outcome"],
    );
    total.count(&["ok"], counters.ok.value());
    total.count(&["empty"], counters.empty.value());
    total.count(&["failed"], counters.failed.value());
    total.count(&["timeout"], counters.timeout.value());
    let mut cut = Family::counter(
        "dns_addresses_cut_total",
        "Addresses in answers beyond those that are kept of a name.",
        &[],
    );
    cut.count(&[], counters.cut.value());
    [total, cut]
}

/// Of the nodes that have names.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' samples are doubles"
)]
pub(super) fn addresses(state: &State, now: u64) -> [Family; 2] {
    const NODE: &[&str] = &["cluster", "shard", "node"];
    let mut count = Family::gauge(
        "node_addresses",
        "Addresses that are known of a node with a name.",
        NODE,
    );
    let mut age = Family::gauge(
        "node_addresses_age_seconds",
        "How long ago an answer named them.",
        NODE,
    );
    let shows_nodes = state.desired.metrics > Detail::Cluster;
    for (cluster, shard, replica) in state.replicas().filter(|_| shows_nodes) {
        let endpoint = replica.node.endpoint();
        if endpoint.name().is_none() {
            continue;
        }
        let labels = [cluster.name.as_str(), &shard.name, replica.node.id()];
        count.sample(&labels, endpoint.resolved().addresses().len() as f64);
        if endpoint.is_resolved() {
            let age_ms = now.saturating_sub(endpoint.resolved_at_ms());
            age.sample(&labels, age_ms as f64 / 1000.0);
        }
    }
    [count, age]
}
