//! Pure: waits that grow with each failure and are spread by jitter.

use std::time::Duration;

/// An exponential wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub base: Duration,
    /// The bound of every wait.
    pub max: Duration,
}

impl Backoff {
    /// The longest wait after `failures` earlier ones: `base * 2^failures`, at most `max`.
    pub fn bound(self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// A wait spread evenly over nothing and [`bound`](Self::bound), as `random` falls.
    ///
    /// "Full jitter" of Brooker, *Exponential Backoff And Jitter* (AWS, 2015): it spreads
    /// contenders best and costs the least calls.
    pub fn full_jitter(self, failures: u32, random: u64) -> Duration {
        scale(self.bound(failures), random)
    }

    /// A wait spread over the upper half of [`bound`](Self::bound): never near nothing.
    pub fn equal_jitter(self, failures: u32, random: u64) -> Duration {
        let half = self.bound(failures) / 2;
        half + scale(half, random)
    }
}

/// `bound * random / 2^64`.
fn scale(bound: Duration, random: u64) -> Duration {
    let nanos = (bound.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_millis(10),
        max: Duration::from_millis(250),
    };

    #[test]
    fn bound_doubles_up_to_the_maximum() {
        let bounds: Vec<_> = [0, 1, 4, 5, 31, 32, 4000]
            .map(|n| BACKOFF.bound(n).as_millis())
            .into();
        assert_eq!(bounds, [10, 20, 160, 250, 250, 250, 250]);
    }

    #[test]
    fn full_jitter_covers_zero_to_the_bound() {
        assert_eq!(BACKOFF.full_jitter(1, 0), Duration::ZERO);
        assert_eq!(BACKOFF.full_jitter(1, 1 << 63), Duration::from_millis(10));
        assert!(BACKOFF.full_jitter(1, u64::MAX) <= Duration::from_millis(20));
    }

    #[test]
    fn equal_jitter_waits_at_least_half() {
        assert_eq!(BACKOFF.equal_jitter(1, 0), Duration::from_millis(10));
        assert!(BACKOFF.equal_jitter(1, u64::MAX) <= Duration::from_millis(20));
    }
}
