//! Pure: how many retries a cluster may see, whatever each request may do.
//!
//! Why a budget and not only a number of attempts: when every node fails, attempts alone multiply
//! the load by their number just when it hurts most. A budget grants retries in proportion to
//! requests, so that the whole load stays within `1 + ratio` of what clients send.
//!
//! The ratio and the floor a second are those of Finagle's and linkerd's retry budget (Envoy's default
//! is 20 % too). Theirs is a bucket whose deposits expire after `ttl`: what a calm window saved may be
//! spent at once when all fails, beside what the next one deposits. Here retries are counted in the same
//! sliding window as requests, so that no window that ends with a retry holds more of them than its
//! requests and its length grant.

use std::time::Duration;

use super::BudgetParams;

/// Parts of the window: what is older than it by less than one of them still counts against a retry,
/// and requests of the oldest part do not count for it.
const PARTS: usize = 20;

/// Requests and retries in a sliding window.
///
/// It is told how many requests there were in all since the last look, so the data path deposits
/// nothing: its own request counter is the deposit.
#[derive(Clone, Debug)]
pub struct Budget {
    params: BudgetParams,
    /// The window's parts, and the one before it, around `newest`.
    parts: [Part; PARTS + 1],
    newest: usize,
    /// When the newest part ends.
    ends: Duration,
    seen: u64,
    at: Duration,
}

/// What was counted in a part of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Requests, spread evenly over the time between two looks.
    requests: f64,
    retries: u32,
}

impl Budget {
    /// A budget of which nothing is spent at `now`, when `requests` were counted.
    pub fn new(params: BudgetParams, requests: u64, now: Duration) -> Self {
        Self {
            params,
            parts: [Part::default(); PARTS + 1],
            newest: 0,
            ends: now + part(params.window),
            seen: requests,
            at: now,
        }
    }

    /// Takes one retry, if there is one; `requests` is the count since the start of time.
    pub fn withdraw(&mut self, requests: u64, now: Duration) -> bool {
        self.advance(requests, now);
        let retries: u32 = self.parts.iter().map(|it| it.retries).sum();
        let granted = f64::from(retries + 1) <= self.grants();
        if granted {
            self.parts[self.newest].retries += 1;
        }
        granted
    }

    /// Goes on under other parameters with what was counted.
    pub fn reconfigure(&mut self, params: BudgetParams) {
        if params.window != self.params.window {
            // All of it is taken for new: the longer it counts, the less is granted.
            let retries = self.parts.iter().map(|it| it.retries).sum();
            let requests = self.parts.iter().map(|it| it.requests).sum();
            self.parts = [Part::default(); PARTS + 1];
            self.parts[self.newest] = Part { requests, retries };
            self.ends = self.at + part(params.window);
        }
        self.params = params;
    }

    /// Retries that the window grants in all.
    fn grants(&self) -> f64 {
        let oldest = (self.newest + 1) % self.parts.len();
        let all: f64 = self.parts.iter().map(|it| it.requests).sum();
        let by_time = f64::from(self.params.min_per_second) * self.params.window.as_secs_f64();
        by_time + (all - self.parts[oldest].requests) * self.params.ratio.as_f64()
    }

    /// Counts the requests since the last look, and leaves what is older than the window.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn advance(&mut self, requests: u64, now: Duration) {
        let mut made = requests.saturating_sub(self.seen) as f64;
        let part = part(self.params.window);
        let elapsed = now.saturating_sub(self.at);
        let skipped = elapsed.saturating_sub(self.params.window + part);
        if skipped > Duration::ZERO {
            // Nothing that was counted before is left, nor what came while nobody looked.
            self.parts = [Part::default(); PARTS + 1];
            made -= made * skipped.as_secs_f64() / elapsed.as_secs_f64();
            self.at += skipped;
            self.ends = self.at + part;
        }
        while now >= self.ends {
            let share = share(
                self.ends.saturating_sub(self.at),
                now.saturating_sub(self.at),
            );
            self.parts[self.newest].requests += made * share;
            made -= made * share;
            self.newest = (self.newest + 1) % self.parts.len();
            self.parts[self.newest] = Part::default();
            self.at = self.ends;
            self.ends += part;
        }
        self.parts[self.newest].requests += made;
        (self.seen, self.at) = (requests, self.at.max(now));
    }
}

/// The share that `part` has of `whole`; all of nothing.
fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        return 1.0;
    }
    (part.as_secs_f64() / whole.as_secs_f64()).min(1.0)
}

/// How long a part of `window` is.
fn part(window: Duration) -> Duration {
    let parts = u32::try_from(PARTS).unwrap_or(u32::MAX);
    (window / parts).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::Ratio;

    const PARAMS: BudgetParams = BudgetParams {
        ratio: Ratio::percent(20),
        min_per_second: 10,
        window: Duration::from_secs(10),
    };

    fn granted(budget: &mut Budget, requests: u64, now: Duration, tries: usize) -> usize {
        (0..tries)
            .filter(|_| budget.withdraw(requests, now))
            .count()
    }

    #[test]
    fn starts_with_a_window_of_the_minimum() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        assert_eq!(granted(&mut budget, 0, Duration::ZERO, 500), 100);
    }

    #[test]
    fn what_was_spent_is_there_again_when_the_window_has_passed() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        granted(&mut budget, 0, Duration::ZERO, 40);
        assert_eq!(granted(&mut budget, 0, Duration::from_secs(5), 500), 60);
        assert_eq!(granted(&mut budget, 0, Duration::from_secs(10), 500), 0);
        assert_eq!(
            granted(&mut budget, 0, Duration::from_millis(10_500), 500),
            40
        );
    }

    #[test]
    fn requests_deposit_their_ratio() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        granted(&mut budget, 0, Duration::ZERO, 500);
        assert_eq!(granted(&mut budget, 1000, Duration::ZERO, 500), 200);
    }

    #[test]
    fn holds_no_more_than_a_window() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        // 100 000 requests in 100 s are 10 000 a window: 2000 by ratio and 100 by time.
        let found = granted(&mut budget, 100_000, Duration::from_secs(100), 9000);
        assert!((2000..=2100).contains(&found), "{found}");
        // An idle hour later only the minimum is left.
        assert_eq!(
            granted(&mut budget, 100_000, Duration::from_secs(3700), 9000),
            100
        );
    }

    /// Two retries are wanted for each of 1000 requests a second.
    #[test]
    fn a_whole_failure_is_amplified_by_the_ratio_from_its_first_window_on() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        let mut retries = 0;
        for request in 1..=60_000_u64 {
            let now = Duration::from_millis(request);
            // All is well for 30 s.
            if request > 30_000 {
                retries += granted(&mut budget, request, now, 2);
            }
        }
        // 20 % of 30 000, and 10 a second for 30 s; nothing of what was saved comes on top.
        assert!((5900..=6300).contains(&retries), "{retries}");
    }

    #[test]
    fn a_smaller_budget_takes_the_surplus_away() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        budget.reconfigure(BudgetParams {
            min_per_second: 1,
            ..PARAMS
        });
        assert_eq!(granted(&mut budget, 0, Duration::ZERO, 500), 10);
    }

    #[test]
    fn another_window_forgets_no_retry() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        granted(&mut budget, 0, Duration::ZERO, 60);
        budget.reconfigure(BudgetParams {
            window: Duration::from_secs(8),
            ..PARAMS
        });
        assert_eq!(granted(&mut budget, 0, Duration::from_secs(1), 500), 20);
        assert_eq!(granted(&mut budget, 0, Duration::from_secs(9), 500), 60);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Requests come as they like, some of them want retries, and no window that ends with a retry has
        /// more retries than its requests and its length grant.
        #[test]
        fn no_window_has_more_retries_than_its_requests_grant(
            bursts in prop::collection::vec((0..3000_u64, 0..40_u64, 0..3_usize), 1..120),
        ) {
            let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
            let (mut now, mut count) = (Duration::ZERO, 0);
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            for (wait_ms, burst, wanted) in bursts {
                now += Duration::from_millis(wait_ms);
                for _ in 0..burst {
                    count += 1;
                    requests.push(now);
                    for _ in 0..wanted {
                        if budget.withdraw(count, now) {
                            retries.push(now);
                        }
                    }
                }
                // It knows when they came: else they would count as spread over the time until it looks.
                budget.advance(count, now);
            }
            for end in &retries {
                let within = |it: &&Duration| **it <= *end && **it + PARAMS.window > *end;
                let (made, found) = (
                    requests.iter().filter(within).count(),
                    retries.iter().filter(within).count(),
                );
                prop_assert!(found * 5 <= 500 + made, "{found} of {made} at {end:?}");
            }
        }
    }
}
