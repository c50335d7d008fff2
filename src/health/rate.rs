//! Pure: the share of a node's attempts that failed lately, and which nodes it speaks against.
//!
//! Data threads only count; whoever watches takes a [`Sample`] of the counts now and then. A node is
//! an outlier when its share is too high and that of the nodes that could serve in its place is not
//! half as high: where they answer alike it is the request, or something behind them all, and to
//! eject one would help nobody. Half, because shares that rise together pass a bound one by one.

use std::collections::VecDeque;

use super::{Millis, RateParams};

/// Samples that are kept of a window: its resolution.
const SAMPLES: usize = 10;

/// A node's counts at one moment, since it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Attempts that ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// A node's samples of the time that is looked back over.
#[derive(Clone, Debug, Default)]
pub struct RateWindow {
    samples: VecDeque<(Millis, Sample)>,
}

impl RateWindow {
    /// Takes `sample`, and tells what came since the window's begin.
    pub fn push(&mut self, now: Millis, sample: Sample, params: &RateParams) -> Sample {
        let window = Millis::try_from(params.window.as_millis()).unwrap_or(Millis::MAX);
        let step = window / SAMPLES as u64;
        let is_due = |(at, _): &(Millis, Sample)| now.saturating_sub(*at) >= step;
        if self.samples.back().is_none_or(is_due) {
            self.samples.push_back((now, sample));
        }
        // The one that is as old as the window is what the others are compared to.
        while self.samples.len() > 1 && now.saturating_sub(self.samples[1].0) >= window {
            self.samples.pop_front();
        }
        let begin = self.samples.front().map_or(sample, |it| it.1);
        Sample {
            attempts: sample.attempts.saturating_sub(begin.attempts),
            failures: sample.failures.saturating_sub(begin.failures),
        }
    }

    /// Forgets what came before: the node was judged by it.
    pub fn clear(&mut self) {
        self.samples.clear();
    }
}

/// The places in `recent`, what came in each one's window, of the nodes that fail too often while the
/// others do not. Each comes with the number of its group: it is compared with the others of that if
/// they were asked often enough, else with all others.
pub fn outliers(recent: &[(usize, Sample)], params: &RateParams) -> Vec<usize> {
    let all = sum(recent.iter().map(|it| it.1));
    let above = params.above.as_f64();
    let fails = |it: &Sample| it.attempts >= params.min_requests.max(1) && it.share() > above;
    let is_outlier = |(group, it): &(usize, Sample)| {
        // First, as it rules out nearly all: to add up the group of each node takes their square.
        if !fails(it) {
            return false;
        }
        let of_group = recent.iter().filter(|other| other.0 == *group);
        let beside = sum(of_group.map(|it| it.1)).without(*it);
        let others = if beside.attempts >= params.min_requests {
            beside
        } else {
            all.without(*it)
        };
        others.share() <= above / 2.0
    };
    let places = 0..recent.len();
    places.filter(|at| is_outlier(&recent[*at])).collect()
}

fn sum(samples: impl Iterator<Item = Sample>) -> Sample {
    samples.fold(Sample::default(), |sum, it| Sample {
        attempts: sum.attempts + it.attempts,
        failures: sum.failures + it.failures,
    })
}

impl Sample {
    fn without(self, other: Self) -> Self {
        Self {
            attempts: self.attempts - other.attempts,
            failures: self.failures - other.failures,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn share(self) -> f64 {
        match self.attempts {
            0 => 0.0,
            attempts => self.failures as f64 / attempts as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(attempts: u64, failures: u64) -> Sample {
        Sample { attempts, failures }
    }

    /// Of nodes of one group.
    fn found(recent: &[Sample]) -> Vec<usize> {
        let recent: Vec<_> = recent.iter().map(|it| (0, *it)).collect();
        outliers(&recent, &RateParams::default())
    }

    #[test]
    fn who_fails_alone_is_an_outlier() {
        assert_eq!(found(&[sample(100, 60), sample(100, 0)]), [0]);
        assert_eq!(found(&[sample(100, 50), sample(100, 0)]), [0; 0]);
        // The last one of a cluster that had no attempts is alone too.
        assert_eq!(found(&[sample(0, 0), sample(30, 30)]), [1]);
    }

    #[test]
    fn where_all_fail_nobody_is() {
        assert_eq!(found(&[sample(100, 90), sample(100, 80)]), [0; 0]);
        // Nor where they will: shares that rise together pass the bound one by one.
        assert_eq!(found(&[sample(100, 52), sample(100, 48)]), [0; 0]);
    }

    #[test]
    fn a_group_that_fails_alike_is_not_told_by_other_groups() {
        let well = (1, sample(1000, 0));
        let found = |recent: &[_]| outliers(recent, &RateParams::default());
        let (one, other) = ((0, sample(100, 90)), (0, sample(100, 80)));
        assert_eq!(found(&[one, other, well]), [0; 0]);
        // A node whose neighbours nobody asked is.
        assert_eq!(found(&[one, (0, sample(3, 0)), well]), [0]);
        assert_eq!(found(&[one, well]), [0]);
    }

    #[test]
    fn few_attempts_say_nothing() {
        assert_eq!(found(&[sample(19, 19), sample(100, 0)]), [0; 0]);
    }

    #[test]
    fn a_window_forgets() {
        let params = RateParams::default();
        let mut window = RateWindow::default();
        assert_eq!(window.push(0, sample(100, 90), &params), sample(0, 0));
        for at in 1..=10 {
            window.push(at * 1000, sample(100, 90 + at), &params);
        }
        assert_eq!(
            window.push(10_000, sample(110, 100), &params),
            sample(10, 10)
        );
        assert_eq!(
            window.push(12_000, sample(110, 100), &params),
            sample(10, 8)
        );
        // However often it is looked at, no more is kept.
        for at in 20_000..30_000 {
            window.push(at, sample(110, 100), &params);
        }
        assert!(window.samples.len() <= SAMPLES + 2);
        window.clear();
        assert_eq!(window.push(31_000, sample(120, 110), &params), sample(0, 0));
    }
}
