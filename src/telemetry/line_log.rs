//! Lines that data threads write and one thread passes on, for the output's reader may stall.
//!
//! A data thread appends whole lines to a buffer of its own ([`LineBuffer`]) and hands it over when
//! it is full, when asked to, and at its end. One more thread writes out what was handed over:
//! standard output blocks when a pipe's reader is slow or stopped. Each thread's lines stay in
//! order; those of different threads alternate by buffers.
//!
//! Invariant: a data thread never waits. What the reader does not take in time is dropped, whole
//! lines only, and counted. What the lines say is not known here.

use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};

/// A buffer of so many bytes is handed over: what a Linux pipe holds, and some 250 lines, over
/// which the hand-over and the write cost nothing each.
const FULL: usize = 64 << 10;

/// Room for the line that fills the buffer, where it is no longer than most.
const LAST_LINE: usize = 4 << 10;

/// How much may be on its way to the output, over all threads. A reader that stalls for longer costs
/// lines.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Buffers on their way.
    pub queue: usize,
    /// Room in an empty buffer, in bytes.
    pub room: usize,
}

impl Bounds {
    /// For lines that are handed over by the bufferful: some 4 MiB, a third of a second of the lines of
    /// 50 000 requests a second.
    pub const MANY: Self = Self {
        queue: 64,
        room: FULL + LAST_LINE,
    };

    /// For lines that are handed over one by one: as many as when a thousand nodes change at once.
    pub const FEW: Self = Self {
        queue: 2048,
        room: 512,
    };
}

/// Empty buffers on their way back to a thread: it fills one while others are written.
const SPARES: usize = 4;

/// The thread that writes the lines. It ends when every [`LineBuffer`] is gone and what they handed
/// over is written.
#[derive(Debug)]
pub struct LineLog {
    thread: JoinHandle<()>,
    dropped: DroppedLines,
}

/// One thread's lines, handed over when they fill a buffer. Dropping it hands over the last ones.
#[derive(Debug)]
pub struct LineBuffer {
    /// Without capacity before the first line after a hand-over.
    lines: Vec<u8>,
    room: usize,
    thread: usize,
    queue: SyncSender<Batch>,
    spares: Receiver<Vec<u8>>,
    dropped: DroppedLines,
}

/// How many lines were dropped. One word for all threads: dropping is rare.
#[derive(Clone, Debug, Default)]
pub struct DroppedLines(Arc<AtomicU64>);

/// Lines on their way to the output.
#[derive(Debug)]
struct Batch {
    lines: Vec<u8>,
    thread: usize,
}

/// What the writing thread runs on.
struct Writer<W> {
    /// The thread's.
    name: String,
    output: W,
    queue: Receiver<Batch>,
    /// By thread.
    spares: Vec<SyncSender<Vec<u8>>>,
    dropped: DroppedLines,
    /// The last write failed.
    failing: bool,
    /// The output ends within a line.
    torn: bool,
}

// === impl LineLog ===

impl LineLog {
    /// Starts the thread `name`, which writes to `output`, and makes the buffers of `threads`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        name: &str,
        output: impl Write + Send + 'static,
        threads: usize,
        bounds: Bounds,
    ) -> io::Result<(Self, Vec<LineBuffer>)> {
        let dropped = DroppedLines::default();
        let (sender, queue) = sync_channel(bounds.queue);
        let (spares, buffers) = (0..threads)
            .map(|thread| {
                let (spare, spares) = sync_channel(SPARES);
                let buffer = LineBuffer {
                    lines: Vec::new(),
                    room: bounds.room,
                    thread,
                    queue: sender.clone(),
                    spares,
                    dropped: dropped.clone(),
                };
                (spare, buffer)
            })
            .unzip();
        let writer = Writer {
            name: name.to_owned(),
            output,
            queue,
            spares,
            dropped: dropped.clone(),
            failing: false,
            torn: false,
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || writer.run())?;
        Ok((Self { thread, dropped }, buffers))
    }

    /// The count of lines that were not written.
    pub fn dropped(&self) -> DroppedLines {
        self.dropped.clone()
    }

    /// Whether everything is written and nothing more will be.
    pub fn is_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

// === impl LineBuffer ===

impl LineBuffer {
    /// Appends a line: what `write` appends, and its end.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.lines.capacity() == 0 {
            let spare = self.spares.try_recv();
            self.lines = spare.unwrap_or_else(|_none| Vec::with_capacity(self.room));
        }
        write(&mut self.lines);
        self.lines.push(b'\n');
        if self.lines.len() >= FULL {
            self.flush();
        }
    }

    /// Hands over the lines so far; drops them where the queue is full.
    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let batch = Batch {
            lines: mem::take(&mut self.lines),
            thread: self.thread,
        };
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
            self.queue.try_send(batch)
        {
            self.dropped.add(&batch.lines);
            self.lines = batch.lines;
            self.lines.clear();
        }
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

// === impl DroppedLines ===

impl DroppedLines {
    /// The count so far.
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[expect(clippy::naive_bytecount, reason = "dropping is rare")]
    fn add(&self, lines: &[u8]) {
        let ends = lines.iter().filter(|it| **it == b'\n').count();
        self.0.fetch_add(ends as u64, Relaxed);
    }
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    fn run(mut self) {
        while let Ok(Batch { mut lines, thread }) = self.queue.recv() {
            self.pass_on(&lines);
            // One that a very long line has grown goes.
            if lines.capacity() <= 2 * FULL {
                lines.clear();
                // Where the thread has enough, or is gone, so goes this one.
                let _kept = self.spares[thread].try_send(lines).is_ok();
            }
        }
    }

    /// Writes `lines`, or counts those that could not be.
    fn pass_on(&mut self, lines: &[u8]) {
        let mut left = lines;
        match self.write(&mut left) {
            Ok(()) if self.failing => {
                self.failing = false;
                info!(log = self.name, "the output takes lines again");
            }
            Ok(()) => {}
            Err(error) => {
                self.dropped.add(left);
                let written = &lines[..lines.len() - left.len()];
                self.torn |= written.last().is_some_and(|it| *it != b'\n');
                if !mem::replace(&mut self.failing, true) {
                    let log = &self.name;
                    warn!(log, %error, "the output takes no more lines: they are dropped");
                }
            }
        }
    }

    /// Writes all of `left`, or leaves there what was not written.
    fn write(&mut self, left: &mut &[u8]) -> io::Result<()> {
        if self.torn {
            self.output.write_all(b"\n")?;
            self.torn = false;
        }
        while !left.is_empty() {
            match self.output.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => *left = &left[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.flush()
    }
}

#[cfg(test)]
mod tests;
