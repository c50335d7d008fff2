//! The way of a line from who says it to the thread that writes it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::LineBuffer;

/// Where lines go: `None` once the log has ended. The lock is held while a line is copied, and nobody
/// who holds it waits.
#[derive(Clone, Debug)]
pub(super) struct Outlet(Arc<Mutex<Option<LineBuffer>>>);

/// A line on its way to the outlet.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a Outlet);

impl Outlet {
    /// One that leads to `buffer`.
    pub(super) fn new(buffer: Option<LineBuffer>) -> Self {
        Self(Arc::new(Mutex::new(buffer)))
    }

    /// Takes no more lines, so that the thread that writes them ends with the last one.
    pub(super) fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<LineBuffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Write for Line<'_> {
    /// Takes a whole line, its end included, as the layer writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(buffer) = &mut *self.0.lock() {
            buffer.line(|to| to.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line)));
            buffer.flush();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
