//! How long an attempt waits for a response's head, and what else ends its waiting.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::super::error::AttemptError;
use super::Try;
use crate::health::Verdict;
use crate::net::{Alarm, clock};

/// From when on an attempt wants to know whether its node left rotation: most have their answer
/// before, and pay nothing for it.
const PATIENCE: Duration = Duration::from_millis(50);

/// The time of one attempt.
pub(super) struct Expiry<'a> {
    it: &'a Try<'a>,
    alarm: Alarm,
    /// When the attempt's time began, since it is the node's turn.
    turn: Option<Instant>,
    watch: Watch<'a>,
}

/// Whether the attempt is told when its node leaves rotation.
enum Watch<'a> {
    /// Not yet.
    Patient,
    /// It is.
    Told(Pin<Box<Notified<'a>>>),
    /// It need not be: no other node may be tried, or this one was not in rotation when it was.
    Settled,
}

impl<'a> Expiry<'a> {
    pub(super) fn new(it: &'a Try<'a>) -> Self {
        let in_rotation = it.node().verdict(it.call.now()) == Verdict::Healthy;
        Self {
            it,
            alarm: Alarm::default(),
            turn: None,
            watch: if in_rotation {
                Watch::Patient
            } else {
                Watch::Settled
            },
        }
    }

    /// Ready when the attempt is over: as long as the attempt may take once the request is sent, and
    /// never past the deadline; or when its node left rotation and another may be tried.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<AttemptError> {
        let call = self.it.call;
        let source = call.source.as_ref();
        // A client that waits to be told leaves the node its turn.
        let uploading = source.filter(|it| it.poll_finished(cx).is_pending());
        if let Some(source) = uploading.filter(|_| !call.connection.expects_continue()) {
            self.turn = None;
            ready!(self.alarm.poll_until(cx, call.deadline));
            return Poll::Ready(if source.waits_for_client() {
                AttemptError::SlowClient
            } else {
                AttemptError::Deadline
            });
        }
        let turn = *self.turn.get_or_insert_with(|| match source {
            None => clock::recent(),
            Some(_) => clock::now(),
        });
        let limit = call.cluster().params.attempt_timeout;
        let end = turn + limit;
        if matches!(self.watch, Watch::Patient) && turn + PATIENCE < end.min(call.deadline) {
            ready!(self.alarm.poll_until(cx, turn + PATIENCE));
            self.watch = Watch::Told(Box::pin(self.it.node().left()));
        }
        if self.poll_left(cx).is_ready() {
            self.watch = Watch::Settled;
            if call.may_move(self.it.pick, self.it.number) {
                return Poll::Ready(AttemptError::Left);
            }
        }
        ready!(self.alarm.poll_until(cx, end.min(call.deadline)));
        Poll::Ready(if end < call.deadline {
            // Who is told late by a quarter was not running: it is not the node that was slow.
            let late = clock::now().saturating_duration_since(end) > limit / 4;
            AttemptError::TimedOut { late }
        } else {
            AttemptError::Deadline
        })
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Watch::Told(left) = &mut self.watch else {
            return Poll::Pending;
        };
        // The node may have left before it was asked to tell.
        let told = left.as_mut().poll(cx).is_ready();
        match self.it.node().verdict(self.it.call.now()) {
            Verdict::Ejected | Verdict::Down => Poll::Ready(()),
            _ if told => Poll::Ready(()),
            Verdict::Healthy | Verdict::OnTrial | Verdict::Suspect => Poll::Pending,
        }
    }
}
