//! Pure: the state that the files ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::health::EjectParams;
use crate::health::probe::ProbeParams;
use crate::limits::Limits;
use crate::proxy_protocol::Version;
use crate::retry::Policy;
use crate::routing::{Prefer, Route, WhenShardDown};
use crate::telemetry::LogParams;
use crate::tls::{ClientTls, ServerTls};
use crate::topology::{ClusterTopology, Topology};
use crate::units::Ratio;
use crate::upstream::{PoolParams, Protocol};

mod access_log;
mod detail;
mod hedge;
mod hold;
mod load;
mod traces;

pub use access_log::{AccessLog, Field, LineFormat, Only, Piece, Sample, Template, TemplateError};
pub use detail::Detail;
pub use hedge::HedgeAfter;
pub use hold::Hold;
pub use load::{Balance, Caps};
pub use traces::Traces;

/// Everything that a reload may change, as both files give it.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The routes; the first that matches wins.
    pub routes: Vec<Route>,
    /// How to talk to each cluster, by name.
    pub clusters: BTreeMap<String, ClusterParams>,
    /// TLS towards the clients of each listener that has any, by name.
    pub listener_tls: BTreeMap<String, Arc<ServerTls>>,
    /// Where the shards are.
    pub topology: Topology,
    /// This sidecar's zone, empty when unknown.
    pub zone: String,
    /// How long an unready keyway still accepts after SIGTERM.
    pub pre_drain: Duration,
    /// How long what is in flight may finish after that.
    pub drain_timeout: Duration,
    /// How long no client may be connected, once one was, until it drains by itself.
    pub exit_when_idle: Option<Duration>,
    /// What the process says of itself.
    pub log: LogParams,
    /// What is logged of each request.
    pub access_log: AccessLog,
    /// Which requests are traced, and who is told.
    pub traces: Traces,
    /// How finely Prometheus is told.
    pub metrics: Detail,
    /// What clients may ask of this process.
    pub limits: Limits,
    /// Who is asked what names stand for; whom the system says when empty.
    pub nameservers: Vec<SocketAddr>,
    /// Both files as an operator may see them, as JSON text: `${NAME}`s stay names, for what they
    /// stand for may be secret.
    pub shown: String,
}

impl Desired {
    /// The same as long as there is no topology: the clusters that routes name are there, and have
    /// no node.
    #[must_use]
    pub fn without_topology(mut self) -> Self {
        let names = self.routes.iter().map(|it| it.cluster.clone());
        self.topology = Topology {
            clusters: names.map(|it| (it, ClusterTopology::unknown())).collect(),
            ..Topology::default()
        };
        self
    }
}

impl Default for Desired {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            clusters: BTreeMap::new(),
            listener_tls: BTreeMap::new(),
            topology: Topology::default(),
            zone: String::new(),
            pre_drain: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
            exit_when_idle: None,
            log: LogParams::default(),
            access_log: AccessLog::default(),
            traces: Traces::default(),
            metrics: Detail::default(),
            limits: Limits::default(),
            nameservers: Vec::new(),
            shown: "null".to_owned(),
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
    /// Whether requests wait for a node, when their shard has none that is well.
    pub hold: Option<Hold>,
    /// When a second node is asked beside the first.
    pub hedge: Option<HedgeAfter>,
    /// The field by which clients say how long they wait, beside gRPC's own.
    pub deadline_header: Option<HeaderName>,
    /// What is tried again.
    pub retry: Policy,
    /// When a node is put out of rotation.
    pub eject: EjectParams,
    /// How its nodes are probed.
    pub probe: ProbeParams,
    /// How long a node that is new, or back, takes to get all of its keys.
    pub slow_start: Duration,
    /// How far above the mean a node's load may be.
    pub balance: Option<Balance>,
    /// How much may be under way.
    pub caps: Caps,
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
    /// TLS towards its nodes.
    pub tls: Option<Arc<ClientTls>>,
    /// What of a request's path its nodes see.
    pub path: PathForm,
    /// By which version of the PROXY protocol nodes are told whose a connection is.
    pub proxy_protocol: Option<Version>,
}

impl Default for ClusterParams {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            authority: Authority::default(),
            connect_timeout: Duration::from_millis(250),
            attempt_timeout: Duration::from_secs(2),
            hold: None,
            hedge: None,
            deadline_header: None,
            retry: Policy::default(),
            eject: EjectParams::default(),
            probe: ProbeParams::default(),
            slow_start: Duration::ZERO,
            balance: None,
            caps: Caps::default(),
            pool: PoolParams::default(),
            prefer: Prefer::default(),
            when_shard_down: WhenShardDown::default(),
            max_moved: Ratio::ALL,
            annotate: Annotate::default(),
            tls: None,
            path: PathForm::AsIs,
            proxy_protocol: None,
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

/// What of a request's path nodes see, and is routed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathForm {
    /// The bytes as they came.
    #[default]
    AsIs,
    /// Their normal form.
    Normalize,
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
