//! Connections that wait for their clients: one look a second finds who waited too long, instead of
//! a timer each.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use slab::Slab;

/// How long a connection may be idle, and then again how long a head may take once it has begun, in
/// sweeps of a second (nginx's `keepalive_timeout` is 75 s).
const WAIT_MAX: u32 = 75;

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
    /// The connection waits from now on, if it does not already; `waker` is for its end.
    pub(super) fn park(&self, spot: &Spot, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        let until = Some(self.now.get() + WAIT_MAX);
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
    fn who_waits_too_long_is_over() {
        let parking = Parking::default();
        let (patient, served) = (Spot::default(), Spot::default());
        parking.park(&patient, Waker::noop());
        parking.park(&served, Waker::noop());
        parking.leave(&served);
        for _ in 0..WAIT_MAX {
            assert!(!parking.is_over(&patient));
            parking.sweep();
            // Waiting on does not begin anew.
            parking.park(&patient, Waker::noop());
        }
        assert!(parking.is_over(&patient) && !parking.is_over(&served));
        parking.remove(&patient);
        parking.remove(&served);
        assert!(parking.waiting.borrow().is_empty());
    }
}
