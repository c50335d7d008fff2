//! Probes.

use crate::cluster::State;
use crate::cluster::counters::ProbeOutcome;
use crate::telemetry::Family;

pub(super) fn probes(state: &State) -> [Family; 2] {
    let mut ended = Family::counter(
        "probes_total",
        "Probes ended, and those that answered requests made needless.",
        &["cluster", "outcome"],
    );
    let mut delayed = Family::counter(
        "probes_delayed_total",
        "Probes that waited because too many were under way.",
        &["cluster"],
    );
    for cluster in &state.clusters {
        let name = cluster.name.as_str();
        for outcome in ProbeOutcome::ALL {
            let count = cluster.probes.of(outcome).value();
            ended.count(&[name, outcome.as_str()], count);
        }
        delayed.count(&[name], cluster.probes.delayed.value());
    }
    [ended, delayed]
}
