//! Pure: how finely Prometheus is told.

use schemars::JsonSchema;
use serde::Deserialize;

/// How finely Prometheus is told: each level shows what the one before it does, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// No series of single shards and nodes: what is counted of them is added up for each cluster.
    Cluster,
    /// Of each shard and each node, but no histogram of a node.
    #[default]
    Shard,
    /// A histogram of each node too.
    Node,
}
