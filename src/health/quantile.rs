//! Pure: a quantile of what a histogram counted lately.

use std::collections::VecDeque;
use std::time::Duration;

use super::Millis;

/// The time that is looked back over, and the samples that are kept of it.
const WINDOW_MS: Millis = 10_000;
const SAMPLES: u64 = 10;

/// Observations below which a quantile means nothing.
const LEAST: u64 = 50;

/// The counts of a histogram over the last ten seconds.
#[derive(Clone, Debug, Default)]
pub struct QuantileWindow<const BUCKETS: usize> {
    samples: VecDeque<(Millis, [u64; BUCKETS])>,
}

/// What the histogram counted in that time.
#[derive(Clone, Copy, Debug)]
pub struct Recent<const BUCKETS: usize>([u64; BUCKETS]);

impl<const BUCKETS: usize> QuantileWindow<BUCKETS> {
    /// Takes the `counts` of all buckets since the histogram began, and tells what came lately.
    pub fn push(&mut self, now: Millis, counts: [u64; BUCKETS]) -> Recent<BUCKETS> {
        let is_due = |(at, _): &(Millis, _)| now.saturating_sub(*at) >= WINDOW_MS / SAMPLES;
        if self.samples.back().is_none_or(is_due) {
            self.samples.push_back((now, counts));
        }
        while self.samples.len() > 1 && now.saturating_sub(self.samples[1].0) >= WINDOW_MS {
            self.samples.pop_front();
        }
        let begin = self.samples.front().map_or(counts, |it| it.1);
        Recent(std::array::from_fn(|at| {
            counts[at].saturating_sub(begin[at])
        }))
    }
}

impl<const BUCKETS: usize> Recent<BUCKETS> {
    /// The `quantile`, between the `bounds` of its bucket, in seconds, as Prometheus'
    /// `histogram_quantile` estimates it. `None` while too little came, or beyond the last bound.
    pub fn quantile(&self, bounds: &[f64], quantile: f64) -> Option<Duration> {
        estimate(&self.0, bounds, quantile)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn estimate(counts: &[u64], bounds: &[f64], quantile: f64) -> Option<Duration> {
    let total: u64 = counts.iter().sum();
    if total < LEAST {
        return None;
    }
    let mut left = total as f64 * quantile;
    let mut lower = 0.0;
    for (count, upper) in counts.iter().zip(bounds) {
        if left <= *count as f64 {
            let within = lower + (upper - lower) * left / *count as f64;
            return Some(Duration::from_secs_f64(within));
        }
        left -= *count as f64;
        lower = *upper;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 3] = [0.001, 0.01, 0.1];

    fn p95(counts: [u64; 4]) -> Option<u128> {
        let mut window = QuantileWindow::default();
        window.push(0, [0; 4]);
        let recent = window.push(1000, counts).quantile(&BOUNDS, 0.95);
        recent.map(|it| it.as_micros())
    }

    #[test]
    fn it_lies_in_its_bucket() {
        assert_eq!(p95([100, 0, 0, 0]), Some(950));
        assert_eq!(p95([90, 10, 0, 0]), Some(5500));
        assert_eq!(p95([0, 0, 100, 0]), Some(95_500));
    }

    #[test]
    fn few_observations_and_those_beyond_the_bounds_tell_nothing() {
        assert_eq!(p95([49, 0, 0, 0]), None);
        assert_eq!(p95([0, 0, 0, 100]), None);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut window = QuantileWindow::default();
        let mut push = |at, counts| window.push(at, counts).quantile(&BOUNDS, 0.95);
        assert_eq!(push(0, [0, 0, 1000, 0]), None);
        for at in 1..=10 {
            push(at * 1000, [at * 100, 0, 1000, 0]);
        }
        let recent = push(11_000, [1100, 0, 1000, 0]).unwrap();
        assert!(recent < Duration::from_millis(1), "{recent:?}");
    }
}
