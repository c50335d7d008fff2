//! Pure: the state that the files ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::retry::Policy;
use crate::routing::{Prefer, Route, WhenShardDown};
use crate::topology::Topology;
use crate::units::Ratio;
use crate::upstream::{PoolParams, Protocol};

/// Everything that a reload may change, as both files give it.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The routes; the first that matches wins.
    pub routes: Vec<Route>,
    /// How to talk to each cluster, by name.
    pub clusters: BTreeMap<String, ClusterParams>,
    /// Where the shards are.
    pub topology: Topology,
    /// This sidecar's zone, empty when unknown.
    pub zone: String,
    /// How long an unready keyway still accepts after SIGTERM.
    pub pre_drain: Duration,
    /// How long what is in flight may finish after that.
    pub drain_timeout: Duration,
    /// What is logged of each request.
    pub access_log: AccessLog,
    /// Both files as an operator may see them: `${NAME}`s stay names, for what they stand for may
    /// be secret.
    pub shown: serde_json::Value,
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            clusters: BTreeMap::new(),
            topology: Topology::default(),
            zone: String::new(),
            pre_drain: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
            access_log: AccessLog::default(),
            shown: serde_json::Value::Null,
        }
    }
}

/// How to talk to a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterParams {
    /// The protocol spoken to its nodes.
    pub protocol: Protocol,
    /// What its nodes see as Host.
    pub authority: Authority,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// From the request sent to the response's head, one attempt.
    pub attempt_timeout: Duration,
    /// What is tried again.
    pub retry: Policy,
    /// The bounds of a node's connections.
    pub pool: PoolParams,
    /// The order in which a shard's nodes are tried.
    pub prefer: Prefer,
    /// What happens when a shard has no node left.
    pub when_shard_down: WhenShardDown,
    /// The largest share of the key space that one reload may move.
    pub max_moved: Ratio,
    /// What is told to nodes and clients about the routing.
    pub annotate: Annotate,
}

impl Default for ClusterParams {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            authority: Authority::default(),
            connect_timeout: Duration::from_millis(250),
            attempt_timeout: Duration::from_secs(2),
            retry: Policy::default(),
            pool: PoolParams::default(),
            prefer: Prefer::default(),
            when_shard_down: WhenShardDown::default(),
            max_moved: Ratio::ALL,
            annotate: Annotate::default(),
        }
    }
}

/// What nodes see as Host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// What the client sent.
    #[default]
    Preserve,
    /// The node's address.
    Node,
    /// This name.
    Name(String),
}

/// What is told to nodes and to clients about the routing, as `x-keyway-*` headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotate {
    /// What nodes are told.
    pub request: Vec<Annotation>,
    /// What clients are told.
    pub response: Vec<Annotation>,
}

/// One fact about a request's routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Annotation {
    /// The shard's name.
    Shard,
    /// The node's id.
    Node,
    /// The topology's epoch.
    Epoch,
    /// The number of the attempt, from 1.
    Attempts,
}

/// What is logged of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLog {
    /// Nothing.
    #[default]
    Off,
    /// One readable line.
    Text,
    /// One JSON object.
    Json,
}
