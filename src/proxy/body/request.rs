//! A request's body: read from the client once, sent to as many nodes as the policy allows.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Activity, ClientBody};

/// The most pieces of a body that are kept: a piece costs memory however small it is.
const PIECES_MAX: usize = 1024;

/// The client's body, kept while it is small enough to be sent again.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Source(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    incoming: RefCell<ClientBody>,
    /// What was read ahead to find the key.
    ahead: RefCell<VecDeque<Frame<Bytes>>>,
    sent: RefCell<Sent>,
    replay_max: usize,
    /// The attempt that reads; a body of an earlier one that is still about gives nothing more.
    reader: Cell<u32>,
    fault: Cell<Option<ClientFault>>,
    waits: Cell<bool>,
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
    /// Another attempt reads the body now.
    #[error("a later attempt reads the body")]
    Superseded,
    /// HTTP/2 cannot carry the request's target.
    #[error("the target cannot be sent by HTTP/2")]
    Target,
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
    /// The body `incoming`; `None` when it is empty. Up to `replay_max` bytes are kept.
    pub(in crate::proxy) fn new(
        incoming: ClientBody,
        replay_max: usize,
        activity: Activity,
    ) -> Option<Self> {
        if incoming.is_at_end() {
            return None;
        }
        let hopeless = incoming.size_hint().lower() > replay_max as u64;
        let sent = Sent::default();
        Some(Self(Rc::new(Shared {
            incoming: RefCell::new(incoming),
            ahead: RefCell::default(),
            sent: RefCell::new(sent),
            replay_max: if hopeless { 0 } else { replay_max },
            reader: Cell::new(0),
            fault: Cell::new(None),
            waits: Cell::new(false),
            finished: Cell::new(false),
            finish: RefCell::new(None),
            activity,
        })))
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
        Ok(prefix)
    }

    /// Whether an attempt can be given the whole body again.
    pub(in crate::proxy) fn is_replayable(&self) -> bool {
        !self.0.sent.borrow().overflowed
    }

    /// How the client spoiled the request, if it did.
    pub(in crate::proxy) fn fault(&self) -> Option<ClientFault> {
        self.0.fault.get()
    }

    /// Whether it is the client that everyone waits for.
    pub(in crate::proxy) fn waits_for_client(&self) -> bool {
        self.0.waits.get() && !self.0.finished.get()
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
        self.waits.set(polled.is_pending());
        let Some(frame) = ready!(polled) else {
            return Poll::Ready(None);
        };
        self.activity.moved();
        Poll::Ready(Some(
            frame.inspect_err(|fault| self.fault.set(Some(*fault))),
        ))
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
        let ahead: usize = self
            .ahead
            .borrow()
            .iter()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum();
        let known = (self.sent.borrow().bytes + ahead) as u64;
        let rest = self.incoming.borrow().size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(known + rest.lower());
        if let Some(upper) = rest.upper() {
            whole.set_upper(known + upper);
        }
        whole
    }
}

impl Sent {
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
        let kept = shared.sent.borrow().frames.get(self.replayed).map(copy);
        let frame = match kept {
            Some(frame) => Some(Ok(frame)),
            None => ready!(shared.poll_new(cx)),
        };
        self.replayed += 1;
        if frame.is_none() || self.is_end_stream() {
            shared.finish();
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
