//! Pure: when a second node is asked beside the first.

use std::time::Duration;

/// How long the first node has before a safe request goes to the next one too (Dean and Barroso, *The
/// tail at scale*, 2013).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// So long.
    Fixed(Duration),
    /// As long as 95 of 100 answers of the shard take, lately.
    P95,
}
