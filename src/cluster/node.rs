//! What was observed of a node: it outlives every state that names the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::counters::NodeCounters;
use crate::health::{Millis, Standing, Verdict};
use crate::telemetry::Striped;
use crate::upstream::Endpoint;

/// One backend process, known by cluster, id and address.
///
/// A new address under an old id is another node: it starts fresh.
#[derive(Debug)]
pub struct Node {
    id: String,
    endpoint: Arc<Endpoint>,
    /// Set by an operator, whatever the topology says; survives reloads.
    drained: AtomicBool,
    hot: Hot,
    /// What the data threads counted of it.
    pub counters: Striped<NodeCounters>,
}

/// What every data thread writes, apart from what they only read.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hot {
    standing: AtomicU64,
    in_flight: AtomicU32,
}

impl Node {
    /// A node of which nothing was observed.
    pub fn new(id: String, endpoint: Endpoint, threads: usize) -> Self {
        Self {
            id,
            endpoint: Arc::new(endpoint),
            drained: AtomicBool::new(false),
            hot: Hot::default(),
            counters: Striped::new(threads),
        }
    }

    /// Its identity in the topology.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Its standing.
    pub fn standing(&self) -> Standing {
        Standing::from_word(self.hot.standing.load(Relaxed))
    }

    /// Whether an operator took it out of service.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// Takes it out of service, or back.
    pub fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Relaxed);
    }

    /// Whether a request may try it first now. After a back-off, one caller is told so.
    pub fn admits(&self, now: Millis) -> bool {
        let standing = self.standing();
        match standing.verdict(now) {
            Verdict::Healthy => true,
            Verdict::Suspect => false,
            Verdict::OnTrial => self.replace_standing(standing, standing.on_trial(now)),
        }
    }

    /// Takes note of a refused connection by an attempt that began under `seen`; whether that
    /// changed what was known.
    pub fn refused(&self, seen: Standing, now: Millis, random: u64) -> bool {
        self.replace_standing(seen, seen.after_refusal(now, random))
    }

    /// Takes note of a response to an attempt that began under `seen`; whether that changed what
    /// was known.
    pub fn answered(&self, seen: Standing) -> bool {
        seen != Standing::HEALTHY && self.replace_standing(seen, Standing::HEALTHY)
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.hot.in_flight.load(Relaxed)
    }

    /// Counts one more request under way; [`end`](Self::end) must follow.
    pub fn begin(&self) {
        self.hot.in_flight.fetch_add(1, Relaxed);
    }

    /// Counts one request less under way.
    pub fn end(&self) {
        self.hot.in_flight.fetch_sub(1, Relaxed);
    }

    /// Attempts that met the same fault together change the standing once: only the first finds
    /// it as it was when they began.
    fn replace_standing(&self, seen: Standing, new: Standing) -> bool {
        let word = &self.hot.standing;
        word.compare_exchange(seen.word(), new.word(), Relaxed, Relaxed)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let endpoint = Endpoint::new("127.0.0.1:1".parse().unwrap());
        Node::new("a".to_owned(), endpoint, 1)
    }

    #[test]
    fn attempts_that_met_one_fault_together_count_once() {
        let node = node();
        let seen = node.standing();
        assert!(node.refused(seen, 0, 0));
        assert!(!node.refused(seen, 0, 0));
        assert_eq!(node.standing().failures(), 1);
    }

    #[test]
    fn one_request_tries_a_node_whose_back_off_has_passed() {
        let node = node();
        node.refused(node.standing(), 0, 0);
        assert!(!node.admits(1));
        assert!(node.admits(60));
        assert!(!node.admits(61));
        assert!(node.answered(node.standing()));
        assert!(node.admits(62));
    }

    #[test]
    fn a_late_answer_does_not_hide_a_newer_refusal() {
        let node = node();
        let seen = node.standing();
        node.refused(seen, 0, 0);
        assert!(!node.answered(seen));
        assert_eq!(node.standing().failures(), 1);
    }
}
