//! A response's body on its way out by HTTP/2, as far as the client's windows let it.

use std::error::Error;
use std::future::poll_fn;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use tokio::time::Instant;

use crate::net::{Alarm, clock, is_clients_fault};
use crate::proxy::body::{BodyError, ResponseBody};

/// Data up to this size goes to h2 as a copy: what waits there for the client's window would else
/// keep the large buffer that it was read into.
const COPY_MAX: usize = 16 << 10;

/// Why a response did not reach its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// It broke off at its node.
    #[error("the response broke")]
    Body(#[source] BodyError),
    /// The client reset the stream, or its connection broke.
    #[error("the client left")]
    Left(#[source] h2::Error),
    /// The client took nothing of it for too long.
    #[error("the client takes nothing of the response")]
    Stalled,
}

/// Sends `body` to its end; h2 may hold `buffer` bytes of it.
///
/// # Errors
/// When it cannot. The stream is reset when `stream` is dropped then, if it was not already.
pub(super) async fn send(
    stream: &mut SendStream<Bytes>,
    body: &mut ResponseBody,
    buffer: usize,
) -> Result<(), Cut> {
    let mut sending = Sending {
        buffer,
        piece: None,
        stalled: None,
        alarm: Alarm::default(),
    };
    let sent = poll_fn(|cx| match sending.poll(cx, stream, body) {
        // h2 wakes for a reset only who asked.
        Poll::Pending => stream.poll_reset(cx).map(|reset| {
            let error = reset.map_or_else(|error| error, h2::Error::from);
            Err(Cut::Left(error))
        }),
        ready @ Poll::Ready(_) => ready,
    });
    let sent = sent.await;
    match &sent {
        Ok(()) => {}
        Err(Cut::Body(error)) => stream.send_reset(code(error)),
        Err(Cut::Left(_) | Cut::Stalled) => body.outcome().abandoned(),
    }
    sent
}

/// The code that a stream is reset with whose response broke off: a node's own, unless it is one
/// that would be held against the client, or none.
fn code(error: &(dyn Error + 'static)) -> Reason {
    let mut sources = iter::successors(Some(error), |&it| it.source());
    let code = sources.find_map(|it| it.downcast_ref::<h2::Error>()?.reason());
    let says = |it: &Reason| *it != Reason::NO_ERROR && !is_clients_fault((*it).into());
    code.filter(says).unwrap_or(Reason::INTERNAL_ERROR)
}

struct Sending {
    buffer: usize,
    /// What waits for the client's window, and whether it is the last of the body.
    piece: Option<(Bytes, bool)>,
    /// Since when it does.
    stalled: Option<Instant>,
    alarm: Alarm,
}

impl Sending {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        body: &mut ResponseBody,
    ) -> Poll<Result<(), Cut>> {
        loop {
            if self.piece.is_some() {
                ready!(self.poll_room(cx, stream, body))?;
            }
            if let Some((data, is_last)) = self.piece.take() {
                stream.send_data(data, is_last).map_err(Cut::Left)?;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Some(frame) = ready!(Pin::new(&mut *body).poll_frame(cx)) else {
                let sent = stream.send_data(Bytes::new(), true);
                return Poll::Ready(sent.map_err(Cut::Left));
            };
            match frame.map_err(Cut::Body)?.into_data() {
                Ok(data) => self.take(data, stream, body),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let sent = stream.send_trailers(trailers);
                    return Poll::Ready(sent.map_err(Cut::Left));
                }
            }
        }
    }

    /// Takes the next piece of the body, for which there must be room.
    fn take(&mut self, data: Bytes, stream: &mut SendStream<Bytes>, body: &ResponseBody) {
        let is_last = body.is_end_stream();
        if !is_last {
            body.outcome().holds_more(self.buffer);
        }
        // Only what is there claims room, or other streams would lack it, and no more than a byte: h2
        // asks for the rest once it has the piece.
        stream.reserve_capacity(data.len().min(1));
        let data = match data.len() {
            ..=COPY_MAX => Bytes::copy_from_slice(&data),
            _ => data,
        };
        self.piece = Some((data, is_last));
    }

    /// Ready when h2 takes the piece; fails when the client let it wait for too long.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        body: &mut ResponseBody,
    ) -> Poll<Result<(), Cut>> {
        // What is empty takes no room.
        let is_empty = self.piece.as_ref().is_none_or(|it| it.0.is_empty());
        while !is_empty && stream.capacity() == 0 {
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Cut::Left(error))),
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Cut::Left(Reason::STREAM_CLOSED.into())));
                }
                Poll::Pending => {
                    body.outcome().waits();
                    // A client may want to send before it reads.
                    body.poll_upload(cx);
                    let since = *self.stalled.get_or_insert_with(clock::now);
                    ready!(self.alarm.poll_until(cx, since + body.patience()));
                    return Poll::Ready(Err(Cut::Stalled));
                }
            }
        }
        self.stalled = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("a node's")]
    struct Broken(#[source] h2::Error);

    #[test]
    fn a_reset_says_what_the_node_said_unless_that_blames_the_client() {
        for (said, code_) in [
            (Reason::CANCEL, Reason::CANCEL),
            (Reason::PROTOCOL_ERROR, Reason::INTERNAL_ERROR),
            (Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR),
            (Reason::NO_ERROR, Reason::INTERNAL_ERROR),
        ] {
            assert_eq!(code(&Broken(said.into())), code_, "{said:?}");
        }
        assert_eq!(code(&std::io::Error::other("x")), Reason::INTERNAL_ERROR);
    }
}
