//! Spans between the threads that make them and the task that sends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::Span;

/// Requests whose spans wait, over all threads: as many as the SDK's batch processor lets spans wait
/// (OpenTelemetry, "Batching processor", `maxQueueSize`).
const QUEUE: usize = 2048;

/// Where the spans of requests that ended are put. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SpanQueue {
    queue: Sender<Vec<Span>>,
    counts: SpanCounts,
}

/// What became of spans. One word each for all threads: only recorded requests count.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
}

/// A queue, its end, and the counts of both.
pub fn channel() -> (SpanQueue, Receiver<Vec<Span>>, SpanCounts) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let counts = SpanCounts::default();
    let queue = SpanQueue {
        queue,
        counts: counts.clone(),
    };
    (queue, receiver, counts)
}

impl SpanQueue {
    /// Puts what `make` makes into the queue; where there is no room it is not made, and `number` are
    /// counted as dropped.
    pub fn put(&self, number: usize, make: impl FnOnce() -> Vec<Span>) {
        match self.queue.try_reserve() {
            Ok(place) => place.send(make()),
            Err(_full) => self.counts.dropped(number),
        }
    }
}

impl SpanCounts {
    /// The receiver took so many.
    pub(super) fn exported(&self, number: usize) {
        self.0.exported.fetch_add(number as u64, Relaxed);
    }

    /// The queue had no room for so many.
    pub(super) fn dropped(&self, number: usize) {
        self.0.dropped.fetch_add(number as u64, Relaxed);
    }

    /// The receiver refused so many.
    pub(super) fn rejected(&self, number: usize) {
        self.0.rejected.fetch_add(number as u64, Relaxed);
    }

    /// The receiver did not get so many.
    pub(super) fn failed(&self, number: usize) {
        self.0.failed.fetch_add(number as u64, Relaxed);
    }

    /// The counts so far, by what became of the spans.
    pub fn all(&self) -> [(&'static str, u64); 4] {
        let counts = &self.0;
        [
            ("exported", counts.exported.load(Relaxed)),
            ("dropped", counts.dropped.load(Relaxed)),
            ("rejected", counts.rejected.load(Relaxed)),
            ("failed", counts.failed.load(Relaxed)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_not_made_and_counted() {
        let (queue, _receiver, counts) = channel();
        for _ in 0..QUEUE {
            queue.put(3, || vec![Span::default(); 3]);
        }
        queue.put(2, || unreachable!("there is no room"));
        assert_eq!(counts.all()[1], ("dropped", 2));
    }
}
