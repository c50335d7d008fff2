//! What is counted on the data path, by whom it belongs to; one stripe a data thread.
//!
//! The handles are made when a state is built and carried from state to state by name, so a reload
//! resets nothing and a request looks nothing up.

use http::{Method, StatusCode};

use crate::reason::Reason;
use crate::retry::{Denied, Failure};
use crate::telemetry::{Counter, Gauge, Histogram};

/// How a request or an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 1xx as a final answer: a switched protocol.
    Informational,
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
    /// It broke.
    Error,
    /// The client left first.
    Aborted,
}

impl Class {
    /// Every class, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Error,
        Self::Aborted,
    ];

    /// The class of a status code.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }

    /// The value of the `class` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Error => "error",
            Self::Aborted => "aborted",
        }
    }
}

/// The values of the `method` label; the last stands for every other method.
pub const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "_OTHER",
];

/// The place of `method` in [`METHODS`].
pub fn method_index(method: &Method) -> usize {
    let named = METHODS.iter().position(|it| *it == method.as_str());
    named.unwrap_or(METHODS.len() - 1)
}

/// The values of the `reason` label of retries, as [`retry_index`] orders them.
pub const RETRY_REASONS: [&str; 7] = [
    "connect", "unsent", "reset", "timeout", "status", "grpc", "protocol",
];

/// The place of `failure` in [`RETRY_REASONS`].
pub fn retry_index(failure: Failure) -> usize {
    match failure {
        Failure::Connect => 0,
        Failure::Unsent => 1,
        Failure::Reset { .. } => 2,
        Failure::Timeout => 3,
        Failure::Status(_) => 4,
        Failure::Grpc(_) => 5,
        Failure::Protocol => 6,
    }
}

/// The values of the `reason` label of denied retries, as [`denied_index`] orders them.
pub const DENIED_REASONS: [&str; 7] = [
    "budget",
    "method",
    "body",
    "deadline",
    "no_candidate",
    "attempts",
    "head_sent",
];

/// The place in [`DENIED_REASONS`] of a response that broke off after its head went out.
pub const HEAD_SENT: usize = 6;

/// The place of `denied` in [`DENIED_REASONS`]; `None` where nobody wanted a retry.
pub fn denied_index(denied: Denied) -> Option<usize> {
    match denied {
        Denied::Policy => None,
        Denied::Budget => Some(0),
        Denied::Method => Some(1),
        Denied::Body => Some(2),
        Denied::Deadline => Some(3),
        Denied::NoCandidate => Some(4),
        Denied::Attempts => Some(5),
    }
}

/// The highest `rank` label of failovers; what was served further down counts there too.
pub const RANK_MAX: usize = 8;

/// One route's counters.
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// Requests ended, by method and class.
    pub requests: [[Counter; Class::ALL.len()]; METHODS.len()],
    /// From the head received to the end of the response.
    pub duration: Histogram,
    /// Requests under way.
    pub in_flight: Gauge,
    /// Answers made by keyway.
    pub errors: [Counter; Reason::ALL.len()],
    /// Requests without a key.
    pub missing_keys: Counter,
}

/// One cluster's counters.
#[derive(Debug, Default)]
pub struct ClusterCounters {
    /// Requests that began: what fills the retry budget.
    pub requests: Counter,
    /// Retries made, by what failed before.
    pub retries: [Counter; RETRY_REASONS.len()],
    /// Retries not made, by what denied them.
    pub retries_denied: [Counter; DENIED_REASONS.len()],
}

/// One shard's counters.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// From an attempt's start to the response's head.
    pub attempt_duration: Histogram,
    /// Requests served by another than the first node of the plan, by that node's rank from 1.
    pub failovers: [Counter; RANK_MAX],
}

/// One node's counters.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Attempts ended, by class.
    pub attempts: [Counter; Class::ALL.len()],
}
