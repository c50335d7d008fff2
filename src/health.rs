//! Pure: what keyway observed of a node, as one word that data threads compare and swap.
//!
//! A node that refused a connection is not tried first again until a short, growing back-off has
//! passed; then exactly one request tries it, while the others still pass it by. Placement never
//! looks here: a suspect node is skipped when a node is picked, and no other key moves.

use std::time::Duration;

use crate::backoff::Backoff;

/// How long a node that refused is passed by: long enough to cost nothing, short enough that a
/// restarted process serves again before its users look (nginx rests a node for 10 s, `HAProxy` until a check succeeds).
const REFUSED: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(5),
};

/// How long the one request that tries a suspect node keeps the others from it: longer than a
/// connection may take by default.
const TRIAL_MS: u64 = 1000;

const FAILURES_BITS: u32 = 8;

/// Milliseconds on the process's own monotonic clock.
pub type Millis = u64;

/// A node's standing: failures in a row and when it may be tried first again.
///
/// Packed into a word: 8 bits of failures below 56 bits of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing(u64);

/// What a standing says of a node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing speaks against it.
    Healthy,
    /// Its back-off has passed: one request may try it.
    OnTrial,
    /// It refused a moment ago.
    Suspect,
}

impl Standing {
    /// Nothing speaks against the node.
    pub const HEALTHY: Self = Self(0);

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
        match self {
            Self::HEALTHY => Verdict::Healthy,
            _ if now < self.until() => Verdict::Suspect,
            _ => Verdict::OnTrial,
        }
    }

    /// The standing while one request tries the node.
    #[must_use]
    pub fn on_trial(self, now: Millis) -> Self {
        Self::new(self.failures(), now + TRIAL_MS)
    }

    /// The standing after a connection was refused or timed out.
    ///
    /// Whoever stores it compares with the standing that the attempt began under, so that attempts
    /// that met the same fault together count once.
    #[must_use]
    pub fn after_refusal(self, now: Millis, random: u64) -> Self {
        let wait = REFUSED.equal_jitter(self.failures().into(), random);
        let wait = Millis::try_from(wait.as_millis()).unwrap_or(Millis::MAX);
        Self::new(self.failures().saturating_add(1), now + wait)
    }

    /// Failures in a row.
    pub fn failures(self) -> u8 {
        (self.0 & ((1 << FAILURES_BITS) - 1)) as u8
    }

    /// When the node may be tried first again.
    pub fn until(self) -> Millis {
        self.0 >> FAILURES_BITS
    }

    fn new(failures: u8, until: Millis) -> Self {
        Self((until << FAILURES_BITS) | u64::from(failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            waits.push(standing.until());
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
    fn words_carry_the_whole_standing() {
        let standing = Standing::HEALTHY.after_refusal(1 << 40, 7);
        assert_eq!(Standing::from_word(standing.word()), standing);
    }
}
