//! Connections that wait for their clients: one look a second finds who waited too long, instead of
//! a timer each.

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

/// The waiting connections of a thread.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Parking {
    waiting: RefCell<Slab<Waiting>>,
    /// Sweeps so far.
    now: Cell<u32>,
}

/// A connection's place among them; it has none until it first waits.
#[derive(Debug, Default)]
pub(super) struct Spot(Cell<Option<u32>>);

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    /// The sweep at which it has waited too long; `None` while it is served.
    until: Option<u32>,
}

impl Parking {
    /// The connection waits from now on, if it does not already, for at most `wait`, to the second;
    /// `waker` is for its end.
    pub(super) fn park(&self, spot: &Spot, waker: &Waker, wait: Duration) {
        let mut waiting = self.waiting.borrow_mut();
        let until = Some(self.after(wait));
        if let Some(place) = spot.0.get() {
            let place = &mut waiting[place as usize];
            place.until = place.until.or(until);
            place.waker.clone_from(waker);
        } else {
            let waker = waker.clone();
            let place = waiting.insert(Waiting { waker, until });
            // There are fewer connections than file descriptors, of which there are fewer than 2^31.
            spot.0.set(u32::try_from(place).ok());
        }
    }

    /// The connection has what it waited for.
    pub(super) fn leave(&self, spot: &Spot) {
        if let Some(place) = spot.0.get() {
            self.waiting.borrow_mut()[place as usize].until = None;
        }
    }

    /// Nobody waits for longer than `wait` from now on: a limit has become shorter.
    pub(in crate::proxy) fn hasten(&self, wait: Duration) {
        let latest = self.after(wait);
        for (_, waiting) in self.waiting.borrow_mut().iter_mut() {
            waiting.until = waiting.until.map(|until| until.min(latest));
        }
    }

    /// The connection is gone.
    pub(super) fn remove(&self, spot: &Spot) {
        if let Some(place) = spot.0.take() {
            self.waiting.borrow_mut().remove(place as usize);
        }
    }

    /// Whether the connection has waited too long.
    pub(super) fn is_over(&self, spot: &Spot) -> bool {
        let place = spot.0.get();
        let until = place.and_then(|it| self.waiting.borrow()[it as usize].until);
        until.is_some_and(|until| until <= self.now.get())
    }

    /// Sweeps so far: the time in seconds.
    pub(super) fn now(&self) -> u32 {
        self.now.get()
    }

    /// The sweep at which at least `wait` will have passed.
    fn after(&self, wait: Duration) -> u32 {
        // The next one may be at once.
        let sweeps = wait
            .as_secs()
            .saturating_add(u64::from(wait.subsec_nanos() > 0));
        let sweeps = u32::try_from(sweeps).unwrap_or(u32::MAX - 1);
        self.now.get().saturating_add(sweeps + 1)
    }

    /// A second has passed: wakes whoever has waited too long.
    pub(in crate::proxy) fn sweep(&self) {
        self.now.set(self.now.get() + 1);
        let now = self.now.get();
        for (_, waiting) in self.waiting.borrow().iter() {
            if waiting.until.is_some_and(|until| until <= now) {
                waiting.waker.wake_by_ref();
            }
        }
    }

    /// Wakes everyone who waits: the thread drains.
    pub(in crate::proxy) fn wake_all(&self) {
        for (_, waiting) in self.waiting.borrow().iter() {
            waiting.waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_wait_holds_for_who_waits_already() {
        let parking = Parking::default();
        let (patient, brief) = (Spot::default(), Spot::default());
        parking.park(&patient, Waker::noop(), Duration::from_mins(1));
        parking.park(&brief, Waker::noop(), Duration::ZERO);
        parking.hasten(Duration::from_secs(1));
        parking.sweep();
        assert!(!parking.is_over(&patient) && parking.is_over(&brief));
        parking.sweep();
        assert!(parking.is_over(&patient));
    }

    #[test]
    fn who_waits_too_long_is_over() {
        let parking = Parking::default();
        let (patient, served) = (Spot::default(), Spot::default());
        let wait = Duration::from_millis(2500);
        parking.park(&patient, Waker::noop(), wait);
        parking.park(&served, Waker::noop(), wait);
        parking.leave(&served);
        // The first sweep may come at once: three more are 2.5 seconds at least.
        for _ in 0..4 {
            assert!(!parking.is_over(&patient));
            parking.sweep();
            // Waiting on does not begin anew.
            parking.park(&patient, Waker::noop(), wait);
        }
        assert!(parking.is_over(&patient) && !parking.is_over(&served));
        parking.remove(&patient);
        parking.remove(&served);
        assert!(parking.waiting.borrow().is_empty());
    }
}
