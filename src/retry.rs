//! Pure: what may be tried again, and how often.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

pub use crate::backoff::Backoff;
pub use crate::health::FailureList;
use crate::units::Ratio;

mod budget;
mod decision;

pub use budget::Budget;
pub use decision::{Decision, Denied, Failure, Situation};

/// A cluster's retry policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// All attempts, the first included; at least 1.
    pub attempts: u32,
    /// The failures that are tried again, where it is safe.
    pub on: FailureList,
    /// The methods that may be repeated after bytes were sent.
    pub methods: RepeatableMethods,
    /// The methods that may be repeated after a timeout; never more than `methods`.
    pub on_timeout: RepeatableMethods,
    /// The gRPC status codes that are tried again.
    pub grpc: Vec<GrpcCode>,
    /// The largest request body that is kept for a repeat, in bytes.
    pub replay_max: usize,
    /// The wait before a node is tried a second time.
    pub backoff: Backoff,
    /// How many retries the cluster may see.
    pub budget: BudgetParams,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 3,
            on: FailureList::default(),
            methods: RepeatableMethods::Idempotent,
            on_timeout: RepeatableMethods::Safe,
            grpc: Vec::new(),
            replay_max: 64 << 10,
            backoff: Backoff {
                base: Duration::from_millis(10),
                max: Duration::from_millis(250),
            },
            budget: BudgetParams {
                ratio: Ratio::percent(20),
                min_per_second: 10,
                window: Duration::from_secs(10),
            },
        }
    }
}

/// Methods that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RepeatableMethods {
    /// None.
    None,
    /// GET, HEAD, OPTIONS and TRACE (RFC 9110 9.2.1).
    Safe,
    /// The safe ones, PUT and DELETE (RFC 9110 9.2.2).
    Idempotent,
}

/// A gRPC status code, `0..=16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcCode(u8);

impl GrpcCode {
    /// The call took too long.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// The service has no more to give.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// The service broke.
    pub const INTERNAL: Self = Self(13);
    /// The service is not there at the moment.
    pub const UNAVAILABLE: Self = Self(14);

    /// The codes' names, in the order of their numbers (gRPC, "Status codes and their use").
    pub const NAMES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ];

    /// `code` when gRPC defines it.
    pub fn new(code: u8) -> Option<Self> {
        (code <= 16).then_some(Self(code))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0)]
    }
}

/// A retry budget's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetParams {
    /// Retries allowed per request.
    pub ratio: Ratio,
    /// Retries allowed per second whatever the load.
    pub min_per_second: u32,
    /// The time over which retries are counted against requests.
    pub window: Duration,
}
