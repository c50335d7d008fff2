//! When a byte last moved in an exchange, in either direction.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The time of the last byte of an exchange, shared by both its bodies: a download is alive while
/// its upload rests, and the other way round.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Activity {
    last: Rc<Cell<Instant>>,
    timeout: Duration,
}

/// Waits for the silence of an [`Activity`].
///
/// Only waiting counts as silence: a body that its reader did not ask for was not silent.
#[derive(Debug)]
pub(super) struct Silence {
    activity: Activity,
    /// When the wait began that goes on now.
    waiting: Option<Instant>,
    /// Made when a body first has to wait: most never do.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Activity {
    /// An exchange that may be silent for `timeout`.
    pub(in crate::proxy) fn new(now: Instant, timeout: Duration) -> Self {
        Self {
            last: Rc::new(Cell::new(now)),
            timeout,
        }
    }

    /// How long the exchange may be silent.
    pub(in crate::proxy) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn moved(&self) {
        self.last.set(Instant::now());
    }
}

impl Silence {
    pub(super) fn of(activity: Activity) -> Self {
        Self {
            activity,
            waiting: None,
            timer: None,
        }
    }

    pub(super) fn moved(&mut self) {
        self.waiting = None;
        self.activity.moved();
    }

    /// Ready when nothing moved for the timeout. The timer is set once and looks again when it
    /// fires, so that a moving body does not touch it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Activity { last, timeout } = &self.activity;
        let waiting = *self.waiting.get_or_insert_with(Instant::now);
        let deadline = || last.get().max(waiting) + *timeout;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline())));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline());
        }
        Poll::Pending
    }
}
