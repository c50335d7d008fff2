//! The client of an HTTP/1.1 request while the request is served: its body, what it is told
//! meanwhile, and whether it is still there.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::Frame;

use super::{Awaits, Connection, Presence};
use crate::http1::{Decoder, Length, Persistence};
use crate::limits::Limit;
use crate::net::WireError;
use crate::proxy::body::ClientBody;
use crate::proxy::reply::NodeReply;
use crate::proxy::rewrite::http1::{Client, interim};

impl Connection {
    /// The next piece of the request's body.
    pub(in crate::proxy) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        self.flush_interims(cx);
        let mut decoder = self.decoder.get();
        let polled = self.wire.borrow_mut().poll_frame(cx, &mut decoder);
        self.decoder.set(decoder);
        if let Poll::Ready(frame) = &polled {
            let left = matches!(frame, Some(Err(WireError::Io(_) | WireError::Closed)));
            self.set_awaits(|it| {
                // Whoever sends its body waits for nothing.
                it.go_on = false;
                if left {
                    it.presence = Presence::Left;
                }
            });
        }
        polled
    }

    /// A number for the request, or for what comes between two, from now on: whoever reads the body
    /// of the one before reads nothing more.
    pub(super) fn next_serial(&self) -> u32 {
        let next = self.serial.get().wrapping_add(1);
        self.serial.set(next);
        next
    }

    /// Whether `serial` is what is served.
    pub(in crate::proxy) fn serves(&self, serial: u32) -> bool {
        self.serial.get() == serial
    }

    /// Whether the request's body was read to its end.
    pub(in crate::proxy) fn is_body_at_end(&self) -> bool {
        self.decoder.get().is_at_end()
    }

    /// The bytes of the request's body that are still to come, where its framing tells.
    pub(in crate::proxy) fn body_remaining(&self) -> Option<u64> {
        self.decoder.get().remaining()
    }

    /// Makes a tunnel of the connection: what the client sends from here on, to its end, is data.
    pub(in crate::proxy) fn tunnel(self: &Rc<Self>) -> ClientBody {
        self.decoder.set(Decoder::new(Length::Tunnel));
        // Who reads what it sends sees its end.
        self.set_awaits(|it| it.presence = Presence::Unknown);
        ClientBody::Http1 {
            connection: Rc::downgrade(self),
            serial: self.serial.get(),
        }
    }

    /// Whether the client sends its body only once it is told to.
    pub(in crate::proxy) fn expects_continue(&self) -> bool {
        self.awaits.get().go_on
    }

    /// Tells a client that waits for it to send its body.
    pub(super) fn says_continue(&self) {
        if self.expects_continue() {
            let mut outbox = self.interims.take().unwrap_or_default();
            outbox
                .buffer()
                .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.interims.set(Some(outbox));
            self.set_awaits(|it| it.go_on = false);
        }
    }

    /// Passes on a node's 1xx response, to a client that takes it.
    pub(super) fn passes_interim(&self, reply: &NodeReply) {
        let awaits = self.awaits.get();
        let is_continue = reply.head.status() == 100;
        // A client that was told already, or that did not ask, is not told to go on.
        if !awaits.interims || is_continue && !awaits.go_on {
            return;
        }
        if is_continue {
            self.set_awaits(|it| it.go_on = false);
        }
        let date = self.thread.date();
        let client = Client {
            method: &Method::GET,
            is_http_11: true,
            takes_trailers: false,
            persistence: Persistence::KeepAlive,
            pseudonym: &self.thread.pseudonym,
            date: &date,
        };
        let mut outbox = self.interims.take().unwrap_or_default();
        if !outbox.is_full() {
            interim(outbox.buffer(), reply, client);
        }
        self.interims.set(Some(outbox));
    }

    /// Writes what the client is told meanwhile.
    pub(super) fn flush_interims(&self, cx: &mut Context<'_>) {
        if let Some(mut outbox) = self.interims.take() {
            // What is left goes out with the response; a broken connection breaks there too.
            let _best_effort = outbox.poll_flush(cx, &self.stream);
            self.interims.set(Some(outbox));
        }
    }

    /// Ready when the client left: nobody waits for the response any more. While the request's body
    /// is read, its reader sees that.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.awaits.get().presence {
            Presence::Left => return Poll::Ready(()),
            Presence::Watched if self.is_body_at_end() => {}
            Presence::Watched | Presence::Unknown => return Poll::Pending,
        }
        if !self.stream.is_registered() && !self.takes_long(cx) {
            return Poll::Pending;
        }
        if ready!(self.stream.poll_closed(cx)) {
            return Poll::Ready(());
        }
        // It sent its next request already: what comes after that cannot be seen.
        self.set_awaits(|it| it.presence = Presence::Unknown);
        Poll::Pending
    }

    /// Whether the request is served since before the thread's last sweep: until then a connection that
    /// the runtime need not tell of for anything else is not registered for its client's end alone.
    fn takes_long(&self, cx: &mut Context<'_>) -> bool {
        let parking = &self.thread.parking;
        if parking.is_over(&self.spot) {
            return true;
        }
        parking.park(&self.spot, cx.waker(), Duration::ZERO);
        false
    }

    /// Skips what is there of a body that nobody wants; whether it came to its end.
    pub(super) fn skip_body(&self, cx: &mut Context<'_>) -> bool {
        let mut skipped = 0;
        let mut decoder = self.decoder.get();
        let mut wire = self.wire.borrow_mut();
        let max = self.thread.limits().drain_bytes;
        while !decoder.is_at_end() && !self.expects_continue() {
            if skipped > max {
                self.thread.reached(Limit::DrainBytes);
                break;
            }
            match wire.poll_frame(cx, &mut decoder) {
                Poll::Ready(Some(Ok(frame))) => skipped += frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(Some(Err(_)) | None) | Poll::Pending => break,
            }
        }
        self.decoder.set(decoder);
        decoder.is_at_end()
    }

    fn set_awaits(&self, change: impl FnOnce(&mut Awaits)) {
        let mut awaits = self.awaits.get();
        change(&mut awaits);
        self.awaits.set(awaits);
    }
}
