//! Pure: how many requests a node may have under way, found by trying, as one word.
//!
//! Additive increase and multiplicative decrease (Chiu and Jain, 1989), as TCP Reno and Netflix'
//! `concurrency-limits` (`AIMDLimit`) use it: each answer while the limit is used raises it a little,
//! so that a limit's worth of them raises it by one; each sign of overload lowers it by a tenth.

/// Where it begins, and between what it stays.
const FIRST: u32 = 20;
const LEAST: u32 = 1;
const MOST: u32 = 1000;

/// Bits behind the point.
const POINT: u32 = 16;

/// A limit; 0 is one that nothing was learned of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdaptiveLimit(u32);

impl AdaptiveLimit {
    /// The limit kept in `word`.
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The word to keep.
    pub const fn word(self) -> u32 {
        self.0
    }

    /// Requests that may be under way.
    pub fn get(self) -> u32 {
        self.fine() >> POINT
    }

    /// The limit after an answer, when `in_flight` were under way. A limit that is hardly used proves
    /// nothing and stays.
    #[must_use]
    pub fn after_answer(self, in_flight: u32) -> Self {
        if in_flight.saturating_mul(2) < self.get() {
            return self;
        }
        let raised = self.fine() + (1 << POINT) / self.get().max(1);
        Self(raised.min(MOST << POINT))
    }

    /// The limit after a sign of overload.
    #[must_use]
    pub fn after_overload(self) -> Self {
        let lowered = self.fine() - self.fine() / 10;
        Self(lowered.max(LEAST << POINT))
    }

    fn fine(self) -> u32 {
        if self.0 == 0 { FIRST << POINT } else { self.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limits_worth_of_answers_raises_it_by_one() {
        let mut limit = AdaptiveLimit::default();
        assert_eq!(limit.get(), FIRST);
        for _ in 0..=FIRST {
            limit = limit.after_answer(FIRST);
        }
        assert_eq!(limit.get(), FIRST + 1);
        assert_eq!(limit.after_answer(3), limit);
    }

    #[test]
    fn overload_lowers_it_to_no_less_than_one() {
        let mut limit = AdaptiveLimit::default().after_overload();
        assert_eq!(limit.get(), 18);
        for _ in 0..100 {
            limit = limit.after_overload();
        }
        assert_eq!(limit.get(), LEAST);
        for _ in 0..10_000_000 {
            limit = limit.after_answer(u32::MAX);
        }
        assert_eq!(limit.get(), MOST);
    }

    /// A node that can do 50 at once, and fails each request beyond: the limit swings just below.
    #[test]
    fn it_finds_what_a_node_can_do() {
        let mut limit = AdaptiveLimit::default();
        let mut seen = Vec::new();
        for _ in 0..20_000 {
            let in_flight = limit.get();
            limit = if in_flight > 50 {
                limit.after_overload()
            } else {
                limit.after_answer(in_flight)
            };
            seen.push(limit.get());
        }
        let late = &seen[10_000..];
        assert!(
            late.iter().all(|it| (45..=51).contains(it)),
            "{:?}",
            &late[..20]
        );
    }
}
