//! Pure: which requests are logged or traced, by a number that each of them has.

use crate::units::Ratio;

/// The bits that are compared: as many as W3C's Trace Context promises to be random in a trace's id.
const BITS: u32 = 56;

/// A share of all requests. What belongs to one trace is logged wherever the share is as large, or
/// nowhere, so that the lines and spans of several sidecars fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Numbers below this one are taken.
    below: u64,
}

impl Sample {
    /// This share.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of 2^56 lies in 0..=2^56"
    )]
    pub fn of(share: Ratio) -> Self {
        let below = share.as_f64() * (1_u64 << BITS) as f64;
        Self {
            below: below as u64,
        }
    }

    /// Whether a request is taken whose number is `bits`; only the lowest 56 count.
    pub fn takes(self, bits: u64) -> bool {
        bits & ((1 << BITS) - 1) < self.below
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self::of(Ratio::ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_as_many_numbers() {
        let taken = |percent| {
            let sample = Sample::of(Ratio::percent(percent));
            // Evenly spread over all numbers.
            let numbers = (0..1000).map(|at| (2 * at + 1) * ((1_u64 << BITS) / 2000));
            numbers.filter(|it| sample.takes(*it)).count()
        };
        assert_eq!([0, 1, 50, 100].map(taken), [0, 10, 500, 1000]);
    }

    #[test]
    fn only_the_random_bits_of_a_number_count() {
        let half = Sample::of(Ratio::percent(50));
        assert!(half.takes(0xff00_0000_0000_0001) && half.takes(1));
        assert!(!half.takes(0x00ff_0000_0000_0000));
        assert!(Sample::default().takes(u64::MAX));
    }
}
