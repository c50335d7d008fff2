//! Pure: which route a request takes, and in which order its nodes are tried.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

pub use crate::head::{Captures, PathPattern};
use crate::key::KeySpec;

mod order;
mod table;

pub use order::{NODES_PER_SHARD_MAX, NodeSeed, Order};
pub use table::{RouteMatch, RouteTable};

/// One route as the configuration gives it.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route's name, unique; a metric label.
    pub name: String,
    /// Which requests take it.
    pub matcher: RouteMatch,
    /// Where the key is.
    pub key: KeySpec,
    /// What happens to a request without a key.
    pub on_missing_key: MissingKey,
    /// The cluster that serves it.
    pub cluster: String,
    /// From the first byte of the request to the response's head, over all attempts and waits.
    pub timeout: Duration,
    /// How long no byte may move in a body or a stream.
    pub idle_timeout: Duration,
    /// Whether an `Idempotency-Key` header makes a request repeatable.
    pub honour_idempotency_key: bool,
}

impl Route {
    /// Whether the route goes by the header field `name`, to be found or to find the key.
    pub fn reads_header(&self, name: &str) -> bool {
        let mut headers = self.matcher.headers.iter();
        self.key.reads_header(name) || headers.any(|(it, _)| name.eq_ignore_ascii_case(it.as_str()))
    }
}

/// What happens to a request whose key is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingKey {
    /// It is refused.
    Reject,
    /// Any node may serve it.
    Spread,
    /// It is placed as if this were its key.
    Value(String),
}

impl MissingKey {
    /// The value of the `policy` label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Spread => "spread",
            Self::Value(_) => "value",
        }
    }
}

/// The order in which the nodes of a shard are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prefer {
    /// By rendezvous of key and node id: each key has its own first node.
    #[default]
    Key,
    /// As written in the topology.
    Order,
    /// Those of keyway's own zone first, then the others, each by key.
    Zone,
    /// The less loaded of two at random, by requests under way and latency: a key has no node of its
    /// own.
    LeastLoaded,
}

/// What happens when no node of the owning shard can serve a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenShardDown {
    /// The request fails: no other shard has its data.
    #[default]
    Fail,
    /// The next shards of the placement are tried, for caches.
    NextShard,
}
