//! Pure: when a node is taken out of rotation for what requests met at it, and for how long.

use std::num::NonZeroU8;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::FailureList;
use crate::backoff::Backoff;
use crate::units::Ratio;

/// A cluster's rules of ejection.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectParams {
    /// So many failures in a row eject a node; `None`: none do. Envoy's default is 5 too, of 5xx
    /// alone (`outlier_detection.consecutive_5xx`).
    pub consecutive: Option<NonZeroU8>,
    /// What counts as a failure.
    pub on: FailureList,
    /// The share of failures that ejects a node; `None`: none does.
    pub failure_rate: Option<RateParams>,
    /// How long a first ejection lasts at most, and how long any does; it doubles from one to the
    /// next, and is spread over its upper half.
    pub times: Backoff,
    /// So many nodes of a shard stay in rotation whatever they do.
    pub keep: usize,
    /// What happens to a request when no node of its shard is well.
    pub when_all_bad: WhenAllBad,
}

/// When a node's failures among its attempts are too many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateParams {
    /// The share above which it is ejected, if that of the cluster's other nodes is not as high.
    pub above: Ratio,
    /// The time that is looked back over.
    pub window: Duration,
    /// Attempts below which a share means nothing.
    pub min_requests: u64,
}

/// What happens to a request when no node of its shard is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllBad {
    /// They are tried all the same, in their order: a wrong verdict then costs nothing.
    #[default]
    TryAll,
    /// It fails at once.
    Fail,
}

impl Default for EjectParams {
    fn default() -> Self {
        Self {
            consecutive: NonZeroU8::new(5),
            on: FailureList::default(),
            failure_rate: Some(RateParams::default()),
            times: Backoff {
                base: Duration::from_secs(5),
                max: Duration::from_mins(1),
            },
            keep: 1,
            when_all_bad: WhenAllBad::default(),
        }
    }
}

impl Default for RateParams {
    fn default() -> Self {
        Self {
            above: Ratio::percent(50),
            window: Duration::from_secs(10),
            min_requests: 20,
        }
    }
}
