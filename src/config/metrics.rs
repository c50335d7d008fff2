//! Pure: the `metrics` section of keyway.yaml.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::cluster::desired::Detail;

/// What Prometheus is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(super) struct MetricsFile {
    /// cluster (no series of single shards and nodes), shard (of each shard and node, but no histogram
    /// of a node) or node (those too). Default: shard.
    pub(super) detail: Option<Detail>,
}
