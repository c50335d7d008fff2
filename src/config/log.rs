//! Pure: the `log` section of keyway.yaml.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::FilterText;
use crate::telemetry::{LogFormat, LogParams};

/// What the process says of itself, on standard error.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(super) struct LogFile {
    /// error, warn, info, debug, trace, off, or directives. Default: info.
    level: Option<FilterText>,
    /// auto (text on a terminal, json otherwise), text or json. Default: auto.
    format: Option<LogFormat>,
}

impl LogFile {
    pub(super) fn into_params(self) -> LogParams {
        LogParams {
            level: self.level.map(|it| it.0).unwrap_or_default(),
            format: self.format.unwrap_or_default(),
        }
    }
}
