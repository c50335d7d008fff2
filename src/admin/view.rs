//! Pure: the state as JSON, and why a key goes where it goes.

use serde_json::{Value, json};

use super::metrics::standing;
use crate::cluster::{Cluster, Moved, Pick, Reach, Replica, State};

/// The body of `/v1/state`. `now` is on the process's clock, in milliseconds.
pub(super) fn state(state: &State, now: u64) -> Value {
    let routes = state
        .routes
        .iter()
        .map(|it| json!({ "name": it.route.name, "cluster": it.route.cluster }));
    let clusters = state.clusters.iter().map(|it| cluster(it, now));
    json!({
        "generation": state.generation,
        "epoch": state.desired.topology.epoch,
        "zone": state.desired.zone,
        "routes": routes.collect::<Vec<_>>(),
        "clusters": clusters.collect::<Vec<_>>(),
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
    json!({
        "name": cluster.name,
        "placement": {
            "algorithm": cluster.placement.algorithm().as_str(),
            "fingerprint": format!("{:016x}", cluster.placement.fingerprint()),
        },
        "shards": shards.collect::<Vec<_>>(),
    })
}

fn node(replica: &Replica, now: u64) -> Value {
    let node = &replica.node;
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
    })
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
