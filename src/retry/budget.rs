//! Pure: how many retries a cluster may see, whatever each request may do.
//!
//! Why a budget and not only a number of attempts: when every node fails, attempts alone multiply
//! the load by their number just when it hurts most. A budget grants retries in proportion to
//! requests (Finagle's and linkerd's retry budget; Envoy's default is 20 % too), so the whole load
//! stays within `1 + ratio` of what clients send.

use std::time::Duration;

use super::BudgetParams;

/// A token bucket that requests and time fill and retries empty.
///
/// It holds what `window` deposits and starts full. It is told how many requests there were in all
/// since the last look, so the data path deposits nothing: its own request counter is the deposit.
#[derive(Clone, Debug)]
pub struct Budget {
    params: BudgetParams,
    /// Retries that may be made now.
    balance: f64,
    /// Requests in the last `window`, a linear estimate.
    recent: f64,
    seen: u64,
    at: Duration,
}

impl Budget {
    /// A full bucket at `now`, when `requests` were counted.
    pub fn new(params: BudgetParams, requests: u64, now: Duration) -> Self {
        let mut budget = Self {
            params,
            balance: 0.0,
            recent: 0.0,
            seen: requests,
            at: now,
        };
        budget.balance = budget.capacity();
        budget
    }

    /// Takes one retry, if there is one; `requests` is the count since the start of time.
    pub fn withdraw(&mut self, requests: u64, now: Duration) -> bool {
        self.deposit(requests, now);
        let granted = self.balance >= 1.0;
        if granted {
            self.balance -= 1.0;
        }
        granted
    }

    /// Goes on under other parameters with what there is.
    pub fn reconfigure(&mut self, params: BudgetParams) {
        self.params = params;
        self.balance = self.balance.min(self.capacity());
    }

    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    fn deposit(&mut self, requests: u64, now: Duration) {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        let window = self.params.window.as_secs_f64();
        let made = requests.saturating_sub(self.seen) as f64;
        let kept = (1.0 - elapsed / window).max(0.0);
        let made_in_window = if elapsed > window {
            made * window / elapsed
        } else {
            made
        };
        self.recent = self.recent * kept + made_in_window;
        let deposits =
            made * self.params.ratio.as_f64() + elapsed * f64::from(self.params.min_per_second);
        self.balance = (self.balance + deposits).min(self.capacity());
        (self.seen, self.at) = (requests, now);
    }

    /// What one window deposits.
    fn capacity(&self) -> f64 {
        let by_time = f64::from(self.params.min_per_second) * self.params.window.as_secs_f64();
        by_time + self.recent * self.params.ratio.as_f64()
    }
}

#[cfg(test)]
mod tests {
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
    fn time_deposits_the_minimum() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        granted(&mut budget, 0, Duration::ZERO, 500);
        assert_eq!(granted(&mut budget, 0, Duration::from_secs(2), 500), 20);
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
        assert_eq!(
            granted(&mut budget, 100_000, Duration::from_secs(100), 9000),
            2100
        );
        // An idle hour later only the minimum is left.
        assert_eq!(
            granted(&mut budget, 100_000, Duration::from_secs(3700), 9000),
            100
        );
    }

    #[test]
    fn amplification_stays_within_the_ratio_when_everything_fails() {
        let mut budget = Budget::new(PARAMS, 0, Duration::ZERO);
        let mut retries = 0;
        for request in 1..=30_000_u64 {
            let now = Duration::from_millis(request);
            retries += granted(&mut budget, request, now, 2);
        }
        // 20 % of 30 000, 10 a second for 30 s, and the 100 it started with.
        assert!((6300..=6400).contains(&retries), "{retries}");
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
}
