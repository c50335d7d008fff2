//! What a listener does when nothing can be accepted.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

/// How long nothing is accepted after it could not: out of file descriptors, a listener would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is said.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Error numbers of a system that has no more to give: files, of the process and of all, memory and
/// buffers (Linux, errno(3)).
const EXHAUSTED: [i32; 4] = [24, 23, 12, 105];

/// Paces a listener, and what it says, while nothing can be accepted.
#[derive(Debug, Default)]
pub struct AcceptPause {
    said: Option<Instant>,
}

impl AcceptPause {
    /// Waits after `error`, until it is worth another try.
    pub async fn after(&mut self, error: &io::Error, listener: &str) {
        // A client that left before it was accepted: the next one may be there.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        if self.said.is_none_or(|it| it.elapsed() >= SAID_EVERY) {
            self.said = Some(Instant::now());
            warn!(%error, listener, "nothing can be accepted");
        }
        sleep(PAUSE).await;
    }
}

/// Whether the system has no more to give, so that nobody else is to blame.
pub fn is_exhausted(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|it| EXHAUSTED.contains(&it))
        || error.kind() == io::ErrorKind::AddrNotAvailable
}
