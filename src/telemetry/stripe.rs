//! Pure: counters with one writer each, merged by whoever reads them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The number of a data thread, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadIndex(pub usize);

/// One `T` for each data thread, a cache-line pair apart so that threads do not share a line
/// (128 bytes: the spatial prefetcher of current x86 cores fetches lines in pairs).
#[derive(Debug)]
pub struct Striped<T>(Box<[Padded<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Striped<T> {
    /// A stripe for each of `threads`.
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Padded::default()).collect())
    }
}

impl<T> Striped<T> {
    /// The stripe of one thread.
    pub fn of(&self, thread: ThreadIndex) -> &T {
        &self.0[thread.0].0
    }

    /// Every thread's stripe.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|it| &it.0)
    }

    /// The sum of `value` over all stripes.
    pub fn sum<N: std::iter::Sum>(&self, value: impl Fn(&T) -> N) -> N {
        self.iter().map(value).sum()
    }
}

/// A count that only grows, written by one thread.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n` more. Only the stripe's own thread may: a load and a store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level that rises and falls, written by one thread; a stripe may go below zero, the sum not.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes the level by `n`. Only the stripe's own thread may.
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The level.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A histogram of durations, written by one thread.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; Self::BOUNDS.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    /// Upper bounds in seconds: Prometheus' customary ones, and two below for a sidecar's
    /// own time.
    pub const BOUNDS: [f64; 14] = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];

    /// The same in nanoseconds.
    const BOUNDS_NS: [u64; Self::BOUNDS.len()] = [
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ];

    /// Counts one `duration`.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = Self::BOUNDS_NS.partition_point(|bound| *bound < nanos);
        self.buckets[bucket].increment();
        self.sum_ns.add(nanos);
    }

    /// The observations per bucket, not cumulated, and beyond the last bound.
    pub fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|at| self.buckets[at].value())
    }

    /// The sum of all observations, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_add_up() {
        let counters = Striped::<Counter>::new(3);
        counters.of(ThreadIndex(0)).add(2);
        counters.of(ThreadIndex(2)).increment();
        assert_eq!(counters.sum(Counter::value), 3);
    }

    #[test]
    fn a_level_may_rise_on_one_thread_and_fall_on_another() {
        let gauges = Striped::<Gauge>::new(2);
        gauges.of(ThreadIndex(0)).add(1);
        gauges.of(ThreadIndex(1)).add(-1);
        assert_eq!(gauges.sum(Gauge::value), 0);
    }

    #[test]
    fn bounds_are_the_same_in_both_units() {
        let nanos = Histogram::BOUNDS.map(|it| Duration::from_secs_f64(it).as_nanos());
        assert_eq!(nanos, Histogram::BOUNDS_NS.map(u128::from));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(500));
        histogram.observe(Duration::from_micros(501));
        histogram.observe(Duration::from_secs(11));
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[14]), (1, 1, 1));
        assert_eq!(histogram.sum_ns(), 11_001_001_000);
    }
}
