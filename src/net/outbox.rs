//! What is about to be written to a connection: heads, framing and small data in one buffer, and
//! large pieces of data that are not copied.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::stream::Stream;
use crate::spares::Spares;

/// Data up to this size is copied behind what is there, so that it leaves in the same write without
/// a second slice; copying it costs less than the slice does.
const COPY_MAX: usize = 4 << 10;

/// It is time to write once the buffer holds this much,
const BUFFERED: usize = 16 << 10;

/// or the pieces are this many,
const PIECES: usize = 8;

/// or hold this much: about what one read brings.
const HELD: usize = 64 << 10;

/// Emptied outboxes that a thread keeps; more, or larger ones, are given back to the allocator.
const SPARES: usize = 256;
const SPARE_MAX: usize = 64 << 10;

thread_local! {
    static SPARE: Spares<Parts> = const { Spares::new(SPARES) };
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: Parts,
    /// How much of the buffer was written,
    written: usize,
    /// and how many of the pieces.
    sent: usize,
    /// Whether what was written may still wait in the stream.
    waits: bool,
}

#[derive(Debug, Default)]
struct Parts {
    buffer: Vec<u8>,
    pieces: Vec<Piece>,
}

/// Data that comes after the first bytes of the buffer.
#[derive(Debug)]
struct Piece {
    after: usize,
    data: Bytes,
}

impl Outbox {
    /// Whether all is on its way.
    pub fn is_empty(&self) -> bool {
        self.is_written() && !self.waits
    }

    fn is_written(&self) -> bool {
        self.written == self.parts.buffer.len() && !self.holds_data()
    }

    /// Whether there is more to write than a head, framing and small data.
    pub fn holds_much(&self) -> bool {
        self.holds_data() || self.parts.buffer.len() >= BUFFERED
    }

    fn holds_data(&self) -> bool {
        self.sent < self.parts.pieces.len()
    }

    /// The length of the buffer, what was written of it included.
    pub fn buffered(&self) -> usize {
        self.parts.buffer.len()
    }

    /// Whether it must be flushed before more is put into it.
    pub fn is_full(&self) -> bool {
        let held = || {
            self.parts
                .pieces
                .iter()
                .map(|it| it.data.len())
                .sum::<usize>()
        };
        self.parts.buffer.len() >= BUFFERED || self.parts.pieces.len() >= PIECES || held() >= HELD
    }

    /// The buffer, to append a head or framing to. Not for one that [is full](Self::is_full).
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.parts.buffer.capacity() == 0
            && let Some(spare) = Spares::take(&SPARE)
        {
            self.parts = spare;
        }
        &mut self.parts.buffer
    }

    /// Adds `data` and what comes after it. Not for one that [is full](Self::is_full).
    pub fn push(&mut self, data: Bytes, after: &'static [u8]) {
        let buffer = self.buffer();
        if data.len() <= COPY_MAX {
            buffer.extend_from_slice(&data);
        } else {
            let piece = Piece {
                after: buffer.len(),
                data,
            };
            self.parts.pieces.push(piece);
        }
        self.parts.buffer.extend_from_slice(after);
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
        while !self.is_written() {
            let written = if self.holds_data() {
                let mut slices = [IoSlice::new(&[]); 2 * PIECES + 1];
                let len = self.gather(&mut slices);
                ready!(stream.poll_write_slices(cx, &slices[..len]))?
            } else {
                ready!(stream.poll_write_slice(cx, &self.parts.buffer[self.written..]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.waits = true;
        }
        ready!(stream.poll_sent(cx))?;
        self.rest();
        Poll::Ready(Ok(()))
    }

    /// Drops what was not written.
    pub fn clear(&mut self) {
        self.rest();
    }

    /// What is left to write, in order; how many slices it is.
    fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>; 2 * PIECES + 1]) -> usize {
        let (mut at, mut len) = (self.written, 0);
        let mut put = |slice: &'a [u8]| {
            if !slice.is_empty() {
                slices[len] = IoSlice::new(slice);
                len += 1;
            }
        };
        for piece in &self.parts.pieces[self.sent..] {
            put(&self.parts.buffer[at..piece.after]);
            put(&piece.data);
            at = piece.after;
        }
        put(&self.parts.buffer[at..]);
        len
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.parts.pieces.get_mut(self.sent) {
            let before = written.min(piece.after - self.written);
            self.written += before;
            written -= before;
            let data = written.min(piece.data.len());
            piece.data.advance(data);
            written -= data;
            if !piece.data.is_empty() {
                return;
            }
            self.sent += 1;
        }
        self.written += written;
    }

    /// Gives the memory back: all of it was written, or is not wanted.
    fn rest(&mut self) {
        (self.written, self.sent, self.waits) = (0, 0, false);
        let mut parts = std::mem::take(&mut self.parts);
        parts.buffer.clear();
        parts.pieces.clear();
        if (1..=SPARE_MAX).contains(&parts.buffer.capacity()) {
            Spares::keep(&SPARE, parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    /// Fills outboxes with `parts`, flushes where it must and at the end; what the peer reads.
    fn sent(parts: &[(usize, usize, bool)]) -> (Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (near, mut far) = UnixStream::pair().unwrap();
            let stream = Stream::from_unix(near);
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            let writing = async {
                for (at, &(framing, data, has_end)) in parts.iter().enumerate() {
                    if outbox.is_full() {
                        poll_fn(|cx| outbox.poll_flush(cx, &stream)).await.unwrap();
                    }
                    let fill = at.to_le_bytes()[0];
                    let framing = vec![fill; framing];
                    let data = Bytes::from(vec![!fill; data]);
                    let end: &[u8] = if has_end { b"\r\n" } else { b"" };
                    outbox.buffer().extend_from_slice(&framing);
                    expected.extend([&framing[..], &data, end].concat());
                    outbox.push(data, end);
                }
                poll_fn(|cx| outbox.poll_flush(cx, &stream)).await.unwrap();
                assert!(outbox.is_empty());
                stream.shut_down().unwrap();
                expected
            };
            let mut received = Vec::new();
            let (expected, read) = tokio::join!(writing, far.read_to_end(&mut received));
            read.unwrap();
            (received, expected)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn all_arrives_in_order(
            parts in prop::collection::vec(
                (0..300_usize, prop_oneof![0..100_usize, 4000..5000_usize, 0..90_000_usize], any::<bool>()),
                0..40,
            ),
        ) {
            let (received, expected) = sent(&parts);
            prop_assert!(received == expected);
        }
    }

    #[test]
    fn it_is_full_before_it_holds_much() {
        let mut outbox = Outbox::default();
        let mut chunks = 0;
        while !outbox.is_full() {
            outbox.push(Bytes::from_static(&[0; 16 << 10]), b"\r\n");
            chunks += 1;
        }
        assert_eq!(chunks, 4);
        outbox.clear();
        assert!(outbox.is_empty() && !outbox.is_full());
        for _ in 0..PIECES {
            assert!(!outbox.is_full());
            outbox.push(Bytes::from_static(&[0; COPY_MAX + 1]), b"");
        }
        assert!(outbox.is_full());
    }
}
