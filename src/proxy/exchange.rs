//! An exchange on an HTTP/1.1 connection to a node: a request that is sent, a response that is read,
//! both at once if it comes to that. One on an HTTP/2 stream is in [`http2`].

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use http_body::Frame;

use super::body::{Allowance, Broke, ClientBody, ClientFault, RequestBody, Source, Transmit};
use super::error::AttemptError;
use super::forward::Call;
use super::rewrite::http1::Framing;
use super::rewrite::{self, Told};
use crate::http1::{Decoder, Length, Persistence};
use crate::net::{ResponseBytes, WireError};
use crate::upstream::Http1Lease;

pub(super) mod http2;

/// One request and its response. Dropped before both have ended, it closes the connection.
#[derive(Debug)]
pub(super) struct Http1Exchange {
    lease: Http1Lease,
    upload: Upload,
    decoder: Decoder,
    persistence: Persistence,
    is_tunnel: bool,
}

/// How far the request is.
#[derive(Debug)]
enum Upload {
    Sending(Option<RequestBody>, Transmit),
    Sent,
    /// The node takes no more: it may still have said why.
    Failed {
        error: io::Error,
        /// Whether it took nothing at all.
        unsent: bool,
    },
}

impl Http1Exchange {
    /// The exchange of `call` on this connection; nothing is sent yet.
    pub(super) fn new(mut lease: Http1Lease, call: &Call<'_>, told: Told<'_>) -> Self {
        lease
            .connection
            .wire
            .stream
            .set_write_timeout(call.activity.timeout());
        let head = lease.connection.outbox.buffer();
        let framing = rewrite::http1::request(head, call, told);
        let body = Some(RequestBody::of(call.source.as_ref()));
        Self {
            lease,
            upload: Upload::Sending(body, Transmit::new(framing)),
            decoder: Decoder::new(Length::Empty),
            persistence: Persistence::Close,
            is_tunnel: false,
        }
    }

    /// Makes a tunnel of it, when the node has switched to another protocol: what is left of the
    /// response is what the node sends, and a second upload what the client sends.
    ///
    /// # Errors
    /// When the node did so before it had the request.
    pub(super) fn open_tunnel(&mut self, call: &Call<'_>) -> Result<(), AttemptError> {
        let Upload::Sent = self.upload else {
            return Err(AttemptError::Switched);
        };
        let allowed = Allowance {
            bytes: None,
            wait: None,
            replay: 0,
        };
        let thread = Rc::clone(call.thread());
        let incoming = match call.received.tunnel() {
            Some(tunnel) => ClientBody::Tunnel(Rc::clone(tunnel)),
            None => call.connection.tunnel(),
        };
        let source = Source::new(thread, incoming, allowed, call.activity.clone());
        let body = Some(RequestBody::of(source.as_ref()));
        self.upload = Upload::Sending(body, Transmit::new(Framing::Plain));
        self.is_tunnel = true;
        Ok(())
    }

    /// Sends the request and reads the next head of the response, 1xx included.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Method,
    ) -> Poll<Result<ResponseBytes, AttemptError>> {
        if let Err(fault) = self.poll_upload(cx) {
            return Poll::Ready(Err(AttemptError::Client(fault)));
        }
        let head = self.lease.connection.wire.poll_response(cx, asked);
        head.map(|head| {
            let head = head.map_err(|error| self.failed(error))?;
            self.decoder = Decoder::new(head.line.length);
            self.persistence = head.line.persistence;
            Ok(head)
        })
    }

    /// The next piece of the response; goes on with the request meanwhile.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        // A client that spoils its request now may still read the response.
        let _ended = self.poll_upload(cx).is_err();
        self.lease.connection.wire.poll_frame(cx, &mut self.decoder)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.decoder.is_at_end()
    }

    /// The bytes of the response that are still to come, where its framing tells.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Gives the connection back, if another exchange can follow on it.
    pub(super) fn end(self) {
        let sent = matches!(self.upload, Upload::Sent);
        if sent && self.decoder.is_at_end() && self.persistence == Persistence::KeepAlive {
            self.lease.keep();
        }
    }

    /// Goes on with the request while the response's reader does not want more of it.
    ///
    /// # Errors
    /// When the client spoiled it. What the node does not take is told by the response.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), ClientFault> {
        let Upload::Sending(body, transmit) = &mut self.upload else {
            return Ok(());
        };
        match transmit.poll(
            cx,
            body,
            &mut self.lease.connection.outbox,
            &self.lease.connection.wire.stream,
        ) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => {
                self.upload = Upload::Sent;
                if self.is_tunnel {
                    // The client sends no more; a node that is gone says so itself.
                    let _gone = self.lease.connection.wire.stream.shut_down().is_err();
                }
            }
            Poll::Ready(Err(Broke::Io(error))) => {
                let unsent = !transmit.is_begun() && !self.lease.connection.outbox.is_begun();
                self.lease.connection.outbox.clear();
                self.upload = Upload::Failed { error, unsent };
            }
            Poll::Ready(Err(Broke::Body(fault))) => {
                self.lease.connection.outbox.clear();
                let error = io::ErrorKind::BrokenPipe.into();
                let unsent = false;
                self.upload = Upload::Failed { error, unsent };
                return Err(fault);
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: WireError) -> AttemptError {
        let pooled = self.lease.pooled();
        match (error, std::mem::replace(&mut self.upload, Upload::Sent)) {
            (error @ WireError::Codec(_), _) => AttemptError::Protocol(error.into()),
            (
                _,
                Upload::Failed {
                    error,
                    unsent: true,
                },
            ) => AttemptError::Unsent(WireError::Io(error).into()),
            // A node that closed what it would not read more of.
            (WireError::Closed, Upload::Failed { error, .. }) => AttemptError::Reset {
                pooled,
                source: WireError::Io(error).into(),
            },
            (error, _) => AttemptError::Reset {
                pooled,
                source: error.into(),
            },
        }
    }
}
