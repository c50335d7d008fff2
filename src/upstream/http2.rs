//! An HTTP/2 connection to a node, by h2 itself: one task drives it, whoever shares it opens streams.

use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;

use crate::net::{Corked, Stream};

mod driver;
mod slots;

use slots::{Slots, Ticket};

/// The windows that a node may fill of a stream and of a connection before they are read, in bytes.
const WINDOWS: (u32, u32) = (256 << 10, 1 << 20);

/// What h2 holds of a request's body at most, in bytes: as much as four frames of the usual size, so
/// that one is there whenever the socket takes it.
const SEND_BUFFER: usize = 64 << 10;

/// The bytes of a response's head that are read, as the fields are counted by HTTP/2 (RFC 9113
/// section 6.5.2).
const HEAD_MAX: u32 = 16 << 10;

/// How many streams are opened before the node says how many it takes: RFC 9113 (section 6.5.2)
/// recommends that it be no fewer.
const STREAMS_UNTOLD: usize = 100;

/// A share of an HTTP/2 connection. The connection ends when nobody shares it and its last stream
/// has ended.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    sender: SendRequest<Bytes>,
    slots: Rc<Slots>,
}

/// A stream that is yet to be opened.
#[derive(Debug)]
pub struct Unopened {
    sender: SendRequest<Bytes>,
    ticket: Ticket,
}

/// A stream that was opened. Dropped before it has ended it is reset, with CANCEL.
#[derive(Debug)]
pub struct Http2Stream {
    /// Where the request's body goes.
    pub request: SendStream<Bytes>,
    /// Where the response's head comes from.
    pub response: ResponseFuture,
    /// Its place among those that the node lets be open.
    pub place: Place,
}

/// The place of a stream, which another stream has when this is dropped.
#[derive(Debug)]
pub struct Place {
    ticket: Ticket,
    /// Tells when a stream that may be one too many was opened.
    passing: Option<SendRequest<Bytes>>,
}

/// Opens the protocol on `stream`; `held` is dropped when the connection has ended.
pub(super) async fn open<T: 'static>(stream: Stream, held: T) -> Result<Shared, h2::Error> {
    let (corked, cork) = Corked::new(stream, Bytes::new());
    let (stream_window, connection_window) = WINDOWS;
    let handshake = Builder::new()
        .enable_push(false)
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .initial_max_send_streams(STREAMS_UNTOLD)
        .max_header_list_size(HEAD_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(corked);
    let (sender, connection) = handshake.await?;
    let slots = Rc::new(Slots::new(STREAMS_UNTOLD));
    let driven = driver::drive(connection, cork, Rc::clone(&slots));
    // Boxed: a task is moved several times until it runs, and once more at its end.
    tokio::task::spawn_local(Box::pin(async move {
        let _held = held;
        driven.await;
    }));
    Ok(Shared { sender, slots })
}

impl Shared {
    /// Whether no stream can be opened any more: the connection broke, or the node said GOAWAY.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// One more stream.
    pub(super) fn stream(&self) -> Unopened {
        Unopened {
            sender: self.sender.clone(),
            ticket: Ticket::new(&self.slots),
        }
    }
}

impl Unopened {
    /// Ready when the node lets one more stream be open.
    ///
    /// # Errors
    /// When the connection takes no more streams: nothing was sent.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        ready!(self.sender.poll_ready(cx))?;
        self.ticket.poll(cx).map(Ok)
    }

    /// Opens the stream with `request`, which has no body if it `is_whole`. To be called when
    /// [`poll_ready`](Self::poll_ready) was ready.
    ///
    /// # Errors
    /// When nothing was sent.
    pub fn open(mut self, request: Request<()>, is_whole: bool) -> Result<Http2Stream, h2::Error> {
        let (response, request) = self.sender.send_request(request, is_whole)?;
        let passing = self.ticket.is_passing().then_some(self.sender);
        let mut place = Place {
            ticket: self.ticket,
            passing,
        };
        if place.waits(&mut Context::from_waker(Waker::noop())) {
            place.ticket.holds_door();
        } else {
            place.passing = None;
        }
        Ok(Http2Stream {
            request,
            response,
            place,
        })
    }
}

impl Place {
    /// Lets the next stream be opened once this one was. To be polled while it is waited for.
    pub fn poll_opened(&mut self, cx: &mut Context<'_>) {
        if self.passing.is_some() && !self.waits(cx) {
            self.passing = None;
            self.ticket.opened();
        }
    }

    /// Whether the stream waits until the node lets it be open.
    fn waits(&mut self, cx: &mut Context<'_>) -> bool {
        let passing = self.passing.as_mut();
        passing.is_some_and(|it| it.poll_ready(cx).is_pending())
    }
}
