//! What serves requests: a future that outlives them, lent to one after the other.
//!
//! The future of a request is a few KiB. As part of each connection's future it would be held by
//! idle ones too; boxed for each request or HTTP/2 stream it would be allocated, and copied there,
//! each time. So a thread has as many as it has requests at once, and uses them again.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Workers of a kind that a thread keeps; more are given back to the allocator.
const SPARES: usize = 256;

/// A thread's workers of one kind that have nothing to do.
pub(in crate::proxy) struct Workers<W, D> {
    idle: RefCell<Vec<Worker<W, D>>>,
    hire: fn() -> Worker<W, D>,
}

/// A future that does one piece of work `W` after the other, each leading to a `D`.
pub(in crate::proxy) struct Worker<W, D> {
    future: Pin<Box<dyn Future<Output = Infallible>>>,
    desk: Rc<Desk<W, D>>,
}

/// Where a worker finds its work, and leaves what came of it.
struct Desk<W, D> {
    work: Cell<Option<W>>,
    done: Cell<Option<D>>,
}

impl<W, D> Workers<W, D> {
    /// None yet; `hire` makes one.
    pub(super) fn new(hire: fn() -> Worker<W, D>) -> Self {
        let idle = RefCell::default();
        Self { idle, hire }
    }

    /// Has `work` done. Dropped before it is, the worker is dropped with all that it was about.
    pub(super) async fn serve(&self, work: W) -> D {
        let mut worker = self.lend(work);
        let done = poll_fn(|cx| worker.poll(cx)).await;
        self.take_back(worker);
        done
    }

    /// A worker that does `work` as it is polled.
    pub(super) fn lend(&self, work: W) -> Worker<W, D> {
        let idle = self.idle.borrow_mut().pop();
        let worker = idle.unwrap_or_else(self.hire);
        worker.desk.work.set(Some(work));
        worker
    }

    /// Keeps a worker that is done.
    pub(super) fn take_back(&self, worker: Worker<W, D>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < SPARES {
            idle.push(worker);
        }
    }
}

impl<W, D> Worker<W, D> {
    /// Goes on with its work; ready when that is done.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<D> {
        let Poll::Pending = self.future.as_mut().poll(cx);
        self.desk.done.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<W: 'static, D: 'static> Worker<W, D> {
    /// One that does its work by `serve`: a type of its own rather than a pointer, so that the
    /// future is made where it stays and not copied there.
    pub(super) fn new<F: Future<Output = D> + 'static>(serve: impl Fn(W) -> F + 'static) -> Self {
        let (work, done) = (Cell::new(None), Cell::new(None));
        let desk = Rc::new(Desk { work, done });
        let future = Box::pin(run(Rc::clone(&desk), serve));
        Self { future, desk }
    }
}

async fn run<W, D, F: Future<Output = D>>(
    desk: Rc<Desk<W, D>>,
    serve: impl Fn(W) -> F,
) -> Infallible {
    loop {
        let work = poll_fn(|_cx| desk.work.take().map_or(Poll::Pending, Poll::Ready)).await;
        let done = serve(work).await;
        desk.done.set(Some(done));
    }
}

impl<W, D> fmt::Debug for Workers<W, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle.borrow().len();
        f.debug_struct("Workers")
            .field("idle", &idle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doublers() -> Workers<u32, u32> {
        Workers::new(|| {
            Worker::new(|work| async move {
                tokio::task::yield_now().await;
                work * 2
            })
        })
    }

    #[tokio::test]
    async fn one_worker_serves_again_and_again() {
        let workers = doublers();
        for work in 0..3 {
            assert_eq!(workers.serve(work).await, work * 2);
            assert_eq!(workers.idle.borrow().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_worker_that_was_left_at_its_work_is_not_lent_again() {
        let workers = doublers();
        let mut left = Box::pin(workers.serve(1));
        let begun = poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx))).await;
        assert!(begun.is_pending());
        drop(left);
        assert!(workers.idle.borrow().is_empty());
        assert_eq!(workers.serve(2).await, 4);
    }
}
