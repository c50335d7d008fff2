//! What is about to be written to a connection: a head, framing and small data in one buffer, and
//! one large piece of data that is not copied.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::stream::Stream;
use crate::spares::Spares;

/// Data up to this size is copied behind what is there, so that it leaves in the same write without
/// a second slice; copying it costs less than the slice does.
const COPY_MAX: usize = 4 << 10;

/// A buffer takes nothing more once it holds this much: then it is time to write.
const FULL: usize = 16 << 10;

/// Emptied buffers that a thread keeps; more, or larger ones, are given back to the allocator.
const SPARES: usize = 256;
const SPARE_MAX: usize = 64 << 10;

thread_local! {
    static SPARE: Spares<Vec<u8>> = const { Spares::new(SPARES) };
}

/// Bytes on their way out.
///
/// It holds at most one piece of data beside its buffer: who fills it flushes it first.
#[derive(Debug, Default)]
pub struct Outbox {
    buffer: Vec<u8>,
    written: usize,
    /// Comes after the buffer.
    data: Bytes,
    /// Comes after the data.
    after: &'static [u8],
}

impl Outbox {
    /// Whether all was written.
    pub fn is_empty(&self) -> bool {
        self.written == self.buffer.len() && self.data.is_empty() && self.after.is_empty()
    }

    /// Whether it must be flushed before more is put into it.
    pub fn is_full(&self) -> bool {
        !self.data.is_empty() || !self.after.is_empty() || self.buffer.len() >= FULL
    }

    /// The buffer, to append a head or framing to. Not for one that [is full](Self::is_full).
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0
            && let Some(spare) = Spares::take(&SPARE)
        {
            self.buffer = spare;
        }
        &mut self.buffer
    }

    /// Adds `data` and what comes after it. Not for one that [is full](Self::is_full).
    pub fn push(&mut self, data: Bytes, after: &'static [u8]) {
        if data.len() <= COPY_MAX {
            let buffer = self.buffer();
            buffer.extend_from_slice(&data);
            buffer.extend_from_slice(after);
        } else {
            self.data = data;
            self.after = after;
        }
    }

    /// Whether part of it was written already.
    pub fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// What the system says of the connection.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let head = &self.buffer[self.written..];
            let written = if self.data.is_empty() && self.after.is_empty() {
                ready!(stream.poll_write_slice(cx, head))?
            } else {
                let parts = [head, &self.data, self.after].map(IoSlice::new);
                ready!(stream.poll_write_slices(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        self.rest();
        Poll::Ready(Ok(()))
    }

    /// Drops what was not written.
    pub fn clear(&mut self) {
        self.data = Bytes::new();
        self.after = &[];
        self.buffer.clear();
        self.rest();
    }

    fn advance(&mut self, written: usize) {
        let head = written.min(self.buffer.len() - self.written);
        self.written += head;
        let data = (written - head).min(self.data.len());
        self.data.advance(data);
        self.after = &self.after[written - head - data..];
    }

    /// Gives the buffer back: all of it was written.
    fn rest(&mut self) {
        self.written = 0;
        self.data = Bytes::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        if (1..=SPARE_MAX).contains(&buffer.capacity()) {
            Spares::keep(&SPARE, buffer);
        }
    }
}
