//! What serves requests: a future that outlives them, lent to one connection after the other.
//!
//! The future of a request is a few KiB. As part of each connection's future it would be held by
//! idle ones too; boxed for each request it would be an allocation. So a thread has as many as it
//! has requests at once, and uses them again.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::{Connection, Next, http1};

/// Workers that a thread keeps; more are given back to the allocator.
const SPARES: usize = 256;

/// A thread's workers that have nothing to do.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Workers(RefCell<Vec<Worker>>);

/// A future that serves connections, one at a time.
pub(super) struct Worker {
    future: Pin<Box<dyn Future<Output = Infallible>>>,
    desk: Rc<Desk>,
}

/// Where a worker finds its work, and leaves what came of it.
#[derive(Default)]
struct Desk {
    work: Cell<Option<Rc<Connection>>>,
    done: Cell<Option<Next>>,
}

impl Workers {
    pub(super) fn take(&self) -> Worker {
        let spare = self.0.borrow_mut().pop();
        spare.unwrap_or_else(Worker::new)
    }

    pub(super) fn give_back(&self, worker: Worker) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < SPARES {
            spare.push(worker);
        }
    }
}

impl Worker {
    fn new() -> Self {
        let desk = Rc::new(Desk::default());
        let future = Box::pin(work(Rc::clone(&desk)));
        Self { future, desk }
    }

    /// Serves what `connection` has to be served. Dropped before it is ready, the worker must be
    /// dropped too.
    pub(super) async fn serve(&mut self, connection: Rc<Connection>) -> Next {
        self.desk.work.set(Some(connection));
        poll_fn(|cx| {
            let Poll::Pending = self.future.as_mut().poll(cx);
            self.desk.done.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

async fn work(desk: Rc<Desk>) -> Infallible {
    loop {
        let connection = poll_fn(|_cx| desk.work.take().map_or(Poll::Pending, Poll::Ready)).await;
        let next = http1::serve(&connection).await;
        drop(connection);
        desk.done.set(Some(next));
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}
