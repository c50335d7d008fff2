//! Placements: which are in force, who owns what, and what the last change moved.

use crate::cluster::desired::Detail;
use crate::cluster::{Reloads, State};
use crate::telemetry::Family;

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' samples are doubles"
)]
pub(super) fn placements(state: &State, reloads: &Reloads) -> [Family; 4] {
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
        if state.desired.metrics > Detail::Cluster {
            for (shard, share) in cluster.shards.iter().zip(cluster.placement.ownership()) {
                ownership.sample(&[name, &shard.name], share);
            }
        }
        let of_this = |it: &&(String, f64)| it.0 == name;
        moved.sample(&[name], shares.iter().find(of_this).map_or(0.0, |it| it.1));
    }
    [info, generation, ownership, moved]
}
