//! Pure: the `access_log` key of keyway.yaml, in its short and its long form.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::named::Named;
use super::or_off::OrOff;
use super::scalar::{LineFormatText, LogTarget, OnlyText, Percent, format_word};
use crate::cluster::desired::{AccessLog, LineFormat, Only, Sample};
use crate::telemetry::Destination;

/// The short form, off, text or json, or the keys.
#[derive(Debug)]
pub(super) enum AccessLogFile {
    /// In a word.
    Short(OrOff<LineFormat>),
    /// Key by key.
    Long(AccessLogKeys),
}

/// What is logged of each request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AccessLog")]
pub(super) struct AccessLogKeys {
    /// off, text, json, or a template of fields such as `%{method} %{target} %{status}`. Default: off.
    format: Option<LineFormatText>,
    /// stdout, or a file, relative to this one; it is made anew after a rename. Default: stdout.
    to: Option<LogTarget>,
    /// all, errors (5xx, answers of keyway's own, what broke or was left by its client) or slow:1s.
    /// Default: all.
    only: Option<OnlyText>,
    /// How many of them; those of one trace all or none. Default: 100%.
    sample: Option<Percent>,
}

impl AccessLogFile {
    pub(super) fn into_access_log(self, named: &Named) -> AccessLog {
        match self {
            Self::Short(format) => AccessLog::of_all(format.0),
            Self::Long(keys) => AccessLog {
                format: keys.format.and_then(|it| it.0.0),
                to: keys.to.map_or(Destination::Stdout, |it| match it.0 {
                    None => Destination::Stdout,
                    Some(path) => Destination::File(named.path(&path)),
                }),
                only: keys.only.map_or(Only::All, |it| it.0),
                sample: keys
                    .sample
                    .map_or_else(Sample::default, |it| Sample::of(it.0)),
            },
        }
    }
}

impl<'de> Deserialize<'de> for AccessLogFile {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = AccessLogFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("off, text, json, or keys such as format")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<AccessLogFile, E> {
                let format = format_word(text).ok_or_else(|| {
                    let expected = "off, text, json, or keys such as format";
                    E::custom(format!("expected {expected}, found {text:?}"))
                });
                format.map(AccessLogFile::Short)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AccessLogFile, A::Error> {
                let keys = AccessLogKeys::deserialize(MapAccessDeserializer::new(map));
                keys.map(AccessLogFile::Long)
            }
        }
        value.deserialize_any(Any)
    }
}

impl JsonSchema for AccessLogFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AccessLogFile".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let keys = generator.subschema_for::<AccessLogKeys>();
        json_schema!({ "anyOf": [
            { "type": "string", "pattern": "^(?:off|text|json)$|\\$\\{" },
            keys,
        ] })
    }
}
