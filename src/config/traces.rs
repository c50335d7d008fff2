//! Pure: the `traces` section of keyway.yaml.

use schemars::JsonSchema;
use serde::Deserialize;

use super::or_off::OrOff;
use super::place::At;
use super::scalar::{OtlpUrl, Percent};
use super::tls::Reading;
use crate::cluster::desired::{Sample, Traces};
use crate::otlp::Endpoint;
use crate::tls::ClientMaterial;

/// Which requests are traced, and who is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traces")]
pub(super) struct TracesFile {
    /// The URL of an OTLP receiver (HTTP and protobuf; `/v1/traces` where it has no path), such as
    /// <http://127.0.0.1:4318>, or off: trace context goes on untouched. Default: off.
    otlp: Option<At<OrOff<OtlpUrl>>>,
    /// How many of the traces that begin here are recorded; others are where they began. Default: 1%.
    sample: Option<Percent>,
}

impl TracesFile {
    pub(super) fn into_traces(self, reading: &mut Reading<'_>) -> Traces {
        let default = Traces::default();
        Traces {
            otlp: self.otlp.and_then(|it| endpoint(&it, reading)),
            sample: self.sample.map_or(default.sample, |it| Sample::of(it.0)),
        }
    }
}

/// The receiver, with its TLS by the authorities of the system.
fn endpoint(given: &At<OrOff<OtlpUrl>>, reading: &mut Reading<'_>) -> Option<Endpoint> {
    let mut endpoint = given.value.0.clone()?.0;
    if endpoint.is_https {
        let built = reading.named.client(ClientMaterial {
            ca: None,
            name: None,
            pair: None,
        });
        endpoint.tls = Some(reading.built(given, built)?);
    }
    Some(endpoint)
}
