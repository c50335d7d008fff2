//! The thread's coarse clock: the last time that anyone on it read the real one.
//!
//! A request reads the clock when it begins and when its response's head is there. What only needs
//! to know the time to within that (the age of an idle connection, say) takes the last reading.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Reads the clock.
pub fn now() -> Instant {
    let now = Instant::now();
    LAST.set(Some(now));
    now
}

/// The last reading on this thread, whose age is that of the request that runs: on a data thread
/// never above a second, for the sweep reads the clock too.
pub fn recent() -> Instant {
    LAST.get().unwrap_or_else(now)
}
