//! A request's body: read from the client once, sent to as many nodes as the policy allows.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::activity::Silence;
use super::{Activity, ClientBody};
use crate::limits::Limit;
use crate::proxy::thread::Context as Thread;
use crate::reason::Reason;

/// The most pieces of a body that are kept: a piece costs memory however small it is.
const PIECES_MAX: usize = 1024;

/// The client's body, kept while it is small enough to be sent again.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Source(Rc<Shared>);

/// What a client may ask with its body.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Allowance {
    /// How many bytes it may send; `None` for any number.
    pub(in crate::proxy) bytes: Option<u64>,
    /// How long it may send nothing of it while it is waited for; `None` where it owes nothing, and
    /// the whole exchange may be as silent as it likes.
    pub(in crate::proxy) wait: Option<Duration>,
    /// Up to how many bytes are kept to be sent again.
    pub(in crate::proxy) replay: usize,
}

#[derive(Debug)]
struct Shared {
    thread: Rc<Thread>,
    incoming: RefCell<ClientBody>,
    /// What was read ahead to find the key.
    ahead: RefCell<VecDeque<Frame<Bytes>>>,
    sent: RefCell<Sent>,
    replay_max: usize,
    /// What is held of the body, in bytes.
    held: Cell<usize>,
    /// How many more bytes the client may send.
    allowed: Cell<u64>,
    /// The attempt that reads; a body of an earlier one that is still about gives nothing more.
    reader: Cell<u32>,
    /// Runs while the client is waited for.
    patience: RefCell<Option<Silence>>,
    finished: Cell<bool>,
    /// Who waits for an attempt to be given the whole body.
    finish: RefCell<Option<Waker>>,
    activity: Activity,
}

/// What was given to an attempt so far.
#[derive(Debug, Default)]
struct Sent {
    frames: Vec<Frame<Bytes>>,
    bytes: usize,
    /// Whether `frames` is all there was.
    overflowed: bool,
}

/// How the client spoiled its own request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum ClientFault {
    /// The body broke off or was framed wrongly.
    #[error("the client's body broke")]
    Body,
    /// Nothing of the body came for too long.
    #[error("the client sent nothing of its body for too long")]
    Slow,
    /// The body is larger than it may be.
    #[error("the client's body is larger than it may be")]
    TooLarge,
    /// Another attempt reads the body now.
    #[error("a later attempt reads the body")]
    Superseded,
    /// HTTP/2 cannot carry the request's target.
    #[error("the target cannot be sent by HTTP/2")]
    Target,
}

impl ClientFault {
    /// What the client is told.
    pub(in crate::proxy) fn reason(self) -> Reason {
        match self {
            Self::Slow => Reason::RequestTimeout,
            Self::TooLarge => Reason::BodyTooLarge,
            Self::Body | Self::Superseded | Self::Target => Reason::BadRequest,
        }
    }
}

/// The body of one attempt's request.
#[derive(Debug)]
pub(in crate::proxy) struct RequestBody {
    source: Option<Source>,
    attempt: u32,
    /// How many of the kept frames this attempt was given.
    replayed: usize,
    size: SizeHint,
}

/// What was read ahead of a body.
#[derive(Debug)]
pub(in crate::proxy) struct Prefix {
    pub(in crate::proxy) bytes: Vec<u8>,
    /// Whether it is the whole body.
    pub(in crate::proxy) complete: bool,
}

// === impl Source ===

impl Source {
    /// The body `incoming`; `None` when it is empty.
    pub(in crate::proxy) fn new(
        thread: Rc<Thread>,
        incoming: ClientBody,
        allowed: Allowance,
        activity: Activity,
    ) -> Option<Self> {
        if incoming.is_at_end() {
            return None;
        }
        let hopeless = incoming.size_hint().lower() > allowed.replay as u64;
        let sent = Sent::default();
        let patience = |wait| Silence::lasting(wait, activity.clone());
        Some(Self(Rc::new(Shared {
            thread,
            incoming: RefCell::new(incoming),
            ahead: RefCell::default(),
            sent: RefCell::new(sent),
            held: Cell::new(0),
            replay_max: if hopeless { 0 } else { allowed.replay },
            allowed: Cell::new(allowed.bytes.unwrap_or(u64::MAX)),
            reader: Cell::new(0),
            patience: RefCell::new(allowed.wait.map(patience)),
            finished: Cell::new(false),
            finish: RefCell::new(None),
            activity,
        })))
    }

    /// What is held of it, in bytes.
    pub(in crate::proxy) fn held(&self) -> usize {
        self.0.held.get()
    }

    /// Reads ahead up to `max` bytes, which the attempts are given first.
    ///
    /// # Errors
    /// When the client spoils its body.
    pub(in crate::proxy) async fn read_ahead(&self, max: usize) -> Result<Prefix, ClientFault> {
        let mut prefix = Prefix {
            bytes: Vec::new(),
            complete: false,
        };
        let mut last = None;
        while prefix.bytes.len() <= max {
            let Some(frame) = poll_fn(|cx| self.0.poll_incoming(cx)).await else {
                prefix.complete = true;
                break;
            };
            match frame?.into_data() {
                Ok(data) => prefix.bytes.extend_from_slice(&data),
                Err(trailers) => last = Some(trailers),
            }
        }
        // As one piece, in however many it came.
        let data = Frame::data(Bytes::copy_from_slice(&prefix.bytes));
        let ahead = Some(data).filter(|_| !prefix.bytes.is_empty());
        self.0
            .ahead
            .borrow_mut()
            .extend(ahead.into_iter().chain(last));
        self.0.holds(0);
        Ok(prefix)
    }

    /// Whether an attempt can be given the whole body again.
    pub(in crate::proxy) fn is_replayable(&self) -> bool {
        !self.0.sent.borrow().overflowed
    }

    /// How the client spoiled the request, if it did.
    pub(in crate::proxy) fn fault(&self) -> Option<ClientFault> {
        self.0.activity.fault()
    }

    /// The answer has begun, and both sides may rest from here on as long as the exchange may: what
    /// the client sends is its part of a conversation.
    pub(in crate::proxy) fn converses(&self) {
        self.0.patience.take();
    }

    /// Whether it is the client that everyone waits for.
    pub(in crate::proxy) fn waits_for_client(&self) -> bool {
        self.0.activity.awaits_client() && !self.0.finished.get()
    }

    /// Ready when the attempt that reads has been given the whole body.
    pub(in crate::proxy) fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.finished.get() {
            return Poll::Ready(());
        }
        self.0.finish.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// The body for the next attempt. Earlier attempts' bodies end here.
    fn body(&self) -> RequestBody {
        let attempt = self.0.reader.get() + 1;
        self.0.reader.set(attempt);
        self.0.finished.set(false);
        RequestBody {
            source: Some(self.clone()),
            attempt,
            replayed: 0,
            size: self.0.size_hint(),
        }
    }
}

// === impl Shared ===

impl Shared {
    fn poll_incoming(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let polled = self.incoming.borrow_mut().poll_frame(cx);
        self.activity.set_awaits_client(polled.is_pending());
        let polled = match polled {
            Poll::Pending => self
                .poll_patience(cx)
                .map(|()| Some(Err(ClientFault::Slow))),
            ready @ Poll::Ready(_) => {
                if let Some(patience) = &mut *self.patience.borrow_mut() {
                    patience.breaks();
                }
                ready
            }
        };
        let Some(frame) = ready!(polled) else {
            return Poll::Ready(None);
        };
        self.activity.moved();
        let frame = frame.and_then(|frame| self.allow(frame));
        Poll::Ready(Some(
            frame.inspect_err(|fault| self.activity.spoiled(*fault)),
        ))
    }

    /// Ready when the client was waited for too long.
    fn poll_patience(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut patience = self.patience.borrow_mut();
        let Some(silence) = &mut *patience else {
            return Poll::Pending;
        };
        if !self.incoming.borrow().is_due() {
            silence.breaks();
            return Poll::Pending;
        }
        ready!(silence.poll(cx));
        *patience = None;
        self.thread.reached(Limit::BodyWait);
        Poll::Ready(())
    }

    /// The frame, unless it is more than the client may send.
    fn allow(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, ClientFault> {
        let len = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.activity.receives(len);
        let left = self.allowed.get().checked_sub(len);
        self.allowed.set(left.ok_or(ClientFault::TooLarge)?);
        Ok(frame)
    }

    /// The next frame that no attempt was given yet.
    fn poll_new(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let ahead = self.ahead.borrow_mut().pop_front();
        let frame = match ahead {
            Some(frame) => Some(Ok(frame)),
            None => ready!(self.poll_incoming(cx)),
        };
        if let Some(Ok(frame)) = &frame {
            self.sent.borrow_mut().keep(frame, self.replay_max);
        }
        Poll::Ready(frame)
    }

    /// Counts what is kept, and `unread` bytes that somebody else holds of the body.
    fn holds(&self, unread: usize) {
        self.thread.holds(
            &self.held,
            self.ahead_bytes() + self.sent.borrow().kept() + unread,
        );
    }

    fn ahead_bytes(&self) -> usize {
        let ahead = self.ahead.borrow();
        ahead
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum()
    }

    fn is_at_end(&self) -> bool {
        self.ahead.borrow().is_empty() && self.incoming.borrow().is_at_end()
    }

    fn finish(&self) {
        self.finished.set(true);
        if let Some(waker) = self.finish.take() {
            waker.wake();
        }
    }

    /// What an attempt that starts now will be given in all.
    fn size_hint(&self) -> SizeHint {
        let known = (self.sent.borrow().bytes + self.ahead_bytes()) as u64;
        let rest = self.incoming.borrow().size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(known + rest.lower());
        if let Some(upper) = rest.upper() {
            whole.set_upper(known + upper);
        }
        whole
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.thread.holds(&self.held, 0);
    }
}

impl Sent {
    /// The bytes that are kept.
    fn kept(&self) -> usize {
        if self.overflowed { 0 } else { self.bytes }
    }

    fn keep(&mut self, frame: &Frame<Bytes>, max: usize) {
        let len = frame.data_ref().map_or(0, Bytes::len);
        self.bytes += len;
        self.overflowed |= self.bytes > max || self.frames.len() == PIECES_MAX;
        if self.overflowed {
            self.frames = Vec::new();
        } else {
            self.frames.push(copy(frame));
        }
    }
}

/// The same frame again; data is shared, not copied.
fn copy(frame: &Frame<Bytes>) -> Frame<Bytes> {
    match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => Frame::data(data.clone()),
        (None, Some(trailers)) => Frame::trailers(trailers.clone()),
        (None, None) => Frame::data(Bytes::new()),
    }
}

// === impl RequestBody ===

impl RequestBody {
    /// The body that an attempt sends of `source`, or none.
    pub(in crate::proxy) fn of(source: Option<&Source>) -> Self {
        let empty = Self {
            source: None,
            attempt: 0,
            replayed: 0,
            size: SizeHint::with_exact(0),
        };
        source.map_or(empty, Source::body)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let Some(source) = self.source.clone() else {
            return Poll::Ready(None);
        };
        let shared = &*source.0;
        if shared.reader.get() != self.attempt {
            return Poll::Ready(Some(Err(ClientFault::Superseded)));
        }
        shared.holds(0);
        let kept = shared.sent.borrow().frames.get(self.replayed).map(copy);
        let frame = match kept {
            Some(frame) => Some(Ok(frame)),
            None => ready!(shared.poll_new(cx)),
        };
        self.replayed += 1;
        if frame.is_none() || self.is_end_stream() {
            shared.finish();
        } else {
            // Until more is asked for, this is not taken, and what follows it waits.
            let data = frame.as_ref().and_then(|it| it.as_ref().ok()?.data_ref());
            let backlog = shared.incoming.borrow().backlog();
            shared.holds(data.map_or(0, Bytes::len) + backlog);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let Some(Source(shared)) = &self.source else {
            return true;
        };
        let sent = shared.sent.borrow();
        (sent.overflowed || self.replayed >= sent.frames.len()) && shared.is_at_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
