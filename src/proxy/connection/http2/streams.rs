//! The streams of a connection, which are run by the connection's own task.
//!
//! A task a stream would be an allocation each, and two ways through the scheduler: whoever wakes a
//! stream wakes its task, and what the stream writes then wakes the connection's. Here each has a
//! waker that says whose turn it is, and the task goes round until it is nobody's.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use slab::Slab;

use crate::proxy::connection::worker::{Worker, Workers};

/// Where the connection itself has its turn; the streams come behind it.
const CONNECTION: usize = 0;

/// Workers at the streams of one connection, and whose turn it is.
pub(super) struct Streams<W> {
    running: Slab<Worker<W, ()>>,
    /// The connection's turn, and those of the streams by their places: they stay for later ones.
    turns: Vec<Turn>,
    queue: Arc<Queue>,
    /// Those whose turn is now; kept for its memory.
    now: Vec<usize>,
}

struct Turn {
    place: Arc<Place>,
    /// Of the same place.
    waker: Waker,
}

/// What wakes the connection, or the stream at a place. Who is woken for the one before at the same
/// place looks in vain, once.
struct Place {
    at: usize,
    /// Whether it is in the queue.
    is_due: AtomicBool,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue(Mutex<Due>);

struct Due {
    places: Vec<usize>,
    task: Waker,
    /// Whether the task runs: it sees for itself who comes.
    runs: bool,
}

// === impl Streams ===

impl<W: 'static> Streams<W> {
    /// None yet; it is the connection's turn.
    pub(super) fn new() -> Self {
        let queue = Arc::<Queue>::default();
        let connection = Turn::at(CONNECTION, &queue);
        connection.waker.wake_by_ref();
        Self {
            running: Slab::new(),
            turns: vec![connection],
            queue,
            now: Vec::new(),
        }
    }

    /// Wakes the connection.
    pub(super) fn connection(&self) -> Waker {
        self.turns[CONNECTION].waker.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// One more, whose turn it is.
    pub(super) fn begin(&mut self, worker: Worker<W, ()>) {
        let place = self.running.insert(worker) + 1;
        if place == self.turns.len() {
            self.turns.push(Turn::at(place, &self.queue));
        }
        self.turns[place].waker.wake_by_ref();
    }

    /// The task runs from here on: `task` is woken no more until it [rests](Self::rests).
    pub(super) fn runs(&self, task: &Waker) {
        let mut due = self.queue.due();
        due.task.clone_from(task);
        due.runs = true;
    }

    /// The task stops. It is woken at once if it is somebody's turn.
    pub(super) fn rests(&self) {
        let mut due = self.queue.due();
        due.runs = false;
        if !due.places.is_empty() {
            due.task.wake_by_ref();
        }
    }

    /// Whether it is anybody's turn.
    pub(super) fn is_due(&self) -> bool {
        !self.queue.due().places.is_empty()
    }

    /// Gives each stream its turn that has one, and takes who is done back to `workers`; whether it
    /// is the connection's turn, too.
    pub(super) fn poll(&mut self, workers: &Workers<W, ()>) -> bool {
        let mut now = mem::take(&mut self.now);
        mem::swap(&mut now, &mut self.queue.due().places);
        let mut is_connections = false;
        for place in now.drain(..) {
            let turn = &self.turns[place];
            turn.place.is_due.store(false, Release);
            let Some(stream) = place.checked_sub(1) else {
                is_connections = true;
                continue;
            };
            let mut cx = Context::from_waker(&turn.waker);
            let worker = self.running.get_mut(stream);
            if worker.is_some_and(|it| it.poll(&mut cx).is_ready()) {
                workers.take_back(self.running.remove(stream));
            }
        }
        self.now = now;
        is_connections
    }
}

impl<W> fmt::Debug for Streams<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

// === impl Turn, Place, Queue ===

impl Turn {
    fn at(at: usize, queue: &Arc<Queue>) -> Self {
        let place = Arc::new(Place {
            at,
            is_due: AtomicBool::new(false),
            queue: Arc::clone(queue),
        });
        let waker = Waker::from(Arc::clone(&place));
        Self { place, waker }
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_due.swap(true, AcqRel) {
            return;
        }
        let mut due = self.queue.due();
        due.places.push(self.at);
        // Of several the first has woken it.
        if !due.runs && due.places.len() == 1 {
            due.task.wake_by_ref();
        }
    }
}

impl Queue {
    fn due(&self) -> MutexGuard<'_, Due> {
        // Nobody panics in between, and nothing would be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Due {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            task: Waker::noop().clone(),
            runs: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Poll;

    use super::*;

    /// A stream that notes its name at each turn, as long as it has some left.
    type Work = (char, Cell<u32>, Rc<Notes>);

    #[derive(Default)]
    struct Notes {
        said: RefCell<String>,
        wakers: RefCell<Vec<Waker>>,
    }

    fn workers() -> Workers<Work, ()> {
        Workers::new(|| {
            Worker::new(|(name, turns, notes): Work| {
                poll_fn(move |cx| {
                    notes.said.borrow_mut().push(name);
                    notes.wakers.borrow_mut().push(cx.waker().clone());
                    match turns.replace(turns.get() - 1) {
                        1 => Poll::Ready(()),
                        _ => Poll::Pending,
                    }
                })
            })
        })
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn who_was_woken_has_a_turn_and_nobody_else() {
        let (workers, notes) = (workers(), Rc::<Notes>::default());
        let mut streams = Streams::new();
        for name in ['a', 'b'] {
            streams.begin(workers.lend((name, Cell::new(2), Rc::clone(&notes))));
        }
        assert!(streams.poll(&workers), "the connection's first turn");
        assert!(!streams.is_due() && !streams.is_empty());
        let b = notes.wakers.borrow()[1].clone();
        b.wake_by_ref();
        b.wake_by_ref();
        assert!(streams.is_due());
        assert!(!streams.poll(&workers));
        assert_eq!(*notes.said.borrow(), "abb");
        // It is done; who comes in its place hears what was for it, too.
        b.wake_by_ref();
        streams.poll(&workers);
        streams.begin(workers.lend(('c', Cell::new(2), Rc::clone(&notes))));
        streams.poll(&workers);
        b.wake_by_ref();
        streams.poll(&workers);
        assert_eq!(*notes.said.borrow(), "abbcc");
        notes.wakers.borrow()[0].wake_by_ref();
        streams.connection().wake();
        assert!(streams.poll(&workers));
        assert!(streams.is_empty());
    }

    #[test]
    fn the_task_is_woken_once_and_not_while_it_runs() {
        let woken = Arc::<Woken>::default();
        let task = Waker::from(Arc::clone(&woken));
        let (workers, mut streams) = (workers(), Streams::new());
        streams.runs(&task);
        streams.poll(&workers);
        streams.connection().wake();
        assert_eq!(woken.0.load(Relaxed), 0);
        streams.rests();
        assert_eq!(woken.0.load(Relaxed), 1, "it was somebody's turn");
        streams.runs(&task);
        streams.poll(&workers);
        streams.rests();
        assert_eq!(woken.0.load(Relaxed), 1);
        streams.connection().wake();
        streams.connection().wake();
        assert_eq!(woken.0.load(Relaxed), 2);
    }
}
