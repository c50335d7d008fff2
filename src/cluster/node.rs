//! What was observed of a node: it outlives every state that names the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::counters::NodeCounters;
use crate::health::{
    AdaptiveLimit, Blame, EjectParams, Latency, Millis, Probed, Standing, Verdict,
};
use crate::telemetry::Striped;
use crate::upstream::Endpoint;

mod silence;

pub use silence::Waits;

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
    /// Tells attempts that have waited for a while that the node went out of rotation.
    left: Notify,
    /// What the data threads counted of it.
    pub counters: Striped<NodeCounters>,
}

/// What every data thread writes, apart from what they only read.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hot {
    standing: AtomicU64,
    in_flight: AtomicU32,
    probed: AtomicU8,
    /// Learned only where the cluster chooses or caps by it.
    latency: AtomicU64,
    limit: AtomicU32,
    /// When a response's head last came of it.
    heard: AtomicU64,
    overdue: AtomicU64,
    suspicion: AtomicU64,
}

/// A failure, other than a refused connection, that an attempt met.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// The node's standing when the attempt began.
    pub seen: Standing,
    /// When it began.
    pub began: Millis,
    /// What the node did.
    pub blame: Blame,
}

/// What one more failure of a node came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It was counted, or was no news.
    Counted,
    /// It put the node out of rotation.
    Ejected,
    /// It would have, if the node were not needed.
    Kept,
}

impl Node {
    /// A node of which nothing was observed.
    pub fn new(id: String, endpoint: Endpoint, threads: usize) -> Self {
        Self {
            id,
            endpoint: Arc::new(endpoint),
            drained: AtomicBool::new(false),
            hot: Hot::default(),
            left: Notify::new(),
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

    /// What probes say of it.
    pub fn probed(&self) -> Probed {
        Probed::from_word(self.hot.probed.load(Relaxed))
    }

    /// Whether an operator took it out of service.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// Takes it out of service, or back.
    pub fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Relaxed);
    }

    /// What is known of it now: what probes say, then what requests met, then what they wait for.
    pub fn verdict(&self, now: Millis) -> Verdict {
        if self.probed() == Probed::Down {
            return Verdict::Down;
        }
        match self.standing().verdict(now) {
            Verdict::Healthy => self.suspicion().verdict(now),
            verdict => verdict,
        }
    }

    /// Whether a request may try it first now. After its time out, one caller is told so.
    pub fn admits(&self, now: Millis) -> bool {
        match self.verdict(now) {
            Verdict::Healthy => true,
            Verdict::Suspect | Verdict::Silent | Verdict::Ejected | Verdict::Down => false,
            Verdict::OnTrial => {
                let standing = self.standing();
                if standing.is_serving() {
                    self.tries_silent(now)
                } else {
                    self.replace_standing(standing, standing.on_trial(now))
                }
            }
        }
    }

    /// Whether the request that tries it anew may wait in vain or meet a failure, and another that loses
    /// nothing by that may still come: `within` such a time since it may be tried.
    pub fn risks(&self, now: Millis, within: Duration) -> bool {
        let standing = self.standing();
        let due_for = if standing.is_serving() {
            self.suspicion().due_for(now)
        } else {
            standing.due_for(now)
        };
        due_for.is_some_and(|it| Duration::from_millis(it) < within)
    }

    /// Takes note of a refused connection by an attempt that began under `seen`; whether that
    /// changed what was known.
    ///
    /// Attempts that met the same fault together change the standing once: only the first finds it
    /// as it was when they began.
    pub fn refused(&self, seen: Standing, now: Millis, random: u64) -> bool {
        self.replace_standing(seen, seen.after_refusal(now, random))
    }

    /// Takes note of a failure. `spared` tells whether the node may go.
    pub fn failed(
        &self,
        evidence: Evidence,
        now: Millis,
        eject: &EjectParams,
        random: u64,
        spared: impl Fn() -> bool,
    ) -> Failed {
        let Evidence { seen, began, blame } = evidence;
        loop {
            let standing = self.standing();
            if standing.is_trial() && standing == seen {
                let again = standing.ejected(now, eject.times, blame, random);
                return self.leave(standing, again).unwrap_or(Failed::Counted);
            }
            if !standing.concerns(began) {
                return Failed::Counted;
            }
            let counted = standing.after_failure();
            let ejects = eject
                .consecutive
                .is_some_and(|it| counted.failures() >= it.get());
            if ejects && spared() {
                match self.leave(standing, counted.ejected(now, eject.times, blame, random)) {
                    Some(left) => return left,
                    None => continue,
                }
            }
            if self.replace_standing(standing, counted) {
                return if ejects {
                    Failed::Kept
                } else {
                    Failed::Counted
                };
            }
        }
    }

    /// Puts a node that is in rotation out of it, for what its attempts came to in all; whether it
    /// was in.
    pub fn eject(&self, now: Millis, eject: &EjectParams, random: u64) -> bool {
        let standing = self.standing();
        let ejected = standing.ejected(now, eject.times, Blame::Answers, random);
        standing.is_serving() && self.leave(standing, ejected).is_some()
    }

    /// Takes note of a response to an attempt that began under `seen`; whether that took the node
    /// back.
    pub fn answered(&self, seen: Standing, now: Millis) -> bool {
        let standing = self.standing();
        if standing.is_clear() {
            return false;
        }
        // A late answer does not hide a newer refusal, and one that a node gave although it is ejected
        // does not shorten that: where all fail now and then, all would be back at once.
        let is_trial = standing == seen && (standing.is_resting() || standing.is_trial());
        let is_news = standing.is_serving() || is_trial;
        is_news && self.replace_standing(standing, standing.restored(now)) && !standing.is_serving()
    }

    /// Takes note that probes find it up, though they found it down before: it is back since `now`.
    pub fn rejoin(&self, now: Millis) -> bool {
        let standing = self.standing();
        // Whoever changes it meanwhile met the node since.
        let _back = self.replace_standing(standing, standing.rejoined(now));
        self.set_probed(Probed::Up)
    }

    /// Takes note of what probes say, and whether that was news. Going down, it leaves rotation.
    pub fn set_probed(&self, probed: Probed) -> bool {
        let before = self.hot.probed.swap(probed as u8, Relaxed);
        let is_news = Probed::from_word(before) != probed;
        if is_news && probed == Probed::Down {
            self.left.notify_waiters();
        }
        is_news
    }

    /// Takes it back into rotation: somebody vouches for it. Whether it was out.
    pub fn restore(&self, now: Millis) -> bool {
        let standing = self.standing();
        !standing.is_serving() && self.replace_standing(standing, standing.restored(now))
    }

    /// Ready when the node leaves rotation, from when this is called on.
    pub fn left(&self) -> Notified<'_> {
        self.left.notified()
    }

    /// It joins at `now`: from then on it warms up.
    pub fn begins(&self, now: Millis) {
        let word = Standing::since(now.max(1)).word();
        self.hot.standing.store(word, Relaxed);
    }

    /// The share of its keys that it gets at `now`, of a cluster whose nodes warm up for
    /// `slow_start`.
    pub fn warmth(&self, now: Millis, slow_start: Duration) -> f64 {
        if slow_start.is_zero() {
            return 1.0;
        }
        self.standing().warmth(now, slow_start)
    }

    /// What one more request would find: those under way, each as long as answers take lately.
    pub fn cost(&self, now: Millis) -> f64 {
        let latency = Latency::from_word(self.hot.latency.load(Relaxed)).at(now);
        f64::from(self.in_flight() + 1) * f64::from(latency.max(1.0))
    }

    /// Takes note of how long an answer took, or a failure.
    pub fn took(&self, now: Millis, took: Duration) {
        // Of two threads at once one may be lost: an average can bear it.
        let word = &self.hot.latency;
        let latency = Latency::from_word(word.load(Relaxed)).after(now, took);
        word.store(latency.word(), Relaxed);
    }

    /// How much it may have under way, as far as that was found by trying.
    pub fn limit(&self) -> AdaptiveLimit {
        AdaptiveLimit::from_word(self.hot.limit.load(Relaxed))
    }

    /// Takes note of an answer, or of a sign of overload.
    pub fn learn(&self, overloaded: bool) {
        let limit = if overloaded {
            self.limit().after_overload()
        } else {
            self.limit().after_answer(self.in_flight())
        };
        self.hot.limit.store(limit.word(), Relaxed);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.hot.in_flight.load(Relaxed)
    }

    /// Counts one more request under way; [`end`](Self::end) must follow.
    pub fn begin(&self) {
        self.hot.in_flight.fetch_add(1, Relaxed);
    }

    /// Counts one more, if fewer than `cap` are; only then [`end`](Self::end) must follow.
    pub fn try_begin(&self, cap: u32) -> bool {
        let fits = self.hot.in_flight.fetch_add(1, Relaxed) < cap;
        if !fits {
            self.end();
        }
        fits
    }

    /// Counts one request less under way.
    pub fn end(&self) {
        self.hot.in_flight.fetch_sub(1, Relaxed);
    }

    /// Puts it out of rotation, if it still stands as `seen`, and tells who waits at it.
    fn leave(&self, seen: Standing, out: Standing) -> Option<Failed> {
        let left = self.replace_standing(seen, out);
        left.then(|| {
            self.left.notify_waiters();
            Failed::Ejected
        })
    }

    fn replace_standing(&self, seen: Standing, new: Standing) -> bool {
        let word = &self.hot.standing;
        word.compare_exchange(seen.word(), new.word(), Relaxed, Relaxed)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn node() -> Node {
        let endpoint = Endpoint::new("127.0.0.1:1".parse().unwrap());
        Node::new("a".to_owned(), endpoint, 1)
    }

    fn fail(node: &Node, began: Millis, now: Millis, spared: bool) -> Failed {
        let evidence = Evidence {
            seen: node.standing(),
            began,
            blame: Blame::Silence,
        };
        node.failed(evidence, now, &EjectParams::default(), 0, || spared)
    }

    #[test]
    fn attempts_that_met_one_refusal_together_count_once() {
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
        assert!(node.answered(node.standing(), 61));
        assert!(node.admits(62));
    }

    #[test]
    fn a_late_answer_does_not_hide_a_newer_refusal() {
        let node = node();
        let seen = node.standing();
        node.refused(seen, 0, 0);
        assert!(!node.answered(seen, 1));
        assert_eq!(node.standing().failures(), 1);
    }

    #[test]
    fn failures_in_a_row_eject_and_an_answer_between_them_does_not_let_them() {
        let node = node();
        for _ in 0..4 {
            assert_eq!(fail(&node, 0, 10, true), Failed::Counted);
        }
        // The answer's attempt began before the failures, and is as much of now as they are.
        assert!(!node.answered(Standing::HEALTHY, 10));
        for _ in 0..4 {
            assert_eq!(fail(&node, 0, 10, true), Failed::Counted);
        }
        assert_eq!(fail(&node, 0, 10, true), Failed::Ejected);
        assert_eq!(node.verdict(10), Verdict::Ejected);
        // What was under way then is no news.
        assert_eq!(fail(&node, 0, 11, true), Failed::Counted);
        assert_eq!(node.standing().ejections(), 1);
    }

    #[test]
    fn a_node_that_is_needed_is_kept() {
        let node = node();
        for _ in 0..4 {
            fail(&node, 0, 0, false);
        }
        assert_eq!(fail(&node, 0, 0, false), Failed::Kept);
        assert_eq!(node.verdict(0), Verdict::Healthy);
        assert_eq!(fail(&node, 0, 0, true), Failed::Ejected);
    }

    #[test]
    fn one_trial_decides() {
        let node = node();
        assert!(node.eject(0, &EjectParams::default(), 0));
        let out = node.standing().time();
        assert!(!node.admits(out - 1));
        assert!(node.admits(out) && !node.admits(out));
        assert_eq!(fail(&node, out, out + 5, true), Failed::Ejected);
        assert_eq!(node.standing().ejections(), 2);
        let out = node.standing().time();
        assert!(node.admits(out));
        assert!(node.answered(node.standing(), out));
        assert_eq!(node.verdict(out), Verdict::Healthy);
    }

    #[test]
    fn an_attempt_that_nobody_meant_as_a_trial_changes_nothing() {
        let node = node();
        node.eject(0, &EjectParams::default(), 0);
        let before = node.standing();
        assert_eq!(fail(&node, 1, 2, true), Failed::Counted);
        assert!(!node.answered(before, 2));
        assert_eq!(node.standing(), before);
    }

    #[test]
    fn what_is_down_by_probes_is_down_whatever_requests_met() {
        let node = node();
        assert!(node.set_probed(Probed::Down) && !node.set_probed(Probed::Down));
        assert!(!node.admits(0));
        assert!(node.set_probed(Probed::Up));
        assert!(node.admits(0));
    }

    #[test]
    fn a_node_that_was_down_warms_up() {
        let (node, minute) = (node(), Duration::from_mins(1));
        node.set_probed(Probed::Down);
        assert!(node.rejoin(5000));
        assert!(node.warmth(5001, minute) < 0.01);
        // What began before is no news.
        assert_eq!(fail(&node, 4999, 5001, true), Failed::Counted);
        assert_eq!(node.standing().failures(), 0);
        // What requests met does not end by it.
        node.refused(node.standing(), 6000, 0);
        let resting = node.standing();
        node.set_probed(Probed::Down);
        node.rejoin(6001);
        assert_eq!(node.standing(), resting);
    }

    #[tokio::test]
    async fn who_waits_is_told_that_the_node_left() {
        let node = node();
        let left = node.left();
        assert!(node.eject(0, &EjectParams::default(), 0));
        left.await;
        let left = node.left();
        node.set_probed(Probed::Down);
        left.await;
    }
}
