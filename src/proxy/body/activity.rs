//! When a byte last moved in an exchange, in either direction.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::{Alarm, clock};

/// Whether anything moves in an exchange, shared by both its bodies: a download is alive while its
/// upload rests, and the other way round.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Activity {
    /// How often something moved; `None` where there is only one body.
    moves: Option<Rc<Cell<u64>>>,
    timeout: Duration,
}

/// Waits for the silence of an [`Activity`].
///
/// Only waiting counts as silence: a body that its reader did not ask for was not silent. What
/// moves only counts; the clock is read by who waits.
#[derive(Debug)]
pub(super) struct Silence {
    activity: Activity,
    /// Since when nothing moved, and how often it had by then.
    since: Option<(Instant, u64)>,
    alarm: Alarm,
}

impl Activity {
    /// Of an exchange that may be silent for `timeout`, and whose request has a body or not.
    pub(in crate::proxy) fn new(timeout: Duration, has_upload: bool) -> Self {
        let moves = has_upload.then(Rc::default);
        Self { moves, timeout }
    }

    /// How long the exchange may be silent.
    pub(in crate::proxy) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn moved(&self) {
        if let Some(moves) = &self.moves {
            moves.set(moves.get().wrapping_add(1));
        }
    }

    fn moves(&self) -> u64 {
        self.moves.as_ref().map_or(0, |it| it.get())
    }
}

impl Silence {
    pub(super) fn of(activity: Activity) -> Self {
        Self {
            activity,
            since: None,
            alarm: Alarm::default(),
        }
    }

    pub(super) fn moved(&mut self) {
        self.since = None;
        self.activity.moved();
    }

    /// Ready when nothing moved for the timeout.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let moves = self.activity.moves();
        let since = match self.since {
            Some((since, seen)) if seen == moves => since,
            _ => clock::now(),
        };
        self.since = Some((since, moves));
        let deadline = since + self.activity.timeout;
        ready!(self.alarm.poll_until(cx, deadline));
        Poll::Ready(())
    }
}
