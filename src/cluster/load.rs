//! What is under way in a cluster, and who waits for a place.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The requests of a cluster, over all threads. What no setting of the cluster asks for is not
/// counted.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU32,
    /// Those that wait for a place under the cluster's cap.
    pub queue: Turnstile,
    /// Those that wait for a node to be well.
    pub hold: Turnstile,
    /// What is held of those.
    pub held_bytes: HeldBytes,
}

/// Bytes that are held, over all threads.
#[derive(Debug, Default)]
pub struct HeldBytes(AtomicUsize);

/// Some of them. Dropping it gives them back.
#[derive(Debug)]
pub struct HeldShare<'a> {
    of: &'a HeldBytes,
    bytes: usize,
}

/// Where requests wait for something to change, bounded, the first to come woken first.
#[derive(Debug, Default)]
pub struct Turnstile {
    waiting: AtomicU32,
    changed: Notify,
}

/// A request that waits. Dropping it is leaving.
#[derive(Debug)]
pub struct Waiting<'a> {
    turnstile: &'a Turnstile,
    changed: Pin<Box<Notified<'a>>>,
}

/// A time that is found now and then; written by the control thread.
#[derive(Debug, Default)]
pub struct Quantile(AtomicU32);

impl Quantile {
    /// The time, if it is known.
    pub fn get(&self) -> Option<Duration> {
        let micros = self.0.load(SeqCst);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    pub(super) fn set(&self, time: Option<Duration>) {
        let micros = time.map_or(0, |it| it.as_micros().max(1));
        self.0
            .store(u32::try_from(micros).unwrap_or(u32::MAX), SeqCst);
    }
}

impl Load {
    /// Attempts under way, where they are counted.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }

    /// Counts one more, if fewer than `cap` are under way; only then [`end`](Self::end) must follow.
    pub fn try_begin(&self, cap: Option<NonZeroU32>) -> bool {
        let before = self.in_flight.fetch_add(1, SeqCst);
        let fits = cap.is_none_or(|cap| before < cap.get());
        if !fits {
            self.end();
        }
        fits
    }

    /// Counts one less.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }
}

impl HeldBytes {
    /// Takes `bytes`, if no more than `max` are held then.
    pub fn take(&self, bytes: usize, max: usize) -> Option<HeldShare<'_>> {
        let before = self.0.fetch_add(bytes, SeqCst);
        // Made before the check, so that what is refused is given back by the same drop.
        let share = HeldShare { of: self, bytes };
        (before.saturating_add(bytes) <= max).then_some(share)
    }
}

impl Drop for HeldShare<'_> {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, SeqCst);
    }
}

impl Turnstile {
    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// Joins those who wait, if there are fewer than `max`. What changes from now on is seen.
    pub fn enter(&self, max: u32) -> Option<Waiting<'_>> {
        let before = self.waiting.fetch_add(1, SeqCst);
        // Made before the check, so that a refused place is given back by the same drop.
        let mut waiting = Waiting {
            turnstile: self,
            changed: Box::pin(self.changed.notified()),
        };
        waiting.changed.as_mut().enable();
        (before < max).then_some(waiting)
    }

    /// Wakes who waits longest.
    pub fn wake_one(&self) {
        if self.waiting() > 0 {
            self.changed.notify_one();
        }
    }

    /// Wakes all who wait.
    pub fn wake_all(&self) {
        if self.waiting() > 0 {
            self.changed.notify_waiters();
        }
    }
}

impl Waiting<'_> {
    /// Ready when something changed since it was last ready; then it waits again, behind the others.
    pub async fn changed(&mut self) {
        self.changed.as_mut().await;
        self.changed.set(self.turnstile.changed.notified());
        self.changed.as_mut().enable();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turnstile.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turnstile_is_bounded_and_wakes_the_first_first() {
        let turnstile = Turnstile::default();
        let mut first = turnstile.enter(2).unwrap();
        let mut second = turnstile.enter(2).unwrap();
        assert!(turnstile.enter(2).is_none());
        assert_eq!(turnstile.waiting(), 2);
        turnstile.wake_one();
        tokio::select! {
            biased;
            () = second.changed() => panic!("the second must not be woken first"),
            () = first.changed() => {}
        }
        drop(first);
        turnstile.wake_all();
        second.changed().await;
        assert!(turnstile.enter(2).is_some());
    }

    #[test]
    fn a_place_too_many_is_given_back() {
        let load = Load::default();
        let cap = NonZeroU32::new(2);
        assert!(load.try_begin(cap) && load.try_begin(cap));
        assert!(!load.try_begin(cap));
        assert_eq!(load.in_flight(), 2);
        load.end();
        assert!(load.try_begin(cap) && load.try_begin(None));
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let held = HeldBytes::default();
        let share = held.take(60, 100).unwrap();
        assert!(held.take(41, 100).is_none());
        assert!(held.take(40, 100).is_some());
        drop(share);
        assert!(held.take(100, 100).is_some());
    }

    #[tokio::test]
    async fn what_changes_after_entering_is_seen() {
        let turnstile = Turnstile::default();
        let mut waiting = turnstile.enter(1).unwrap();
        turnstile.wake_all();
        waiting.changed().await;
    }
}
