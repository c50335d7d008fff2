//! Pure: the `balance`, `caps`, `hold` and `hedge` sections of a cluster.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::or_off::OrOff;
use super::super::place::At;
use super::super::problem::Problem;
use super::super::scalar::{After, Size, Timeout};
use crate::cluster::desired::{Balance, Caps, HedgeAfter, Hold};

/// How far above the mean a node's load may be before its keys go on to the next.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Balance")]
pub(in crate::config) struct BalanceFile {
    /// A node's bound as a multiple of the mean, above 1, such as 1.25; or off. Default: off.
    factor: Option<At<OrOff<f64>>>,
    /// Below so many requests under way no node is passed by. Default: 8.
    min_in_flight: Option<u32>,
}

/// How much may be under way.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Caps")]
pub(in crate::config) struct CapsFile {
    /// At a node, at least 1, or off. Default: off.
    node_in_flight: Option<OrOff<NonZeroU32>>,
    /// At all nodes of the cluster, at least 1, or off. Default: off.
    cluster_in_flight: Option<OrOff<NonZeroU32>>,
    /// How many requests may wait for a place, of a shard or, for the cluster's cap, of the cluster;
    /// more are overloaded at once. Default: 0.
    queue: Option<u32>,
    /// How long one may wait. Default: 100ms.
    queue_timeout: Option<Timeout>,
    /// Whether a node's cap is found by trying, up to `node_in_flight`: aimd, or off. Default: off.
    adaptive: Option<AdaptiveName>,
}

/// How a cap is found.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Adaptive")]
enum AdaptiveName {
    /// Not at all.
    Off,
    /// By additive increase and multiplicative decrease.
    Aimd,
}

/// When a second node is asked beside the first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hedge")]
pub(in crate::config) struct HedgeFile {
    /// How long the first node has: a duration, p95 (as long as 95 of 100 answers of the shard take), or
    /// off. Default: off.
    after: Option<OrOff<After>>,
}

/// Whether requests wait for a node, when their shard has none that is well.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hold")]
pub(in crate::config) struct HoldFile {
    /// How many may wait at once; 0 for none. Default: 0.
    requests: Option<u32>,
    /// What may be held of them. Default: 16MiB.
    bytes: Option<Size>,
    /// How long one waits. Default: 2s.
    max_wait: Option<Timeout>,
}

impl HoldFile {
    pub(super) fn into_params(self) -> Option<Hold> {
        let requests = self.requests.filter(|it| *it > 0)?;
        Some(Hold {
            requests,
            bytes: self.bytes.map_or(16 << 20, |it| it.0),
            max_wait: self.max_wait.map_or(Duration::from_secs(2), |it| it.0),
        })
    }
}

impl HedgeFile {
    pub(super) fn into_params(self) -> Option<HedgeAfter> {
        self.after.and_then(|it| it.0).map(|it| it.0)
    }
}

impl BalanceFile {
    pub(super) fn into_params(self, file: &str, problems: &mut Vec<Problem>) -> Option<Balance> {
        let factor = self.factor?;
        let bound = factor.0?;
        if !(bound > 1.0 && bound.is_finite()) {
            problems.push(factor.problem(file, "a number above 1, or off", bound.to_string()));
        }
        Some(Balance {
            factor: bound,
            min_in_flight: self.min_in_flight.unwrap_or(8),
        })
    }
}

impl CapsFile {
    pub(super) fn into_params(self) -> Caps {
        let default = Caps::default();
        Caps {
            node: self.node_in_flight.and_then(|it| it.0),
            cluster: self.cluster_in_flight.and_then(|it| it.0),
            queue: self.queue.unwrap_or(default.queue),
            queue_timeout: self.queue_timeout.map_or(default.queue_timeout, |it| it.0),
            adaptive: matches!(self.adaptive, Some(AdaptiveName::Aimd)),
        }
    }
}
