//! Pure: the `clusters` section of keyway.yaml.

use schemars::JsonSchema;
use serde::Deserialize;

use super::named::Named;
use super::or_off::OrOff;
use super::place::At;
use super::problem::Problem;
use super::scalar::{FieldName, Name, Percent, Span, Timeout};
use super::tls::{ClientTlsFile, Reading};
use crate::cluster::desired::{Annotate, Annotation, Authority, ClusterParams, PathForm};
use crate::proxy_protocol::Version;
use crate::routing::{Prefer, WhenShardDown};
use crate::upstream::{PoolParams, Protocol};

mod health;
mod load;
mod probe;
mod retry;

use health::EjectFile;
use load::{BalanceFile, CapsFile, HedgeFile, HoldFile};
use probe::ProbeFile;
use retry::RetryFile;

/// How to talk to a cluster.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cluster")]
pub(super) struct ClusterFile {
    /// The protocol spoken to the nodes; auto: HTTP/2 for gRPC, else HTTP/1.1. Default: auto.
    protocol: Option<Protocol>,
    /// What nodes see as Host: preserve, node or a name. Default: preserve.
    authority: Option<Name>,
    /// How long a connection may take to be made. Default: 250ms.
    connect_timeout: Option<Timeout>,
    /// From the request sent to the response's head, one attempt. Default: 2s.
    attempt_timeout: Option<Timeout>,
    /// Whether requests wait for a node, when their shard has none that is well.
    hold: Option<HoldFile>,
    /// When a second node is asked beside the first, for safe requests without a body.
    hedge: Option<HedgeFile>,
    /// The field by which clients say how long they wait, in milliseconds or as a duration, or off;
    /// gRPC's is read anyway. What is left is told to nodes. Default: off.
    deadline_header: Option<OrOff<FieldName>>,
    /// What is tried again.
    retry: Option<RetryFile>,
    /// When a node is put out of rotation for what requests meet at it.
    eject: Option<EjectFile>,
    /// How nodes are probed, where requests do not tell how they are.
    probe: Option<ProbeFile>,
    /// How long a node that is new, or back, takes to get all of its keys. Default: 0s.
    slow_start: Option<Span>,
    /// How far above the mean a node's load may be before its keys go on to the next.
    balance: Option<BalanceFile>,
    /// How much may be under way.
    caps: Option<CapsFile>,
    /// The bounds of a node's connections, over all threads.
    pool: Option<PoolFile>,
    /// The order of a shard's nodes: key (each key has its own first node), order (as written), zone
    /// (those of keyway's zone first), or `least_loaded` (the better of two at random). Default: key.
    prefer: Option<Prefer>,
    /// What happens when no node of the owning shard serves: fail, or `next_shard` for caches.
    /// Default: fail.
    when_shard_down: Option<WhenShardDown>,
    /// A reload that moves more of the key space is refused. Default: 100%.
    max_moved: Option<Percent>,
    /// What is told to nodes and clients, as x-keyway-* headers. Default: nothing.
    annotate: Option<AnnotateFile>,
    /// TLS towards nodes. Default: none.
    tls: Option<At<ClientTlsFile>>,
    /// What of a request's path nodes see, and is routed by: `as_is`, or normalize (dot and empty
    /// segments, needless percent-encoding). Default: `as_is`.
    path: Option<PathForm>,
    /// By which version of the PROXY protocol nodes are told whose a connection is: v1, v2 or off.
    /// Default: off.
    proxy_protocol: Option<Introduction>,
}

/// By which version of the PROXY protocol a connection is introduced.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Introduction {
    /// By none.
    Off,
    /// By version 1, a line of text.
    V1,
    /// By version 2, binary.
    V2,
}

/// The bounds of a node's connections, over all threads.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Pool")]
struct PoolFile {
    /// Connections in all, at least 1. Default: 256.
    max_connections: Option<At<u32>>,
    /// Idle connections kept for more than a second; 0: none is used again. Default: 32.
    max_idle: Option<u32>,
    /// How long an idle connection is kept. Default: 30s.
    idle_timeout: Option<Timeout>,
}

/// Lists of shard, node, epoch, attempts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Annotate")]
struct AnnotateFile {
    /// What nodes are told. Default: [].
    #[serde(default)]
    request: Vec<Annotation>,
    /// What clients are told. Default: [].
    #[serde(default)]
    response: Vec<Annotation>,
}

impl ClusterFile {
    /// The settings, the contract's defaults where the file is silent.
    pub(super) fn into_params(
        self,
        file: &str,
        named: &mut Named,
        problems: &mut Vec<Problem>,
    ) -> ClusterParams {
        let default = ClusterParams::default();
        let mut reading = Reading {
            file,
            named,
            problems,
        };
        let tls = self.tls.as_ref();
        let tls = tls.and_then(|it| ClientTlsFile::into_tls(it, &mut reading));
        ClusterParams {
            protocol: self.protocol.unwrap_or(default.protocol),
            authority: self
                .authority
                .map_or(default.authority, |Name(name)| match name.as_str() {
                    "preserve" => Authority::Preserve,
                    "node" => Authority::Node,
                    _ => Authority::Name(name),
                }),
            connect_timeout: self
                .connect_timeout
                .map_or(default.connect_timeout, |it| it.0),
            attempt_timeout: self
                .attempt_timeout
                .map_or(default.attempt_timeout, |it| it.0),
            hold: self.hold.unwrap_or_default().into_params(),
            hedge: self.hedge.unwrap_or_default().into_params(),
            deadline_header: self.deadline_header.and_then(|it| it.0).map(|it| it.0),
            retry: self.retry.unwrap_or_default().into_policy(file, problems),
            eject: self.eject.unwrap_or_default().into_params(file, problems),
            probe: self.probe.unwrap_or_default().into_params(file, problems),
            slow_start: self.slow_start.map_or(default.slow_start, |it| it.0),
            balance: self.balance.unwrap_or_default().into_params(file, problems),
            caps: self.caps.unwrap_or_default().into_params(),
            pool: self.pool.unwrap_or_default().into_params(file, problems),
            prefer: self.prefer.unwrap_or(default.prefer),
            when_shard_down: self.when_shard_down.unwrap_or(default.when_shard_down),
            max_moved: self.max_moved.map_or(default.max_moved, |it| it.0),
            annotate: self.annotate.map_or(default.annotate, |it| Annotate {
                request: it.request,
                response: it.response,
            }),
            tls,
            path: self.path.unwrap_or_default(),
            proxy_protocol: self.proxy_protocol.and_then(Introduction::version),
        }
    }
}

impl Introduction {
    fn version(self) -> Option<Version> {
        match self {
            Self::Off => None,
            Self::V1 => Some(Version::V1),
            Self::V2 => Some(Version::V2),
        }
    }
}

impl PoolFile {
    fn into_params(self, file: &str, problems: &mut Vec<Problem>) -> PoolParams {
        let default = PoolParams::default();
        if let Some(max) = &self.max_connections
            && max.value == 0
        {
            problems.push(max.problem(file, "at least 1 connection", "0"));
        }
        PoolParams {
            max_connections: self
                .max_connections
                .map_or(default.max_connections, |it| it.value),
            max_idle: self.max_idle.unwrap_or(default.max_idle),
            idle_timeout: self.idle_timeout.map_or(default.idle_timeout, |it| it.0),
        }
    }
}
