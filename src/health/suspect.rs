//! Pure: when the requests that wait at a node tell that it answers nobody.
//!
//! A probe finds that too, in its timeout; requests under way tell it sooner. An attempt is **overdue**
//! once it has waited for a head for [`patience`]. When [`LEAST`] are overdue at once, all sent after the
//! node was last heard of, and another node that could serve in its place answers, the node is
//! **suspect**: it is passed by, what waits at it may move on, and it is probed at once. Whatever is
//! heard of it ends that.
//!
//! A node that is slow for some requests is not suspected: the head of a fast one ends the count of
//! those sent before it. Nor is one of a shard that is often slow, for patience grows with what is
//! usual there; one of a shard that answers too seldom to know what is usual; one that never answered,
//! which may be starting; or one whose neighbours are as silent: what all wait for is behind them.

use std::time::Duration;

use super::{Millis, Verdict};

/// So many overdue attempts make a node suspect: one or two may be slow requests.
const LEAST: u32 = 3;

/// How much longer than 99 of 100 answers a wait is that is beyond what is usual.
const USUAL_FACTOR: u32 = 3;

/// Nothing shorter is: a collector of garbage, or a busy machine, may stop a node for that long.
const PATIENCE_MIN: Duration = Duration::from_millis(75);

/// For how long a suspect node is passed by before one request tries it, and then again: what that
/// costs the request is the patience.
const PASSED_BY_MS: Millis = 1000;

/// A node of which nothing was heard for so long, and at which nothing waits, is not asked by others
/// than those that find no better one.
const STANDBY_MS: Millis = 1000;

/// How long an attempt waits before it is overdue, where 99 of 100 answers take no longer than
/// `usual`; `None` where that is not known.
pub fn patience(usual: Option<Duration>) -> Option<Duration> {
    let usual = usual?;
    Some((usual * USUAL_FACTOR).max(PATIENCE_MIN))
}

/// Whether an attempt that looked `late` at how long it waited knows nothing by it: keyway itself
/// did not run, and answers may lie unread.
pub fn is_too_late(late: Duration) -> bool {
    late > PATIENCE_MIN / 2
}

/// How many attempts are overdue at a node, all sent after it was last heard of, as one word: 48 bits of
/// when that was, 16 of their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overdue(u64);

/// Whether a node is suspect, as one word: until when it is passed by; 0 if it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspicion(Millis);

/// What is seen of another node, which could serve in the place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// When it was last heard of.
    pub heard: Millis,
    /// Attempts under way.
    pub in_flight: u32,
}

/// Whether `overdue` attempts make a node suspect at `now`, when as many as `keep` of the `others` must
/// be in rotation and answer within `patience`.
pub fn is_suspect(
    overdue: u32,
    now: Millis,
    patience: Duration,
    keep: usize,
    others: impl Iterator<Item = Other>,
) -> bool {
    let keep = keep.max(1);
    let patience = Millis::try_from(patience.as_millis()).unwrap_or(Millis::MAX);
    let answers = |it: &Other| {
        let silent_for = now.saturating_sub(it.heard);
        // One that is asked now and then may be as silent, and was not asked since.
        let is_standby = it.in_flight == 0 && silent_for > STANDBY_MS;
        silent_for <= patience || is_standby
    };
    overdue >= LEAST && others.filter(answers).take(keep).count() == keep
}

impl Overdue {
    const COUNT_BITS: u32 = 16;

    /// The count kept in `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to keep.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// With one more that was sent after the node was last heard of, at `heard`.
    #[must_use]
    pub fn joined(self, heard: Millis) -> Self {
        let count = self.count(heard).saturating_add(1);
        Self::new(heard, count)
    }

    /// With one less of those that joined when the node was last heard of at `heard`.
    #[must_use]
    pub fn left(self, heard: Millis) -> Self {
        if self.heard() == heard {
            Self::new(heard, self.count(heard).saturating_sub(1))
        } else {
            self
        }
    }

    /// How many there are, if the node was last heard of at `heard`.
    pub fn count(self, heard: Millis) -> u32 {
        let count = self.0 & ((1 << Self::COUNT_BITS) - 1);
        if self.heard() == heard {
            u32::try_from(count).unwrap_or(u32::MAX)
        } else {
            0
        }
    }

    fn heard(self) -> Millis {
        self.0 >> Self::COUNT_BITS
    }

    fn new(heard: Millis, count: u32) -> Self {
        let most = (1 << Self::COUNT_BITS) - 1;
        Self((heard << Self::COUNT_BITS) | u64::from(count.min(most)))
    }
}

impl Suspicion {
    /// That of a node that is suspect since `now`, or was tried in vain.
    pub fn since(now: Millis) -> Self {
        Self(now + PASSED_BY_MS)
    }

    /// The suspicion kept in `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to keep.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Whether there is one.
    pub fn is_held(self) -> bool {
        self.0 != 0
    }

    /// What it says at `now`.
    pub fn verdict(self, now: Millis) -> Verdict {
        match self.0 {
            0 => Verdict::Healthy,
            until if now >= until => Verdict::OnTrial,
            _ => Verdict::Silent,
        }
    }

    /// For how long a request might have tried the node; `None` while none may.
    pub fn due_for(self, now: Millis) -> Option<Millis> {
        now.checked_sub(self.0).filter(|_| self.is_held())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const ANSWERS: Other = Other {
        heard: 4990,
        in_flight: 4,
    };
    const IDLE: Other = Other {
        heard: 0,
        in_flight: 0,
    };
    const SILENT: Other = Other {
        heard: 4900,
        in_flight: 1,
    };

    const JUST_IDLE: Other = Other {
        heard: 4900,
        in_flight: 0,
    };

    fn suspects(overdue: u32, keep: usize, others: &[Other]) -> bool {
        is_suspect(overdue, 5000, ms(50), keep, others.iter().copied())
    }

    #[test]
    fn patience_is_thrice_what_is_usual_and_never_short() {
        assert_eq!(patience(None), None);
        assert_eq!(patience(Some(ms(2))), Some(ms(75)));
        assert_eq!(patience(Some(ms(2000))), Some(ms(6000)));
    }

    #[test]
    fn three_that_wait_make_a_node_suspect_while_another_answers() {
        assert!(suspects(3, 1, &[ANSWERS]));
        assert!(suspects(3, 1, &[IDLE]));
        assert!(suspects(3, 0, &[SILENT, ANSWERS]));
        assert!(!suspects(2, 1, &[ANSWERS]));
    }

    #[test]
    fn where_all_are_silent_or_too_few_are_left_nobody_is() {
        assert!(!suspects(9, 1, &[SILENT]));
        assert!(!suspects(9, 1, &[JUST_IDLE]));
        assert!(!suspects(9, 0, &[]));
        assert!(!suspects(9, 2, &[ANSWERS, SILENT]));
        assert!(suspects(9, 2, &[ANSWERS, IDLE]));
    }

    #[test]
    fn a_suspicion_ends_in_trials() {
        let suspicion = Suspicion::since(10);
        assert_eq!(suspicion.verdict(1009), Verdict::Silent);
        assert_eq!(suspicion.verdict(1010), Verdict::OnTrial);
        assert_eq!(suspicion.due_for(1009), None);
        assert_eq!(suspicion.due_for(1500), Some(490));
        assert_eq!(Suspicion::default().verdict(5), Verdict::Healthy);
        assert_eq!(Suspicion::default().due_for(5), None);
    }

    proptest! {
        /// Attempts join and leave, and now and then the node is heard of: the count is that of those
        /// which joined since and did not leave.
        #[test]
        fn only_those_count_that_joined_since_the_node_was_heard_of(
            steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..200),
        ) {
            let (mut word, mut heard, mut waiting) = (Overdue::default(), 1, Vec::new());
            for (step, at) in steps {
                match step {
                    0 => heard += 1,
                    1 if !waiting.is_empty() => {
                        let joined = waiting.swap_remove(at.index(waiting.len()));
                        word = word.left(joined);
                    }
                    _ => {
                        waiting.push(heard);
                        word = word.joined(heard);
                    }
                }
                word = Overdue::from_word(word.word());
                let expected = waiting.iter().filter(|it| **it == heard).count();
                prop_assert_eq!(word.count(heard) as usize, expected);
            }
        }
    }
}
