//! When a byte last moved in an exchange, in either direction, and whose turn it is.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::ClientFault;
use crate::net::{Alarm, clock};

/// Whether anything moves in an exchange, shared by both its bodies: a download is alive while its
/// upload rests, and the other way round.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Activity {
    /// `None` where there is only one body.
    both: Option<Rc<Both>>,
    timeout: Duration,
}

/// What the two bodies of an exchange know of each other.
#[derive(Debug, Default)]
struct Both {
    /// How often something moved.
    moves: Cell<u64>,
    /// Whether the client's body is waited for.
    awaits_client: Cell<bool>,
    /// How the client spoiled its body.
    fault: Cell<Option<ClientFault>>,
    /// The bytes that the client sent after its head.
    received: Cell<u64>,
}

/// Waits for the silence of an [`Activity`].
///
/// Only waiting counts as silence: a body that its reader did not ask for was not silent. What
/// moves only counts; the clock is read by who waits.
#[derive(Debug)]
pub(super) struct Silence {
    activity: Activity,
    timeout: Duration,
    /// Since when nothing moved, and how often it had by then.
    since: Option<(Instant, u64)>,
    alarm: Alarm,
}

impl Activity {
    /// Of an exchange that may be silent for `timeout`, and in which the client may send something
    /// after its head or not.
    pub(in crate::proxy) fn new(timeout: Duration, both_ways: bool) -> Self {
        let both = both_ways.then(Rc::default);
        Self { both, timeout }
    }

    /// How long the exchange may be silent.
    pub(in crate::proxy) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether it is the client that everyone waits for.
    pub(super) fn awaits_client(&self) -> bool {
        self.both.as_ref().is_some_and(|it| it.awaits_client.get())
    }

    /// How the client spoiled its body, if it did.
    pub(super) fn fault(&self) -> Option<ClientFault> {
        self.both.as_ref()?.fault.get()
    }

    /// The bytes that the client sent after its head.
    pub(in crate::proxy) fn received(&self) -> u64 {
        self.both.as_ref().map_or(0, |it| it.received.get())
    }

    /// So many more came.
    pub(super) fn receives(&self, bytes: u64) {
        if let Some(both) = &self.both {
            both.received.set(both.received.get() + bytes);
        }
    }

    pub(super) fn moved(&self) {
        if let Some(both) = &self.both {
            both.moves.set(both.moves.get().wrapping_add(1));
        }
    }

    pub(super) fn set_awaits_client(&self, awaits: bool) {
        if let Some(both) = &self.both {
            both.awaits_client.set(awaits);
        }
    }

    pub(super) fn spoiled(&self, fault: ClientFault) {
        if let Some(both) = &self.both {
            both.fault.set(Some(fault));
        }
    }

    fn moves(&self) -> u64 {
        self.both.as_ref().map_or(0, |it| it.moves.get())
    }
}

impl Silence {
    /// Of the whole exchange.
    pub(super) fn of(activity: Activity) -> Self {
        let timeout = activity.timeout;
        Self::lasting(timeout, activity)
    }

    /// One that is over after `timeout`.
    pub(super) fn lasting(timeout: Duration, activity: Activity) -> Self {
        Self {
            activity,
            timeout,
            since: None,
            alarm: Alarm::default(),
        }
    }

    pub(super) fn moved(&mut self) {
        self.breaks();
        self.activity.moved();
    }

    /// Nobody waits now: waiting begins anew.
    pub(super) fn breaks(&mut self) {
        self.since = None;
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Ready when nothing moved for the timeout.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let moves = self.activity.moves();
        let since = match self.since {
            Some((since, seen)) if seen == moves => since,
            _ => clock::now(),
        };
        self.since = Some((since, moves));
        let deadline = since + self.timeout;
        ready!(self.alarm.poll_until(cx, deadline));
        Poll::Ready(())
    }
}
