//! Pure: what requests met at a node, as one word.
//!
//! A node that refused a connection **rests**: it is not tried first again until a short, growing
//! back-off has passed. One that failed otherwise, often enough, is **ejected** for longer. When
//! either time is over exactly one request tries the node, while the others still pass it by; its
//! answer ends it, its failure prolongs it.

use std::time::Duration;

use super::Millis;
use crate::backoff::Backoff;

/// How long a node that refused is passed by: long enough to cost nothing, short enough that a
/// restarted process serves again before its users look (nginx rests a node for 10 s, `HAProxy` until a check succeeds).
const REFUSED: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(5),
};

/// How long the one request that tries a node keeps the others from it: longer than a connection
/// may take by default.
const TRIAL_MS: u64 = 1000;

/// An ejection is forgotten for each minute that a node was well since: one that fails once an hour
/// is not out for longer each time.
const FORGETS_MS: u64 = 60_000;

const FAILURES_BITS: u32 = 8;
const EJECTIONS_BITS: u32 = 5;
const BLAME_BITS: u32 = 1;
const PLACE_BITS: u32 = 2;

const EJECTIONS_MAX: u8 = (1 << EJECTIONS_BITS) - 1;

/// A node's standing: whether it is in rotation, since when or until when not, its failures in a
/// row, and how often it was ejected.
///
/// Packed into a word: 8 bits of failures, 5 of ejections, 1 of what it was ejected for, 2 of the place,
/// 48 of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing(u64);

/// What a node is ejected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It did not answer, or broke off: probes can tell when it is over.
    Silence,
    /// It answered requests with failures: only requests can tell.
    Answers,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In rotation, since the time.
    Serving,
    /// It refused; out until the time.
    Resting,
    /// It failed too often; out until the time.
    Ejected,
    /// The same, and one request tries it until the time.
    Trial,
}

/// What a standing says of a node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Healthy,
    /// Its time is over: one request may try it.
    OnTrial,
    /// It refused a moment ago.
    Suspect,
    /// Requests wait at it, and it answers none.
    Silent,
    /// It failed too often.
    Ejected,
    /// Probes say that it does not answer; no word of requests.
    Down,
}

impl Standing {
    /// Nothing was ever observed.
    pub const HEALTHY: Self = Self(0);

    /// That of a node that is in rotation since `now`.
    pub fn since(now: Millis) -> Self {
        Self::new((Place::Serving, Blame::Silence), 0, 0, now)
    }

    /// The share of its keys that a node gets which takes `slow_start` to get all of them, `0.0..=1.0`;
    /// one that was there from the beginning has them.
    pub fn warmth(self, now: Millis, slow_start: Duration) -> f64 {
        if slow_start.is_zero() || !self.is_serving() || self.time() == 0 {
            return 1.0;
        }
        let age = Duration::from_millis(now.saturating_sub(self.time()));
        (age.as_secs_f64() / slow_start.as_secs_f64()).min(1.0)
    }

    /// The standing kept in `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to keep.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// What it says at `now`.
    pub fn verdict(self, now: Millis) -> Verdict {
        match self.place() {
            Place::Serving => Verdict::Healthy,
            _ if now >= self.time() => Verdict::OnTrial,
            Place::Resting => Verdict::Suspect,
            Place::Ejected | Place::Trial => Verdict::Ejected,
        }
    }

    /// Whether an answer changes nothing: the node is in rotation and its last attempt was well.
    pub fn is_clear(self) -> bool {
        self.failures() == 0 && self.is_serving()
    }

    /// Whether it is in rotation.
    pub fn is_serving(self) -> bool {
        self.place() == Place::Serving
    }

    /// Whether it was put out of rotation for refusing connections, and for nothing else.
    pub fn is_resting(self) -> bool {
        self.place() == Place::Resting
    }

    /// Whether one request tries a node that was ejected.
    pub fn is_trial(self) -> bool {
        self.place() == Place::Trial
    }

    /// For how long a request might have tried a node that was ejected; `None` while none may.
    pub fn due_for(self, now: Millis) -> Option<Millis> {
        match self.place() {
            Place::Ejected | Place::Trial => now.checked_sub(self.time()),
            Place::Serving | Place::Resting => None,
        }
    }

    /// What it was ejected for last, as long as it is out.
    pub fn blame(self) -> Blame {
        match self.bits(FAILURES_BITS + EJECTIONS_BITS, BLAME_BITS) {
            0 => Blame::Silence,
            _ => Blame::Answers,
        }
    }

    /// Whether what an attempt met that began at `began` is news: not of the time before the node
    /// was taken back.
    pub fn concerns(self, began: Millis) -> bool {
        self.is_serving() && began >= self.time()
    }

    /// The standing while one request tries the node.
    #[must_use]
    pub fn on_trial(self, now: Millis) -> Self {
        let place = match self.place() {
            Place::Ejected => Place::Trial,
            place @ (Place::Serving | Place::Resting | Place::Trial) => place,
        };
        self.with(place, self.failures(), now + TRIAL_MS)
    }

    /// The standing after a connection was refused or timed out.
    ///
    /// Whoever stores it compares with the standing that the attempt began under, so that attempts
    /// that met the same fault together count once.
    #[must_use]
    pub fn after_refusal(self, now: Millis, random: u64) -> Self {
        let wait = REFUSED.equal_jitter(self.failures().into(), random);
        let until = now + millis(wait);
        // Who was ejected for other reasons stays so: a refusal is no progress.
        let (place, until) = match self.place() {
            Place::Ejected => (Place::Ejected, until.max(self.time())),
            Place::Trial => (Place::Ejected, until),
            Place::Serving | Place::Resting => (Place::Resting, until),
        };
        self.with(place, self.failures().saturating_add(1), until)
    }

    /// The standing after one more failure in a row that did not put the node out.
    #[must_use]
    pub fn after_failure(self) -> Self {
        self.with(self.place(), self.failures().saturating_add(1), self.time())
    }

    /// The standing of a node that is put out of rotation at `now`, or stays out, for a time that
    /// grows with the ejections that are not forgotten.
    #[must_use]
    pub fn ejected(self, now: Millis, times: Backoff, blame: Blame, random: u64) -> Self {
        let forgotten = match self.place() {
            Place::Serving => now.saturating_sub(self.time()) / FORGETS_MS,
            Place::Resting | Place::Ejected | Place::Trial => 0,
        };
        let remembered = u64::from(self.ejections()).saturating_sub(forgotten);
        let remembered = u8::try_from(remembered).unwrap_or(EJECTIONS_MAX);
        let until = now + millis(times.equal_jitter(remembered.into(), random));
        let ejections = remembered.saturating_add(1).min(EJECTIONS_MAX);
        Self::new((Place::Ejected, blame), self.failures(), ejections, until)
    }

    /// The standing after an answer, or after probes that vouch for the node.
    #[must_use]
    pub fn restored(self, now: Millis) -> Self {
        match self.place() {
            Place::Serving => self.with(Place::Serving, 0, self.time()),
            Place::Resting | Place::Ejected | Place::Trial => self.with(Place::Serving, 0, now),
        }
    }

    /// The standing of a node that was down for another reason than what requests met, and is in
    /// rotation again since `now`; one that is out stays so.
    #[must_use]
    pub fn rejoined(self, now: Millis) -> Self {
        match self.place() {
            Place::Serving => self.with(Place::Serving, 0, now),
            Place::Resting | Place::Ejected | Place::Trial => self,
        }
    }

    /// Failures in a row.
    pub fn failures(self) -> u8 {
        self.bits(0, FAILURES_BITS)
    }

    /// Ejections that are not forgotten.
    pub fn ejections(self) -> u8 {
        self.bits(FAILURES_BITS, EJECTIONS_BITS)
    }

    /// Until when it is out, or since when it is back.
    pub fn time(self) -> Millis {
        self.0 >> (FAILURES_BITS + EJECTIONS_BITS + BLAME_BITS + PLACE_BITS)
    }

    fn place(self) -> Place {
        match self.bits(FAILURES_BITS + EJECTIONS_BITS + BLAME_BITS, PLACE_BITS) {
            0 => Place::Serving,
            1 => Place::Resting,
            2 => Place::Ejected,
            _ => Place::Trial,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "no part but the time has more than 8 bits"
    )]
    fn bits(self, from: u32, count: u32) -> u8 {
        ((self.0 >> from) & ((1 << count) - 1)) as u8
    }

    fn with(self, place: Place, failures: u8, time: Millis) -> Self {
        let blame = match place {
            Place::Serving | Place::Resting => Blame::Silence,
            Place::Ejected | Place::Trial => self.blame(),
        };
        Self::new((place, blame), failures, self.ejections(), time)
    }

    fn new((place, blame): (Place, Blame), failures: u8, ejections: u8, time: Millis) -> Self {
        let high = (time << PLACE_BITS) | place as u64;
        let high = (high << BLAME_BITS) | blame as u64;
        let low = (u64::from(ejections) << FAILURES_BITS) | u64::from(failures);
        Self((high << (FAILURES_BITS + EJECTIONS_BITS)) | low)
    }
}

fn millis(wait: Duration) -> Millis {
    Millis::try_from(wait.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Backoff = Backoff {
        base: Duration::from_secs(5),
        max: Duration::from_mins(1),
    };

    #[test]
    fn a_refusal_makes_a_node_suspect_until_the_back_off_has_passed() {
        let standing = Standing::HEALTHY.after_refusal(1000, 0);
        assert_eq!(standing.failures(), 1);
        assert_eq!(standing.verdict(1049), Verdict::Suspect);
        assert_eq!(standing.verdict(1050), Verdict::OnTrial);
    }

    #[test]
    fn the_back_off_grows_to_its_maximum() {
        let mut standing = Standing::HEALTHY;
        let mut waits = Vec::new();
        for _ in 0..300 {
            standing = standing.after_refusal(0, u64::MAX);
            waits.push(standing.time());
        }
        assert!(waits.is_sorted());
        assert_eq!(waits[0], 99);
        assert_eq!(*waits.last().unwrap(), 4999);
        assert_eq!(standing.failures(), u8::MAX);
    }

    #[test]
    fn a_trial_keeps_the_others_away() {
        let standing = Standing::HEALTHY.after_refusal(0, 0).on_trial(500);
        assert_eq!(standing.verdict(501), Verdict::Suspect);
        assert_eq!(standing.failures(), 1);
    }

    #[test]
    fn ejections_grow_and_are_forgotten() {
        let mut standing = Standing::HEALTHY;
        let mut now = 0;
        for expected_ms in [4_999, 9_999, 19_999, 39_999, 59_999, 59_999] {
            standing = standing.ejected(now, TIMES, Blame::Silence, u64::MAX);
            assert_eq!(standing.time() - now, expected_ms);
            assert_eq!(standing.verdict(now), Verdict::Ejected);
            now = standing.time();
            assert_eq!(standing.verdict(now), Verdict::OnTrial);
        }
        // Six ejections; two minutes well, and two are forgotten.
        let back = standing.restored(now);
        assert_eq!((back.verdict(now), back.ejections()), (Verdict::Healthy, 6));
        let again = back.ejected(now + 2 * FORGETS_MS, TIMES, Blame::Silence, u64::MAX);
        assert_eq!(again.ejections(), 5);
        // An hour well, and it is as new.
        let later = back.ejected(now + 60 * FORGETS_MS, TIMES, Blame::Silence, u64::MAX);
        assert_eq!(later.ejections(), 1);
    }

    #[test]
    fn what_began_before_a_node_was_taken_back_is_no_news() {
        let back = Standing::HEALTHY
            .ejected(0, TIMES, Blame::Silence, 0)
            .restored(3000);
        assert!(!back.concerns(2999));
        assert!(back.concerns(3000));
        assert!(!back.ejected(3000, TIMES, Blame::Silence, 0).concerns(4000));
    }

    #[test]
    fn what_a_node_is_out_for_is_known_until_it_is_back() {
        let out = Standing::HEALTHY.ejected(0, TIMES, Blame::Answers, 0);
        assert_eq!(out.blame(), Blame::Answers);
        assert_eq!(out.on_trial(9000).blame(), Blame::Answers);
        assert_eq!(out.after_refusal(1, 0).blame(), Blame::Answers);
        assert_eq!(out.restored(5).blame(), Blame::Silence);
        assert_eq!((out.ejections(), out.failures(), out.time()), (1, 0, 2500));
    }

    #[test]
    fn an_answer_ends_failures_and_keeps_the_count_of_ejections() {
        let failed = Standing::HEALTHY.after_failure().after_failure();
        assert_eq!(failed.failures(), 2);
        assert!(!failed.is_clear());
        assert_eq!(failed.verdict(0), Verdict::Healthy);
        assert_eq!(failed.restored(7), Standing::HEALTHY);
    }

    #[test]
    fn a_refusal_does_not_free_an_ejected_node() {
        let ejected = Standing::HEALTHY.ejected(0, TIMES, Blame::Silence, 0);
        let refused = ejected.after_refusal(10, 0);
        assert_eq!(refused.verdict(10), Verdict::Ejected);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "these shares are exact")]
    fn a_node_that_is_back_warms_up() {
        let slow = Duration::from_secs(10);
        let back = Standing::HEALTHY
            .ejected(0, TIMES, Blame::Silence, 0)
            .restored(4000);
        let warmth = [4000, 9000, 14_000, 99_000].map(|now| back.warmth(now, slow));
        assert_eq!(warmth, [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(back.warmth(4000, Duration::ZERO), 1.0);
        assert_eq!(Standing::HEALTHY.warmth(5, slow), 1.0);
        assert_eq!(Standing::since(5).warmth(5, slow), 0.0);
    }

    #[test]
    fn words_carry_the_whole_standing() {
        let standing =
            Standing::HEALTHY
                .after_refusal(1 << 40, 7)
                .ejected(1 << 40, TIMES, Blame::Silence, 9);
        assert_eq!(Standing::from_word(standing.word()), standing);
        assert_eq!((standing.failures(), standing.ejections()), (1, 1));
    }
}
