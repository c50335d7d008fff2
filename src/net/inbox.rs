//! What was read from a connection and not yet used.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::stream::Stream;
use crate::spares::Spares;

/// How much a read takes at once, in bytes: a head and a body of 64 KiB, the size at which bodies
/// were measured to move cheapest, come in one.
const READ_MAX: usize = 80 << 10;

/// A read is not worth its system call with less room than this; then a new buffer is taken.
const ROOM_MIN: usize = 16 << 10;

/// Emptied buffers that a thread keeps: as many as it has connections that are busy at once in a
/// sidecar (5 MiB); more are given back to the allocator.
const SPARES: usize = 64;

thread_local! {
    static SPARE: Spares<BytesMut> = const { Spares::new(SPARES) };
}

/// The bytes of a connection that wait to be used.
///
/// The buffer comes from, and goes back to, what the thread keeps: an idle connection has none.
#[derive(Debug, Default)]
pub struct Inbox(BytesMut);

impl Inbox {
    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the first `len` bytes without copying them. They keep the whole buffer from being used
    /// again until they are dropped.
    pub fn take(&mut self, len: usize) -> Bytes {
        self.0.split_to(len.min(self.0.len())).freeze()
    }

    /// Drops the first `len` bytes.
    pub fn skip(&mut self, len: usize) {
        self.0.advance(len.min(self.0.len()));
    }

    /// Reads once from `stream`; 0 at the end of what the peer sends.
    ///
    /// # Errors
    /// What the system says of the connection.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, stream: &Stream) -> Poll<io::Result<usize>> {
        self.make_room();
        let read = stream.poll_read_buf(cx, &mut self.0);
        if self.0.is_empty() {
            self.rest();
        }
        read
    }

    /// Gives the buffer back while nothing is in it.
    pub fn rest(&mut self) {
        if self.0.is_empty() && self.0.capacity() > 0 {
            // A head or a piece of a body may still be part of it; it rarely is by the time that
            // the buffer is wanted.
            Spares::keep(&SPARE, std::mem::take(&mut self.0));
        }
    }

    fn make_room(&mut self) {
        if self.0.capacity() - self.0.len() >= READ_MAX || self.0.try_reclaim(READ_MAX) {
            return;
        }
        // Somebody holds part of it. What is left of it serves small reads.
        if self.0.capacity() - self.0.len() < ROOM_MIN {
            let mut fresh = fresh();
            fresh.extend_from_slice(&self.0);
            self.0 = fresh;
        }
    }
}

/// A buffer of which nobody holds a part.
fn fresh() -> BytesMut {
    let kept = Spares::take(&SPARE);
    let free = kept.and_then(|mut it| it.try_reclaim(READ_MAX).then_some(it));
    free.unwrap_or_else(|| BytesMut::with_capacity(READ_MAX))
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.clear();
        self.rest();
    }
}
