//! One probe within its time, and what is to be held of its outcome.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Place;
use crate::cluster::counters::ProbeOutcome;
use crate::cluster::state::State;
use crate::health::probe::Outcome;
use crate::upstream::{Probe, ProbeError};

/// A probe that was later than this and than a quarter of its timeout, its own timer or a look of that
/// time, counts for nothing: of the waits of an exchange no more than a few are in turn.
const LATE_MIN: Duration = Duration::from_millis(50);

/// How a probe ended.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) outcome: ProbeOutcome,
    pub(super) cause: Option<ProbeError>,
}

impl Report {
    /// What it says of the node.
    pub(super) fn verdict(&self) -> Outcome {
        match self.outcome {
            ProbeOutcome::Ok => Outcome::Good,
            ProbeOutcome::Failed | ProbeOutcome::Timeout => Outcome::Bad,
            ProbeOutcome::Late | ProbeOutcome::Exhausted | ProbeOutcome::Skipped => Outcome::Void,
        }
    }
}

/// Probes the node at `place` within its cluster's timeout. `lateness` tells how late looks were.
pub(super) async fn probe(state: Arc<State>, place: Place, lateness: Rc<Cell<Duration>>) -> Report {
    let (cluster, replica) = place.of(&state);
    let params = &cluster.params.probe;
    let probe = Probe {
        endpoint: replica.node.endpoint(),
        port: params.port,
        limit: params.timeout,
        check: &params.check,
        protocol: cluster.params.protocol,
        tls: cluster.params.tls.as_deref(),
        introduces: cluster.params.proxy_protocol,
    };
    let deadline = Instant::now() + params.timeout;
    let (outcome, cause) = match timeout_at(deadline, probe.run()).await {
        Ok(Ok(())) => (ProbeOutcome::Ok, None),
        Ok(Err(error)) if error.is_ours() => (ProbeOutcome::Exhausted, Some(error)),
        Ok(Err(error)) => (ProbeOutcome::Failed, Some(error)),
        Err(_elapsed) => (ProbeOutcome::Timeout, None),
    };
    let late = Instant::now().saturating_duration_since(deadline);
    let is_late = late.max(lateness.get()) > LATE_MIN.max(params.timeout / 4);
    match outcome {
        ProbeOutcome::Failed | ProbeOutcome::Timeout if is_late => Report {
            outcome: ProbeOutcome::Late,
            cause: None,
        },
        outcome => Report { outcome, cause },
    }
}
