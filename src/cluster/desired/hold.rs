//! Pure: how long a request waits for a node, when its shard has none that is well.

use std::time::Duration;

/// How many requests of a cluster may wait, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Requests at once, at least 1.
    pub requests: u32,
    /// What is held of them, in bytes.
    pub bytes: usize,
    /// How long one waits.
    pub max_wait: Duration,
}
