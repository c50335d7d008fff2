//! How long an attempt waits for a response's head, and what else ends its waiting.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::super::error::AttemptError;
use super::Try;
use crate::cluster::Waits;
use crate::health::{Verdict, is_too_late, patience};
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
    wait: Wait<'a>,
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

/// Whether the attempt's wait tells something of its node.
enum Wait<'a> {
    /// Not yet: it began then, or with its turn.
    Usual(Option<Instant>),
    /// It is beyond what is usual, and was told.
    Overdue { _counted: Option<Waits<'a>> },
    /// The node was suspect already, and this attempt is to show whether it still is.
    Anew(Option<Instant>),
}

impl<'a> Expiry<'a> {
    pub(super) fn new(it: &'a Try<'a>) -> Self {
        let (watch, wait) = match it.node().verdict(it.call.now()) {
            Verdict::Healthy => (Watch::Patient, Wait::Usual(None)),
            Verdict::Silent => (Watch::Settled, Wait::Anew(None)),
            Verdict::OnTrial | Verdict::Suspect | Verdict::Ejected | Verdict::Down => {
                (Watch::Settled, Wait::Overdue { _counted: None })
            }
        };
        Self {
            it,
            alarm: Alarm::default(),
            turn: None,
            watch,
            wait,
        }
    }

    /// Ready when the attempt is over: as long as the attempt may take once the request is sent, and
    /// never past the deadline; or when its node left rotation and another may be tried.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<AttemptError> {
        let call = self.it.call;
        let source = call.source.as_ref();
        // A client that waits to be told leaves the node its turn.
        let uploading = source.filter(|it| it.poll_finished(cx).is_pending());
        if let Some(source) = uploading.filter(|_| !call.asker.expects_continue()) {
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
        let last = end.min(call.deadline);
        if matches!(self.watch, Watch::Patient) && turn + PATIENCE < last {
            ready!(self.alarm.poll_until(cx, turn + PATIENCE));
            self.watch = Watch::Told(Box::pin(self.it.node().left()));
        }
        let moves = self.poll_left(cx).is_ready() || ready!(self.poll_overdue(cx, turn, last));
        if moves && call.may_move(self.it.pick, self.it.number) {
            return Poll::Ready(AttemptError::Left);
        }
        ready!(self.alarm.poll_until(cx, last));
        Poll::Ready(if end < call.deadline {
            // Who is told late by a quarter was not running: it is not the node that was slow.
            let late = clock::now().saturating_duration_since(end) > limit / 4;
            AttemptError::TimedOut { late }
        } else {
            AttemptError::Deadline
        })
    }

    /// Ready when the node left rotation, once.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Watch::Told(left) = &mut self.watch else {
            return Poll::Pending;
        };
        // The node may have left before it was asked to tell.
        let told = left.as_mut().poll(cx).is_ready();
        let is_out = match self.it.node().verdict(self.it.call.now()) {
            Verdict::Silent | Verdict::Ejected | Verdict::Down => true,
            Verdict::Healthy | Verdict::OnTrial | Verdict::Suspect => false,
        };
        if told || is_out {
            self.watch = Watch::Settled;
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Ready when what the wait tells of the node is known, and told: with whether another node is to be
    /// tried. Most attempts have their answer before.
    fn poll_overdue(&mut self, cx: &mut Context<'_>, turn: Instant, last: Instant) -> Poll<bool> {
        let (Wait::Usual(since) | Wait::Anew(since)) = &mut self.wait else {
            return Poll::Ready(false);
        };
        let shard = &self.it.cluster().shards[self.it.target.shard];
        let Some(patience) = patience(shard.p99.get()) else {
            return Poll::Ready(false);
        };
        let since = since.get_or_insert(turn);
        loop {
            let due = *since + patience;
            if due >= last {
                return Poll::Ready(false);
            }
            ready!(self.alarm.poll_until(cx, due));
            let now = clock::now();
            if !is_too_late(now.saturating_duration_since(due)) {
                break;
            }
            *since = now;
        }
        let sent = self.it.call.thread().millis(*since);
        let is_anew = matches!(self.wait, Wait::Anew(_));
        let counted = self.it.node().waits(sent).filter(|_| !is_anew);
        if let Some(waits) = &counted {
            self.it.observe_silence(waits, patience);
        }
        self.wait = Wait::Overdue { _counted: counted };
        Poll::Ready(is_anew)
    }
}
