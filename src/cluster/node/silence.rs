//! Whether a node answers what waits at it: see [`crate::health::is_suspect`].

use std::sync::atomic::Ordering::Relaxed;

use super::Node;
use crate::health::{Millis, Other, Overdue, Suspicion};

/// An attempt that waits at a node beyond what is usual, and counts. Dropping it ends that.
#[derive(Debug)]
pub struct Waits<'a> {
    node: &'a Node,
    /// When the node was last heard of.
    heard: Millis,
    /// How many wait so, this one included.
    pub overdue: u32,
}

impl Node {
    /// Takes note that a response's head came of it, or another sign that it answers; whether that ends a
    /// suspicion. A store and a load of a line that every attempt writes anyway.
    pub fn heard(&self, now: Millis) -> bool {
        self.hot.heard.store(now, Relaxed);
        let suspicion = &self.hot.suspicion;
        suspicion.load(Relaxed) != 0 && suspicion.swap(0, Relaxed) != 0
    }

    /// Counts an attempt that was sent at `sent` and waits beyond what is usual; `None` when the node was
    /// heard of since, or never.
    pub fn waits(&self, sent: Millis) -> Option<Waits<'_>> {
        let heard = self.hot.heard.load(Relaxed);
        if heard == 0 || sent <= heard {
            return None;
        }
        let joined = |word| Overdue::from_word(word).joined(heard);
        let before = self
            .hot
            .overdue
            .update(Relaxed, Relaxed, |it| joined(it).word());
        Some(Waits {
            node: self,
            heard,
            overdue: joined(before).count(heard),
        })
    }

    /// Makes it suspect, for `waits`, and tells who waits at it; whether it was not before.
    pub fn suspect(&self, waits: &Waits<'_>, now: Millis) -> bool {
        let word = Suspicion::since(now).word();
        let suspicion = &self.hot.suspicion;
        let is_news = suspicion
            .compare_exchange(0, word, Relaxed, Relaxed)
            .is_ok();
        // What another thread hears at this moment may be missed: the next head, or a trial, ends it then.
        if is_news && self.hot.heard.load(Relaxed) != waits.heard {
            suspicion.store(0, Relaxed);
            return false;
        }
        if is_news {
            self.left.notify_waiters();
        }
        is_news
    }

    /// Whether it is suspect, whatever else is known of it.
    pub fn is_suspect(&self) -> bool {
        self.suspicion().is_held()
    }

    /// What it shows of whether it could serve in the place of another.
    pub(in crate::cluster) fn as_other(&self) -> Other {
        Other {
            heard: self.hot.heard.load(Relaxed),
            in_flight: self.in_flight(),
        }
    }

    pub(super) fn suspicion(&self) -> Suspicion {
        Suspicion::from_word(self.hot.suspicion.load(Relaxed))
    }

    /// Whether the caller is the one request that tries the suspect node.
    pub(super) fn tries_silent(&self, now: Millis) -> bool {
        let (before, after) = (self.suspicion().word(), Suspicion::since(now).word());
        let word = &self.hot.suspicion;
        word.compare_exchange(before, after, Relaxed, Relaxed)
            .is_ok()
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let left = |word| Overdue::from_word(word).left(self.heard).word();
        self.node.hot.overdue.update(Relaxed, Relaxed, left);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use crate::health::Verdict;

    #[test]
    fn those_count_that_were_sent_since_the_node_was_heard_of() {
        let node = node();
        // It never answered.
        assert!(node.waits(5).is_none());
        node.heard(10);
        assert!(node.waits(10).is_none());
        let (first, second) = (node.waits(11).unwrap(), node.waits(12).unwrap());
        assert_eq!((first.overdue, second.overdue), (1, 2));
        drop(first);
        assert_eq!(node.waits(13).unwrap().overdue, 2);
        node.heard(14);
        assert_eq!(node.waits(15).unwrap().overdue, 1);
        drop(second);
        assert_eq!(node.waits(15).unwrap().overdue, 1);
    }

    #[test]
    fn a_suspect_node_is_tried_by_one_at_a_time_and_back_when_it_is_heard_of() {
        let node = node();
        node.heard(1);
        let waits = node.waits(2).unwrap();
        assert!(node.suspect(&waits, 100));
        assert!(!node.suspect(&waits, 101));
        assert_eq!(node.verdict(1099), Verdict::Silent);
        assert!(!node.admits(1099));
        assert!(node.admits(1100) && !node.admits(1100));
        assert_eq!(node.verdict(1100), Verdict::Silent);
        assert!(node.heard(1200));
        assert_eq!(node.verdict(1200), Verdict::Healthy);
        assert!(!node.heard(1201));
    }

    #[test]
    fn a_node_that_was_heard_of_in_the_meantime_is_not_suspect() {
        let node = node();
        node.heard(1);
        let waits = node.waits(2).unwrap();
        node.heard(3);
        assert!(!node.suspect(&waits, 100));
        assert!(!node.is_suspect());
    }
}
