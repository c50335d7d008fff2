//! Pure: who may open a stream on a connection now, and who waits for that, in order.
//!
//! h2 keeps to the node's bound by itself: it queues what exceeds it. But what waits there counts as
//! sent, and is opened only to be reset when its client has left. So only one stream at a time waits
//! there; the others wait here, where nothing was sent and nothing is left of who goes away.
//!
//! What is counted here is an upper bound. A stream that has ended is there until its reader took all
//! of it, and how many are open is known to h2 alone. Where it may be full it is asked, by one
//! stream that is sent all the same.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The places for streams on one connection.
#[derive(Debug)]
pub(super) struct Slots {
    max: Cell<usize>,
    /// How many streams there are, those included that have ended and are still read.
    taken: Cell<usize>,
    door: Cell<Door>,
    /// Who waits, by number, the first to come first.
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    /// The number of who comes next.
    next: Cell<u64>,
}

/// Whether one more stream may be sent where all places seem to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    /// A stream was sent, of which h2 has yet to take note.
    Passed,
    /// A stream waits in h2.
    Held,
}

/// A place, or that somebody waits for one.
#[derive(Debug)]
pub(super) struct Ticket {
    slots: Rc<Slots>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// It waits under this number.
    Waiting(u64),
    /// It has a place.
    Placed,
    /// It has a place, through the door.
    Passing,
}

// === impl Slots ===

impl Slots {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: Cell::new(max),
            taken: Cell::default(),
            door: Cell::new(Door::Open),
            waiting: RefCell::default(),
            next: Cell::default(),
        }
    }

    /// Takes note that h2 has seen all that was sent, and that the node lets `max` streams be open.
    /// The first who waits looks again, also whether the connection takes streams at all.
    pub(super) fn driven(&self, max: usize) {
        self.max.set(max);
        if self.door.get() == Door::Passed {
            self.door.set(Door::Open);
        }
        self.wake_first();
    }

    /// Whether there is no stream.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.get() == 0
    }

    /// Has the first who waits look again.
    pub(super) fn wake_first(&self) {
        if let Some((_, waker)) = self.waiting.borrow().front() {
            waker.wake_by_ref();
        }
    }

    fn is_full(&self) -> bool {
        self.taken.get() >= self.max.get()
    }

    fn admits(&self) -> bool {
        !self.is_full() || self.door.get() == Door::Open
    }

    /// Gives out one more place.
    fn take(&self) -> State {
        let state = if self.is_full() {
            self.door.set(Door::Passed);
            State::Passing
        } else {
            State::Placed
        };
        self.taken.set(self.taken.get() + 1);
        state
    }
}

// === impl Ticket ===

impl Ticket {
    pub(super) fn new(slots: &Rc<Slots>) -> Self {
        Self {
            slots: Rc::clone(slots),
            state: State::New,
        }
    }

    /// Ready when its stream may be sent. Nobody overtakes those who wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let slots = &*self.slots;
        let mut waiting = slots.waiting.borrow_mut();
        match self.state {
            State::Placed | State::Passing => return Poll::Ready(()),
            State::New if waiting.is_empty() && slots.admits() => {}
            State::New => {
                let number = slots.next.get();
                slots.next.set(number + 1);
                waiting.push_back((number, cx.waker().clone()));
                self.state = State::Waiting(number);
                return Poll::Pending;
            }
            State::Waiting(number) => {
                let is_first = waiting.front().is_some_and(|it| it.0 == number);
                if !(is_first && slots.admits()) {
                    if let Some((_, waker)) = waiting.iter_mut().find(|it| it.0 == number) {
                        waker.clone_from(cx.waker());
                    }
                    return Poll::Pending;
                }
                waiting.pop_front();
            }
        }
        drop(waiting);
        self.state = slots.take();
        if slots.admits() {
            slots.wake_first();
        }
        Poll::Ready(())
    }

    /// Whether its stream may be one too many.
    pub(super) fn is_passing(&self) -> bool {
        self.state == State::Passing
    }

    /// Nobody else is sent until [`opened`](Self::opened): its stream waits in h2.
    pub(super) fn holds_door(&self) {
        self.slots.door.set(Door::Held);
    }

    /// Its stream was opened.
    pub(super) fn opened(&mut self) {
        if self.state == State::Passing {
            self.state = State::Placed;
            self.slots.door.set(Door::Open);
            self.slots.wake_first();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.opened();
        let slots = &*self.slots;
        match self.state {
            State::New => return,
            State::Waiting(number) => slots.waiting.borrow_mut().retain(|it| it.0 != number),
            State::Placed | State::Passing => slots.taken.set(slots.taken.get() - 1),
        }
        slots.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    struct Waiter {
        ticket: Ticket,
        woken: Arc<Woken>,
    }

    impl Waiter {
        fn new(slots: &Rc<Slots>) -> Self {
            Self {
                ticket: Ticket::new(slots),
                woken: Arc::default(),
            }
        }

        fn is_let(&mut self) -> bool {
            let waker = Arc::clone(&self.woken).into();
            self.ticket
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        }

        fn is_woken(&self) -> bool {
            self.woken.0.swap(0, SeqCst) > 0
        }
    }

    #[test]
    fn one_waits_in_h2_and_the_others_in_turn() {
        let slots = Rc::new(Slots::new(1));
        let mut all = [(); 5].map(|()| Waiter::new(&slots));
        // The second may be one too many, and the others wait to hear of it.
        let lets = [0, 1, 2, 3].map(|at| all[at].is_let());
        assert_eq!(lets, [true, true, false, false]);
        let [first, mut second, mut third, mut fourth, mut late] = all;
        assert!(!first.ticket.is_passing() && second.ticket.is_passing());
        second.ticket.holds_door();
        slots.driven(1);
        assert!(third.is_woken() && !third.is_let());
        drop(first);
        second.ticket.opened();
        assert!(third.is_woken() && !fourth.is_woken());
        // Nobody overtakes.
        assert!(!late.is_let() && !fourth.is_let());
        assert!(third.is_let());
        slots.driven(3);
        assert!(fourth.is_woken() && fourth.is_let() && !fourth.ticket.is_passing());
        assert!(late.is_woken() && late.is_let() && late.ticket.is_passing());
    }

    /// Ended streams that are still read keep nobody waiting for more than a look of h2's.
    #[test]
    fn who_is_opened_at_once_holds_nothing_up() {
        let slots = Rc::new(Slots::new(1));
        let mut all = [(); 3].map(|()| Waiter::new(&slots));
        assert!(all[0].is_let() && all[1].is_let() && !all[2].is_let());
        slots.driven(1);
        assert!(all[2].is_woken() && all[2].is_let());
    }

    #[test]
    fn who_leaves_has_the_next_one_look() {
        let slots = Rc::new(Slots::new(0));
        let mut all = [(); 4].map(|()| Waiter::new(&slots));
        assert!(all[0].is_let());
        assert!(all[1..].iter_mut().all(|it| !it.is_let()));
        let [holder, second, third, mut fourth] = all;
        holder.ticket.holds_door();
        drop(third);
        drop(second);
        assert!(fourth.is_woken() && !fourth.is_let());
        drop(holder);
        assert!(slots.is_empty());
        assert!(fourth.is_woken() && fourth.is_let() && !slots.is_empty());
    }
}
