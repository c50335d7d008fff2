//! Connections to nodes: where a node is, the connections kept to it, and how an exchange failed.
//!
//! A pool belongs to one data thread and is never locked; only the counts that bound a node's
//! connections over all threads are shared, as atomics of its [`Endpoint`]. What a failure means
//! for the request is not decided here.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

mod connect;
mod endpoint;
mod http2;
mod pool;
mod probe;
mod race;

pub use connect::ConnectError;
pub use endpoint::{ConnectionCounters, Endpoint, Resolved};
pub use http2::{Http2Stream, Place, Unopened};
pub use pool::{Http1Connection, Http1Lease, Http2Lease, Lease, Look, Pool, Settings, Speak};
pub use probe::{Probe, ProbeError};

/// The protocol spoken to a cluster's nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/2 for gRPC; for the rest what the node chooses under TLS (ALPN), in clear HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in clear with prior knowledge.
    H2,
}

/// The bounds of a node's connections, over all data threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolParams {
    /// Connections in all.
    pub max_connections: u32,
    /// Idle connections kept for more than a second; with none, no connection is used again.
    pub max_idle: u32,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

impl Default for PoolParams {
    fn default() -> Self {
        let idle_timeout = Duration::from_secs(30);
        Self {
            max_connections: 256,
            max_idle: 32,
            idle_timeout,
        }
    }
}
