//! A connection read as HTTP/1.1: the codec fed from a socket.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use http_body::Frame;

use super::inbox::Inbox;
use super::stream::Stream;
use crate::head::{FieldTable, allowed_trailers};
use crate::http1::{self, Decoder, RequestLine, StatusLine, Step};
use crate::limits::HeadLimits;

/// A connection's socket, and what was read from it and not used yet.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: Stream,
    /// What was read and not used.
    pub inbox: Inbox,
}

/// A message that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The peer sent no message.
    #[error("what came is no HTTP/1.1: {0}")]
    Codec(http1::Error),
    /// The peer closed within a message.
    #[error("the connection was closed within a message")]
    Closed,
}

/// A request's head: the bytes it came in, and what is where in them.
#[derive(Debug)]
pub struct RequestBytes {
    /// The whole head.
    pub bytes: Bytes,
    /// Its first line, and how the body is framed.
    pub line: RequestLine,
    /// Where its fields are.
    pub table: FieldTable,
}

/// A response's head: the bytes it came in, and what is where in them.
#[derive(Debug)]
pub struct ResponseBytes {
    /// The whole head.
    pub bytes: Bytes,
    /// Its first line, and how the body is framed.
    pub line: StatusLine,
    /// Where its fields are.
    pub table: FieldTable,
}

impl Wire {
    /// A connection of which nothing was read.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            inbox: Inbox::default(),
        }
    }

    /// The next request's head, if it is there to its end.
    ///
    /// # Errors
    /// When what is there is none, or does not keep the `limits`.
    pub fn parse_request(
        &mut self,
        limits: &HeadLimits,
    ) -> Result<Option<RequestBytes>, http1::Error> {
        if self.inbox.bytes().is_empty() {
            return Ok(None);
        }
        let mut table = FieldTable::new();
        let parsed = http1::parse_request(self.inbox.bytes(), limits, &mut table)?;
        Ok(parsed.map(|line| {
            let bytes = self.inbox.take(line.len);
            RequestBytes { bytes, line, table }
        }))
    }

    /// The next head of a response to a request by `asked`.
    ///
    /// # Errors
    /// When the connection fails, or brings something else.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        asked: &Method,
    ) -> Poll<Result<ResponseBytes, WireError>> {
        loop {
            if self.inbox.bytes().is_empty() {
                // Nothing is there when this is asked first, and for nothing no buffer is taken.
                ready!(self.stream.poll_readable(cx)).map_err(WireError::Io)?;
            } else {
                let mut table = FieldTable::new();
                let parsed = http1::parse_response(self.inbox.bytes(), asked, &mut table);
                if let Some(line) = parsed.map_err(WireError::Codec)? {
                    let bytes = self.inbox.take(line.len);
                    return Poll::Ready(Ok(ResponseBytes { bytes, line, table }));
                }
            }
            if ready!(self.poll_more(cx))? == 0 {
                return Poll::Ready(Err(WireError::Closed));
            }
        }
    }

    /// The next piece of a body, or its trailers; `None` at its end.
    ///
    /// # Errors
    /// When the connection fails or ends within the body, or the body is framed wrongly.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        loop {
            let decoded = decoder
                .decode(self.inbox.bytes())
                .map_err(WireError::Codec)?;
            self.inbox.skip(decoded.skip);
            match decoded.step {
                Step::Data(len) => {
                    let data = self.inbox.take(len);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Step::Trailers(len) => {
                    let section = self.inbox.take(len);
                    let trailers = http1::parse_trailers(&section).map_err(WireError::Codec)?;
                    return Poll::Ready(Some(Ok(Frame::trailers(allowed_trailers(trailers)))));
                }
                Step::End => return Poll::Ready(None),
                Step::Incomplete => {}
            }
            if ready!(self.poll_more(cx))? == 0 {
                let ended = decoder.end_of_input().map_err(|_| WireError::Closed);
                return Poll::Ready(ended.err().map(Err));
            }
        }
    }

    /// Reads once; 0 when the peer sends no more.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WireError>> {
        self.inbox
            .poll_fill(cx, &self.stream)
            .map_err(WireError::Io)
    }
}
