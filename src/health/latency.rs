//! Pure: how long a node's answers take lately, as one word.
//!
//! A peak-sensitive moving average (Finagle's `PeakEwma`): a slower answer counts at once and in
//! full, faster ones pull the average down over [`DECAY_MS`], so that a node that turns slow is
//! avoided now and tried again later.

use std::time::Duration;

use super::Millis;

/// The time in which what was seen loses all but 1/e of its weight: Finagle's default.
const DECAY_MS: f32 = 10_000.0;

/// The average and when it was last changed: 32 bits of microseconds as a float, 32 of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency(u64);

impl Latency {
    /// The latency kept in `word`; 0 says that nothing was seen.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to keep.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The average after an answer that took `took`.
    #[must_use]
    pub fn after(self, now: Millis, took: Duration) -> Self {
        let sample = took.as_secs_f32() * 1e6;
        let average = if sample > self.micros() {
            sample
        } else {
            let kept = self.kept(now);
            self.micros() * kept + sample * (1.0 - kept)
        };
        Self::new(average, now)
    }

    /// What is to be expected at `now`, in microseconds: less with time, so that a node that nobody
    /// asks is asked again.
    pub fn at(self, now: Millis) -> f32 {
        self.micros() * self.kept(now)
    }

    fn kept(self, now: Millis) -> f32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it wraps, as what it is compared to"
        )]
        let age = (now as u32).wrapping_sub(self.0 as u32);
        #[expect(clippy::cast_precision_loss, reason = "a second more or less in hours")]
        let age = age as f32;
        (-age / DECAY_MS).exp()
    }

    fn micros(self) -> f32 {
        f32::from_bits((self.0 >> 32) as u32)
    }

    fn new(micros: f32, now: Millis) -> Self {
        Self((u64::from(micros.to_bits()) << 32) | (now & u64::from(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let fast = Latency::default().after(0, ms(1));
        assert!((fast.at(0) - 1000.0).abs() < 1.0);
        let slow = fast.after(1, ms(100));
        assert!((slow.at(1) - 100_000.0).abs() < 1.0);
        let mut fading = slow;
        for at in 1..=100 {
            fading = fading.after(1 + at * 1000, ms(1));
        }
        assert!(fading.at(100_001) < 1100.0, "{}", fading.at(100_001));
    }

    #[test]
    fn who_is_not_asked_is_expected_to_be_better() {
        let slow = Latency::default().after(5000, ms(100));
        assert!(slow.at(15_000) < 40_000.0);
        assert!(Latency::default().at(0) < 1.0);
    }

    #[test]
    fn clocks_may_wrap() {
        let before = Latency::default().after(u64::from(u32::MAX), ms(10));
        let after = before.at(u64::from(u32::MAX) + 1);
        assert!((9_900.0..=10_000.0).contains(&after), "{after}");
    }
}
