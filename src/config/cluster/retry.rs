//! Pure: the `retry` section of a cluster, and the failures that its lists name.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::super::place::At;
use super::super::problem::Problem;
use super::super::scalar::{Percent, Size, Span, Timeout};
use crate::backoff::Backoff;
use crate::cluster::ATTEMPTS_MAX;
use crate::health::FailureList;
use crate::retry::{BudgetParams, GrpcCode, Policy, RepeatableMethods};

/// What is tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(in crate::config) struct RetryFile {
    /// All attempts, the first included, 1 to 16. Default: 3.
    attempts: Option<At<u32>>,
    /// What is tried again: connect, reset, timeout, status codes. Default: [connect, reset,
    /// timeout, 502, 503, 504].
    on: Option<Vec<Condition>>,
    /// The methods that may be repeated after bytes were sent: idempotent, safe or none. Default:
    /// idempotent.
    methods: Option<RepeatableMethods>,
    /// The methods that may be repeated after a timeout: safe, idempotent or none. Default: safe.
    on_timeout: Option<At<RepeatableMethods>>,
    /// gRPC status codes that are tried again, such as unavailable. Default: [].
    grpc: Option<Vec<GrpcName>>,
    /// Larger bodies stream and are not repeatable. Default: 64KiB.
    replay_max: Option<Size>,
    /// The wait before a node is tried again, with full jitter.
    backoff: Option<BackoffFile>,
    /// How many retries there may be in all.
    budget: Option<BudgetFile>,
}

/// A growing wait.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Backoff")]
struct BackoffFile {
    /// The bound of the first wait. Default: 10ms.
    base: Option<Span>,
    /// The bound of every wait. Default: 250ms.
    max: Option<Span>,
}

/// Retries are counted against requests over a sliding `window`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Budget")]
struct BudgetFile {
    /// Retries allowed per request. Default: 20%.
    ratio: Option<Percent>,
    /// Retries allowed per second whatever the load. Default: 10.
    min_per_second: Option<u32>,
    /// How much of the past is kept. Default: 10s.
    window: Option<Timeout>,
}

/// A failure of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Connect,
    Reset,
    Timeout,
    Status(u16),
}

/// A gRPC status code by its name.
#[derive(Clone, Copy, Debug)]
struct GrpcName(GrpcCode);

impl RetryFile {
    pub(super) fn into_policy(self, file: &str, problems: &mut Vec<Problem>) -> Policy {
        let default = Policy::default();
        let methods = self.methods.unwrap_or(default.methods);
        if let Some(attempts) = &self.attempts
            && !(1..=ATTEMPTS_MAX).contains(&(attempts.value as usize))
        {
            let expected = format!("1 to {ATTEMPTS_MAX} attempts");
            problems.push(attempts.problem(file, expected, attempts.value.to_string()));
        }
        if let Some(on_timeout) = &self.on_timeout
            && on_timeout.value > methods
        {
            let expected = "no more methods than retry.methods allows";
            problems.push(on_timeout.problem(file, expected, name_of(on_timeout.value)));
        }
        let (backoff, budget) = (
            self.backoff.unwrap_or_default(),
            self.budget.unwrap_or_default(),
        );
        Policy {
            attempts: self.attempts.map_or(default.attempts, |it| it.value),
            on: self.on.map_or(default.on, |it| conditions(&it)),
            methods,
            on_timeout: self
                .on_timeout
                .map_or_else(|| default.on_timeout.min(methods), |it| it.value),
            grpc: self
                .grpc
                .map_or(default.grpc, |it| it.iter().map(|it| it.0).collect()),
            replay_max: self.replay_max.map_or(default.replay_max, |it| it.0),
            backoff: Backoff {
                base: backoff.base.map_or(default.backoff.base, |it| it.0),
                max: backoff.max.map_or(default.backoff.max, |it| it.0),
            },
            budget: BudgetParams {
                ratio: budget.ratio.map_or(default.budget.ratio, |it| it.0),
                min_per_second: budget
                    .min_per_second
                    .unwrap_or(default.budget.min_per_second),
                window: budget.window.map_or(default.budget.window, |it| it.0),
            },
        }
    }
}

fn name_of(methods: RepeatableMethods) -> &'static str {
    match methods {
        RepeatableMethods::None => "none",
        RepeatableMethods::Safe => "safe",
        RepeatableMethods::Idempotent => "idempotent",
    }
}

pub(super) fn conditions(listed: &[Condition]) -> FailureList {
    let statuses = listed.iter().filter_map(|it| match it {
        Condition::Status(code) => Some(*code),
        Condition::Connect | Condition::Reset | Condition::Timeout => None,
    });
    let mut statuses: Vec<_> = statuses.collect();
    statuses.sort_unstable();
    FailureList {
        connect: listed.contains(&Condition::Connect),
        reset: listed.contains(&Condition::Reset),
        timeout: listed.contains(&Condition::Timeout),
        statuses,
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Condition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("connect, reset, timeout or a status code 429 or 500 to 599")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Condition, E> {
                match text {
                    "connect" => Ok(Condition::Connect),
                    "reset" => Ok(Condition::Reset),
                    "timeout" => Ok(Condition::Timeout),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_u64<E: Error>(self, code: u64) -> Result<Condition, E> {
                match u16::try_from(code) {
                    Ok(code @ (429 | 500..=599)) => Ok(Condition::Status(code)),
                    _ => Err(E::invalid_value(
                        serde::de::Unexpected::Unsigned(code),
                        &self,
                    )),
                }
            }
        }
        value.deserialize_any(Any)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RetryCondition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["connect", "reset", "timeout", 429] },
            { "type": "integer", "minimum": 500, "maximum": 599 },
        ] })
    }
}

impl<'de> Deserialize<'de> for GrpcName {
    fn deserialize<D: Deserializer<'de>>(name: D) -> Result<Self, D::Error> {
        let name = String::deserialize(name)?;
        let code = GrpcCode::NAMES.iter().position(|it| *it == name);
        let code = code
            .and_then(|it| u8::try_from(it).ok())
            .and_then(GrpcCode::new);
        code.map(Self).ok_or_else(|| {
            let names = GrpcCode::NAMES.join(", ");
            D::Error::custom(format!("expected one of {names}, found {name:?}"))
        })
    }
}

impl JsonSchema for GrpcName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GrpcCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": GrpcCode::NAMES })
    }
}
