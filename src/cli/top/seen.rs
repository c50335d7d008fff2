//! Pure: the state as the admin server tells it, and what happened between two looks.

use serde::Deserialize;

/// The body of `/v1/state`, as far as it is shown.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) version: String,
    pub(super) uptime_seconds: f64,
    pub(super) phase: String,
    pub(super) generation: u64,
    pub(super) restart_required: bool,
    pub(super) reloads: Vec<Change>,
    pub(super) routes: Vec<Route>,
    pub(super) clusters: Vec<Cluster>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Change {
    pub(super) outcome: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) requests: u64,
    pub(super) errors: u64,
    /// What all requests took together.
    pub(super) seconds: f64,
    pub(super) in_flight: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) shards: Vec<Shard>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shard {
    pub(super) name: String,
    pub(super) ownership: f64,
    pub(super) nodes: Vec<Node>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) standing: String,
    pub(super) in_flight: i64,
    pub(super) connections: u64,
    pub(super) attempts: u64,
    pub(super) failed: u64,
}

/// A node in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) shard: &'a Shard,
    pub(super) node: &'a Node,
}

impl Seen {
    /// Every node of every cluster.
    pub(super) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.clusters.iter().flat_map(|cluster| {
            let shards = cluster.shards.iter();
            shards.flat_map(move |shard| {
                let nodes = shard.nodes.iter();
                nodes.map(move |node| Place {
                    cluster,
                    shard,
                    node,
                })
            })
        })
    }

    /// The route of that name.
    pub(super) fn route(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|it| it.name == name)
    }

    /// What needs somebody's attention, in a few words.
    pub(super) fn attention(&self) -> Vec<String> {
        let unwell = self.places().filter(|it| !it.is_well()).count();
        let refused = self
            .reloads
            .first()
            .is_some_and(|it| it.outcome == "rejected");
        let found = [
            match unwell {
                0 => None,
                1 => Some("1 node is not healthy".to_owned()),
                _ => Some(format!("{unwell} nodes are not healthy")),
            },
            refused.then(|| "the last change of the files was refused".to_owned()),
            self.restart_required
                .then(|| "a changed key waits for a restart".to_owned()),
        ];
        found.into_iter().flatten().collect()
    }
}

impl Place<'_> {
    pub(super) fn is_well(&self) -> bool {
        self.node.standing == "healthy"
    }

    /// Whether `other`, of another look, is the same node.
    pub(super) fn is_same(&self, other: &Place<'_>) -> bool {
        self.node.id == other.node.id && self.cluster.name == other.cluster.name
    }
}

/// How often a second something happened, when it was counted `then` and `now` and `seconds` passed;
/// `None` when that cannot be told, for the process began anew or was not seen before.
pub(super) fn rate(now: u64, then: Option<u64>, seconds: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a count between two looks")]
    let happened = now.checked_sub(then?)? as f64;
    (seconds > 0.0).then(|| happened / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks_at_one_process() {
        assert_eq!(rate(30, Some(10), 2.0), Some(10.0));
        assert_eq!(rate(30, None, 2.0), None);
        assert_eq!(rate(1, Some(10), 2.0), None);
        assert_eq!(rate(30, Some(10), -4.0), None);
    }
}
