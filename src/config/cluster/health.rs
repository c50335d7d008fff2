//! Pure: the `eject` section of a cluster.

use std::num::NonZeroU8;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::or_off::OrOff;
use super::super::place::At;
use super::super::problem::Problem;
use super::super::scalar::{Percent, Timeout};
use super::retry::{Condition, conditions};
use crate::backoff::Backoff;
use crate::health::{EjectParams, RateParams, WhenAllBad};

/// When a node is put out of rotation for what requests meet at it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Eject")]
pub(in crate::config) struct EjectFile {
    /// So many failures in a row eject a node, 1 to 255, or off. Default: 5.
    consecutive: Option<OrOff<NonZeroU8>>,
    /// What counts as a failure: reset, timeout, status codes; connect, after which a node rests on
    /// its own, counts for the rate only. Default: [connect, reset, timeout, 502, 503, 504].
    on: Option<Vec<Condition>>,
    /// The share of failures that ejects a node, unless the shard's other nodes fail half as often; or
    /// off.
    failure_rate: Option<OrOff<RateFile>>,
    /// How long a first ejection lasts; it doubles from one to the next. Default: 5s.
    base: Option<Timeout>,
    /// How long any lasts. Default: 60s.
    max: Option<At<Timeout>>,
    /// So many nodes of a shard stay in rotation whatever they do. Default: 1.
    keep: Option<usize>,
    /// When no node of a shard is well: `try_all` (they are tried all the same) or fail. Default:
    /// `try_all`.
    when_all_bad: Option<WhenAllBad>,
}

/// The share of failures that ejects a node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FailureRate")]
struct RateFile {
    /// The share above which it does. Default: 50%.
    above: Option<Percent>,
    /// The time that is looked back over. Default: 10s.
    window: Option<Timeout>,
    /// Attempts below which the share means nothing. Default: 20.
    min_requests: Option<u64>,
}

impl EjectFile {
    pub(super) fn into_params(self, file: &str, problems: &mut Vec<Problem>) -> EjectParams {
        let default = EjectParams::default();
        let base = self.base.map_or(default.times.base, |it| it.0);
        if let Some(max) = &self.max
            && max.0 < base
        {
            let expected = format!("no less than eject.base, {base:?}");
            problems.push(max.problem(file, expected, format!("{:?}", max.0)));
        }
        EjectParams {
            consecutive: self.consecutive.map_or(default.consecutive, |it| it.0),
            on: self.on.map_or(default.on, |it| conditions(&it)),
            failure_rate: self
                .failure_rate
                .map_or(default.failure_rate, |it| it.0.map(RateFile::into_params)),
            times: Backoff {
                base,
                max: self
                    .max
                    .map_or(default.times.max, |it| it.value.0)
                    .max(base),
            },
            keep: self.keep.unwrap_or(default.keep),
            when_all_bad: self.when_all_bad.unwrap_or(default.when_all_bad),
        }
    }
}

impl RateFile {
    fn into_params(self) -> RateParams {
        let default = RateParams::default();
        RateParams {
            above: self.above.map_or(default.above, |it| it.0),
            window: self.window.map_or(default.window, |it| it.0),
            min_requests: self.min_requests.unwrap_or(default.min_requests),
        }
    }
}
