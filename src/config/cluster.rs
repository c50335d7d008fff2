//! Pure: the `clusters` section of keyway.yaml.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::place::At;
use super::problem::Problem;
use super::scalar::{Name, Percent, Size, Span, Timeout};
use crate::backoff::Backoff;
use crate::cluster::ATTEMPTS_MAX;
use crate::cluster::desired::{Annotate, Annotation, Authority, ClusterParams};
use crate::retry::{BudgetParams, GrpcCode, Policy, RepeatableMethods, RetryOn};
use crate::routing::{Prefer, WhenShardDown};
use crate::upstream::{PoolParams, Protocol};

/// How to talk to a cluster.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cluster")]
pub(super) struct ClusterFile {
    /// The protocol spoken to the nodes; auto: HTTP/2 for gRPC, else HTTP/1.1. Default: auto.
    protocol: Option<Protocol>,
    /// What nodes see as Host: preserve, node or a name. Default: preserve.
    authority: Option<Name>,
    /// How long a connection may take to be made. Default: 250ms.
    connect_timeout: Option<Timeout>,
    /// From the request sent to the response's head, one attempt. Default: 2s.
    attempt_timeout: Option<Timeout>,
    /// What is tried again.
    retry: Option<RetryFile>,
    /// The bounds of a node's connections, over all threads.
    pool: Option<PoolFile>,
    /// The order of a shard's nodes: key (each key has its own first node) or order (as written).
    /// Default: key.
    prefer: Option<Prefer>,
    /// What happens when no node of the owning shard serves: fail, or `next_shard` for caches.
    /// Default: fail.
    when_shard_down: Option<WhenShardDown>,
    /// A reload that moves more of the key space is refused. Default: 100%.
    max_moved: Option<Percent>,
    /// What is told to nodes and clients, as x-keyway-* headers. Default: nothing.
    annotate: Option<AnnotateFile>,
}

/// What is tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retry")]
struct RetryFile {
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

/// A bucket that holds `window` of deposits and starts full.
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

/// The bounds of a node's connections, over all threads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pool")]
struct PoolFile {
    /// Connections in all, at least 1. Default: 256.
    max_connections: Option<At<u32>>,
    /// Idle connections kept. Default: 32.
    max_idle: Option<u32>,
    /// How long an idle connection is kept. Default: 30s.
    idle_timeout: Option<Timeout>,
}

/// Lists of shard, node, epoch, attempts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Annotate")]
struct AnnotateFile {
    /// What nodes are told. Default: [].
    #[serde(default)]
    request: Vec<Annotation>,
    /// What clients are told. Default: [].
    #[serde(default)]
    response: Vec<Annotation>,
}

/// A failure that is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Connect,
    Reset,
    Timeout,
    Status(u16),
}

/// A gRPC status code by its name.
#[derive(Clone, Copy, Debug)]
struct GrpcName(GrpcCode);

impl ClusterFile {
    /// The settings, the contract's defaults where the file is silent.
    pub(super) fn into_params(self, file: &str, problems: &mut Vec<Problem>) -> ClusterParams {
        let default = ClusterParams::default();
        ClusterParams {
            protocol: self.protocol.unwrap_or(default.protocol),
            authority: self
                .authority
                .map_or(default.authority, |Name(name)| match name.as_str() {
                    "preserve" => Authority::Preserve,
                    "node" => Authority::Node,
                    _ => Authority::Name(name),
                }),
            connect_timeout: self
                .connect_timeout
                .map_or(default.connect_timeout, |it| it.0),
            attempt_timeout: self
                .attempt_timeout
                .map_or(default.attempt_timeout, |it| it.0),
            retry: self.retry.unwrap_or_default().into_policy(file, problems),
            pool: self.pool.unwrap_or_default().into_params(file, problems),
            prefer: self.prefer.unwrap_or(default.prefer),
            when_shard_down: self.when_shard_down.unwrap_or(default.when_shard_down),
            max_moved: self.max_moved.map_or(default.max_moved, |it| it.0),
            annotate: self.annotate.map_or(default.annotate, |it| Annotate {
                request: it.request,
                response: it.response,
            }),
        }
    }
}

impl RetryFile {
    fn into_policy(self, file: &str, problems: &mut Vec<Problem>) -> Policy {
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

impl PoolFile {
    fn into_params(self, file: &str, problems: &mut Vec<Problem>) -> PoolParams {
        let default = PoolParams::default();
        if let Some(max) = &self.max_connections
            && max.value == 0
        {
            problems.push(max.problem(file, "at least 1 connection", "0"));
        }
        PoolParams {
            max_connections: self
                .max_connections
                .map_or(default.max_connections, |it| it.value),
            max_idle: self.max_idle.unwrap_or(default.max_idle),
            idle_timeout: self.idle_timeout.map_or(default.idle_timeout, |it| it.0),
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

fn conditions(listed: &[Condition]) -> RetryOn {
    let statuses = listed.iter().filter_map(|it| match it {
        Condition::Status(code) => Some(*code),
        Condition::Connect | Condition::Reset | Condition::Timeout => None,
    });
    let mut statuses: Vec<_> = statuses.collect();
    statuses.sort_unstable();
    RetryOn {
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
