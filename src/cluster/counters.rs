//! What is counted on the data path, by whom it belongs to; one stripe a data thread.
//!
//! The handles are made when a state is built and carried from state to state by name, so a reload
//! resets nothing and a request looks nothing up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::OPTIONS => 5,
        Method::PATCH => 6,
        Method::TRACE => 7,
        _ => METHODS.len() - 1,
    }
}

/// The values of the `reason` label of retries, as [`retry_index`] orders them.
pub const RETRY_REASONS: [&str; 8] = [
    "connect", "unsent", "reset", "timeout", "status", "grpc", "protocol", "ejected",
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
        Failure::Left => 7,
    }
}

/// The values of the `reason` label of denied retries, as [`denied_index`] orders them.
pub const DENIED_REASONS: [&str; 8] = [
    "budget",
    "method",
    "body",
    "deadline",
    "no_candidate",
    "attempts",
    "head_sent",
    "nested",
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
        Denied::Nested => Some(7),
    }
}

/// Why a node leaves rotation: the `reason` label of ejections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectedFor {
    /// Failures in a row.
    Consecutive,
    /// Too many failures among its attempts.
    FailureRate,
    /// Failed probes.
    Probe,
}

impl EjectedFor {
    /// Every reason, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Consecutive, Self::FailureRate, Self::Probe];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::Probe => "probe",
        }
    }
}

/// What became of a request that was to be held: the `outcome` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A node served it in time.
    Served,
    /// It waited as long as it may.
    TimedOut,
    /// As many, or as much, were held as may be.
    Refused,
}

impl Held {
    /// Every outcome, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Served, Self::TimedOut, Self::Refused];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::TimedOut => "timeout",
            Self::Refused => "refused",
        }
    }
}

/// What became of a hedge: the `outcome` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedged {
    /// A second node was asked.
    Sent,
    /// It was the one that answered.
    Won,
    /// None was, for the retry budget was spent.
    Denied,
}

impl Hedged {
    /// Every outcome, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Won, Self::Denied];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Won => "won",
            Self::Denied => "denied",
        }
    }
}

/// What became of a request that found no place: the `outcome` label of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It got one in time.
    Admitted,
    /// It waited in vain.
    TimedOut,
    /// As many waited as may.
    Refused,
}

impl Queued {
    /// Every outcome, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::TimedOut, Self::Refused];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::TimedOut => "timeout",
            Self::Refused => "refused",
        }
    }
}

/// The nodes of a cluster that left rotation, and those that would have and were kept because too
/// few others were left.
#[derive(Debug, Default)]
pub struct Ejections {
    made: [AtomicU64; EjectedFor::ALL.len()],
    kept: [AtomicU64; EjectedFor::ALL.len()],
}

impl Ejections {
    /// Counts a node that left.
    pub fn made(&self, reason: EjectedFor) {
        self.made[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts one that was kept.
    pub fn kept(&self, reason: EjectedFor) {
        self.kept[reason as usize].fetch_add(1, Relaxed);
    }

    /// The counts of those that left and of those that were kept, for this reason.
    pub fn counts(&self, reason: EjectedFor) -> (u64, u64) {
        let of = |counts: &[AtomicU64]| counts[reason as usize].load(Relaxed);
        (of(&self.made), of(&self.kept))
    }
}

/// How a probe ended, or why there was none: the `outcome` label of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The answer was good.
    Ok,
    /// It was not, or the node refused the connection or broke it.
    Failed,
    /// There was none in time.
    Timeout,
    /// keyway itself was late: it counts for nothing.
    Late,
    /// keyway had nothing left to connect with: it counts for nothing.
    Exhausted,
    /// There was none, for the node had answered requests well.
    Skipped,
}

impl ProbeOutcome {
    /// Every outcome, in the order of the enum.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Failed,
        Self::Timeout,
        Self::Late,
        Self::Exhausted,
        Self::Skipped,
    ];

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Late => "late",
            Self::Exhausted => "exhausted",
            Self::Skipped => "skipped",
        }
    }
}

/// The probes of a cluster's nodes; written by the control thread alone.
#[derive(Debug, Default)]
pub struct ProbeCounters {
    ended: [Counter; ProbeOutcome::ALL.len()],
    /// Probes that waited for others to end.
    pub delayed: Counter,
}

impl ProbeCounters {
    /// The probes that ended so.
    pub fn of(&self, outcome: ProbeOutcome) -> &Counter {
        &self.ended[outcome as usize]
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
    /// Requests that found no place, by what became of them.
    pub queued: [Counter; Queued::ALL.len()],
    /// Second nodes that were asked beside the first, and what came of it.
    pub hedges: [Counter; Hedged::ALL.len()],
    /// Requests whose shard had no node that was well, by what became of them.
    pub held: [Counter; Held::ALL.len()],
}

/// One shard's counters.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// From an attempt's start to the response's head.
    pub attempt_duration: Histogram,
    /// Requests served by another than the first node of the plan, by that node's rank from 1.
    pub failovers: [Counter; RANK_MAX],
    /// Attempts at nodes that were not well, because none was.
    pub last_resorts: Counter,
    /// Nodes that became suspect because requests waited at them in vain.
    pub suspicions: Counter,
}

/// One node's counters.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Attempts ended, by class.
    pub attempts: [Counter; Class::ALL.len()],
    /// Attempts that failed in a way that can put the node out of rotation.
    pub failures: Counter,
    /// From an attempt's start to the response's head, where the files ask for it: it is as large as
    /// the rest.
    duration: OnceLock<Box<Histogram>>,
}

impl NodeCounters {
    /// Counts how long an answer took.
    pub fn took(&self, duration: Duration) {
        self.duration.get_or_init(Box::default).observe(duration);
    }

    /// How long answers took, as far as that was counted.
    pub fn duration(&self) -> Option<&Histogram> {
        self.duration.get().map(|it| &**it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_the_places_of_their_names() {
        for (place, name) in METHODS.iter().enumerate() {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(method_index(&method), place);
        }
    }
}
