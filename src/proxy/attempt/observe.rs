//! What an attempt tells of its node: the only place where requests change a standing.
//!
//! A fault of the client, a bound of keyway's own, and a pooled connection that the node closed as
//! idle say nothing of the node.

use std::error::Error as _;
use std::time::Duration;

use http::StatusCode;
use tracing::info;

use super::super::error::AttemptError;
use super::super::reply::NodeHead;
use super::Try;
use crate::cluster::counters::EjectedFor;
use crate::cluster::{Evidence, Failed, Waits};
use crate::health::Blame;
use crate::net::clock;
use crate::retry::GrpcCode;
use crate::routing::Prefer;

impl Try<'_> {
    /// Takes note of the head that the node answered with.
    pub(super) fn observe_answer(&self, head: &NodeHead) {
        if self.node().heard(self.millis()) {
            let (cluster, node) = (&self.cluster().name, self.node().id());
            info!(cluster, node, "the node answers what waits at it");
            self.cluster().load.hold.wake_all();
        }
        let eject = &self.cluster().params.eject;
        let status = head.status().as_u16();
        self.learn(matches!(status, 429 | 503));
        let says = |status| eject.on.statuses.contains(&status);
        if says(status) || self.call.grpc && grpc_failure(head).is_some_and(says) {
            self.failed(Blame::Answers);
        } else if self.node().answered(self.seen, self.millis()) {
            let (cluster, node) = (&self.cluster().name, self.node().id());
            info!(cluster, node, "the node answers again");
            self.cluster().load.hold.wake_all();
        }
    }

    /// Takes note of why there was no head.
    pub(super) fn observe_failure(&self, error: &AttemptError) {
        let on = &self.cluster().params.eject.on;
        if error.is_overload() {
            self.learn(true);
        }
        if error.blames_connection() {
            self.refused(error, on.connect);
        } else if error.blames_node(on) {
            self.failed(Blame::Silence);
        }
    }

    /// Takes note that it waits for a head beyond `patience`.
    pub(super) fn observe_silence(&self, waits: &Waits<'_>, patience: Duration) {
        let (cluster, node, now) = (self.cluster(), self.node(), self.millis());
        let place = (self.target.shard, self.target.replica(cluster).slot);
        if cluster.suspects(place, waits, patience, now) && node.suspect(waits, now) {
            let shard = &cluster.shards[self.target.shard];
            let counters = shard.counters.of(self.call.thread().index);
            counters.suspicions.increment();
            let (cluster, node, overdue) = (&cluster.name, node.id(), waits.overdue);
            info!(
                cluster,
                node, overdue, "the node answers nothing of what waits at it"
            );
        }
    }

    /// Takes note of how long the node took and whether it bore the load, where that is asked for.
    fn learn(&self, overloaded: bool) {
        let params = &self.cluster().params;
        if params.prefer == Prefer::LeastLoaded {
            let took = clock::recent().saturating_duration_since(self.began);
            self.node().took(self.millis(), took);
        }
        if params.caps.adaptive {
            self.node().learn(overloaded);
        }
    }

    fn refused(&self, error: &AttemptError, counts: bool) {
        if counts {
            self.count();
        }
        let random = self.call.thread().random();
        if self.node().refused(self.seen, self.millis(), random) {
            let (cluster, node) = (&self.cluster().name, self.node().id());
            let cause = error.source().map(ToString::to_string);
            info!(
                cluster,
                node,
                ?cause,
                "the node is not tried first for a while"
            );
        }
    }

    fn failed(&self, blame: Blame) {
        self.count();
        let (cluster, node) = (self.cluster(), self.node());
        let now = self.millis();
        let slot = self.target.replica(cluster).slot;
        let failed = node.failed(
            Evidence {
                seen: self.seen,
                began: self.call.thread().millis(self.began),
                blame,
            },
            now,
            &cluster.params.eject,
            self.call.thread().random(),
            || cluster.spares(self.target.shard, slot, now),
        );
        match failed {
            Failed::Counted => {}
            Failed::Ejected => {
                cluster.ejections.made(EjectedFor::Consecutive);
                let failures = node.standing().failures();
                info!(
                    cluster = cluster.name,
                    node = node.id(),
                    failures,
                    "the node is ejected"
                );
            }
            Failed::Kept => cluster.ejections.kept(EjectedFor::Consecutive),
        }
    }

    fn count(&self) {
        let counters = self.node().counters.of(self.call.thread().index);
        counters.failures.increment();
    }

    fn millis(&self) -> u64 {
        self.call.thread().millis(clock::recent())
    }
}

/// The status that a failed gRPC call would have had by HTTP (gRPC, "HTTP to gRPC Status Code
/// Mapping", read backwards), when its response says so in its head.
fn grpc_failure(head: &NodeHead) -> Option<u16> {
    let status = match super::super::forward::grpc_status(head)? {
        GrpcCode::INTERNAL => StatusCode::INTERNAL_SERVER_ERROR,
        GrpcCode::UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        GrpcCode::DEADLINE_EXCEEDED => StatusCode::GATEWAY_TIMEOUT,
        GrpcCode::RESOURCE_EXHAUSTED => StatusCode::TOO_MANY_REQUESTS,
        _ => return None,
    };
    Some(status.as_u16())
}
