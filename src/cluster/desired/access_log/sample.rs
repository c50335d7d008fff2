//! Pure: which requests are logged, by a number that each of them has.

use crate::units::Ratio;

/// The bits that are compared: as many as W3C's Trace Context promises to be random in a trace's id.
const BITS: u32 = 56;

/// A share of all requests. What belongs to one trace is logged wherever the share is as large, or
/// nowhere, so that the lines of several sidecars fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Numbers below this one are logged.
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

    /// Whether a request is logged whose number is `bits`; only the lowest 56 count.
    pub fn takes(self, bits: u64) -> bool {
        bits & ((1 << BITS) - 1) < self.below
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self::of(Ratio::ALL)
    }
}

/// The number of a trace, by the value of its `traceparent` field (W3C Trace Context Level 2, 3.2.2.3):
/// the random end of its id. `None` when it is no such value.
pub fn trace_bits(traceparent: &[u8]) -> Option<u64> {
    let id = traceparent.get(3..35)?;
    let framed = traceparent[2] == b'-' && traceparent.get(35) == Some(&b'-');
    let random = str::from_utf8(&id[id.len() - BITS as usize / 4..]).ok()?;
    let hex = random.bytes().all(|it| it.is_ascii_hexdigit());
    u64::from_str_radix(random, 16)
        .ok()
        .filter(|_| framed && hex)
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

    #[test]
    fn a_trace_has_the_number_at_the_end_of_its_id() {
        let bits = |text: &str| trace_bits(text.as_bytes());
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(bits(trace), Some(0x00ce_929d_0e0e_4736));
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0+4736-00f067aa0ba902b7-01",
            "00 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bits(text), None, "{text}");
        }
    }
}
