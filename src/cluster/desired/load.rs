//! Pure: the valves on the load of a cluster and its nodes.

use std::num::NonZeroU32;
use std::time::Duration;

/// How far above the mean a node's load may be before its keys go on to the next node: consistent
/// hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016), as `HAProxy`'s
/// `hash-balance-factor` and Envoy's `hash_balance_factor` have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// A node's bound as a multiple of the mean, above 1.
    pub factor: f64,
    /// Below so many requests under way no node is passed by: a mean of few says nothing.
    pub min_in_flight: u32,
}

/// How much may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// At a node.
    pub node: Option<NonZeroU32>,
    /// At all nodes of the cluster.
    pub cluster: Option<NonZeroU32>,
    /// Requests that may wait for a place, of a shard or, for the cluster's cap, of the cluster.
    pub queue: u32,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// Whether a node's cap is found by trying, up to `node`.
    pub adaptive: bool,
}

impl Caps {
    /// Whether anything is capped.
    pub fn caps_anything(&self) -> bool {
        self.node.is_some() || self.cluster.is_some() || self.adaptive
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            node: None,
            cluster: None,
            queue: 0,
            queue_timeout: Duration::from_millis(100),
            adaptive: false,
        }
    }
}
