//! An exchange on a stream of an HTTP/2 connection to a node.
//!
//! Whoever waits for the response polls it, and with it the request's body: no task runs beside the
//! request's own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::client::ResponseFuture;
use http::{Request, response};
use http_body::{Body, Frame};

use super::super::body::{Broken, ClientFault, Incoming, RequestBody, Upload};
use super::super::error::{AttemptError, classify};
use crate::upstream::{Http2Lease, Http2Stream, Place};

/// One request and its response. Dropped before both have ended, it resets the stream.
#[derive(Debug)]
pub(in crate::proxy) struct Http2Exchange {
    upload: Upload,
    response: Response,
    pooled: bool,
    place: Place,
}

/// How far the response is.
#[derive(Debug)]
enum Response {
    Awaited(ResponseFuture),
    Arrived(Incoming),
}

impl Http2Exchange {
    /// Sends `request`, and then `body`, on a stream that may be opened.
    ///
    /// # Errors
    /// When the connection took nothing of it.
    pub(in crate::proxy) fn open(
        lease: Http2Lease,
        request: Request<()>,
        body: RequestBody,
    ) -> Result<Self, AttemptError> {
        let Http2Lease { stream, pooled } = lease;
        let is_whole = body.is_end_stream();
        let opened = stream.open(request, is_whole);
        let Http2Stream {
            request,
            response,
            place,
        } = opened.map_err(|error| AttemptError::Unsent(error.into()))?;
        Ok(Self {
            upload: Upload::new(request, body, is_whole),
            response: Response::Awaited(response),
            pooled,
            place,
        })
    }

    /// Goes on with the request and reads the next head of the response, 1xx included.
    pub(in crate::proxy) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<response::Parts, AttemptError>> {
        self.place.poll_opened(cx);
        self.upload.poll(cx).map_err(AttemptError::Client)?;
        let Response::Awaited(response) = &mut self.response else {
            return Poll::Pending;
        };
        let pooled = self.pooled;
        let failed = |error| classify(error, pooled);
        if let Some(interim) = ready!(response.poll_informational(cx)) {
            let (head, ()) = interim.map_err(failed)?.into_parts();
            return Poll::Ready(Ok(head));
        }
        let response = ready!(Pin::new(response).poll(cx)).map_err(failed)?;
        let (head, body) = response.into_parts();
        self.response = Response::Arrived(Incoming::new(body, None));
        Poll::Ready(Ok(head))
    }

    /// The next piece of the response; goes on with the request meanwhile.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // Where the client spoiled it, the response breaks off: the stream was reset.
        let _spoiled = self.upload.poll(cx).is_err();
        let Response::Arrived(body) = &mut self.response else {
            return Poll::Pending;
        };
        let frame = ready!(body.poll_frame(cx));
        Poll::Ready(frame.map(|it| it.map_err(broken)))
    }

    /// Goes on with the request while the response's reader does not want more of it.
    ///
    /// # Errors
    /// When the client spoiled it.
    pub(in crate::proxy) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<(), ClientFault> {
        self.upload.poll(cx)
    }

    /// Whether all of the response was read.
    pub(in crate::proxy) fn is_at_end(&self) -> bool {
        match &self.response {
            Response::Awaited(_) => false,
            Response::Arrived(body) => body.is_at_end(),
        }
    }
}

/// How a response broke. A reset without an error would be taken for an end by who sees its code.
fn broken(error: h2::Error) -> Broken {
    match error.reason() {
        Some(Reason::NO_ERROR) => Broken::Cut,
        _ => error.into(),
    }
}
