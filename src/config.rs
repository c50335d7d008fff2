//! The two files: read, expanded, parsed into types that need no further checks.
//!
//! A file becomes a tree that knows its lines ([`document`]), the tree becomes the file's types
//! with every problem collected ([`decode`]), those become the domain's types, and both files
//! together a [`Config`]. A file is right as a whole or changes nothing. What follows the files
//! while keyway runs is the [`Watcher`].

use std::num::NonZeroUsize;
use std::path::PathBuf;

use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

use crate::cluster::desired::Desired;
use crate::forwarded::Forwarded;
use crate::sources::Sources;
use crate::topology::Address;

mod access_log;
mod assemble;
mod cluster;
mod decode;
mod document;
mod keyway;
mod limits;
mod load;
mod log;
mod metrics;
mod named;
mod or_off;
mod place;
mod problem;
mod resolver;
mod scalar;
mod tls;
mod topology;
mod traces;
mod watch;

pub use assemble::{Overrides, parse_listen_address};
pub use load::{LoadError, Loader, Opening, Snapshot, is_topology, read_topology};
pub use problem::{Problem, Problems};
pub use scalar::parse_duration;
pub use watch::{ReloadError, ReloadRequest, Watcher};

/// What both files say, split by what a reload covers.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is fixed at start.
    pub process: Process,
    /// What a reload changes.
    pub desired: Desired,
}

/// What is fixed at start: a change is reported and needs a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The listeners, at least one, names unique.
    pub listeners: Vec<Listener>,
    /// Where the admin server listens.
    pub admin: Address,
    /// The number of data threads.
    pub threads: NonZeroUsize,
    /// The topology file's path, relative paths resolved against keyway.yaml's folder.
    pub topology: PathBuf,
    /// What it does as long as there is no topology.
    pub start: Start,
    /// Where a new process asks for the listening sockets.
    pub upgrade: Option<PathBuf>,
}

/// What a keyway does that finds no valid topology when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It waits for one: it is not ready and accepts nothing; who connects waits.
    #[default]
    Wait,
    /// It serves, and has no node.
    Serve,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, unique.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Whether clients may switch to WebSocket, or to another protocol, there.
    pub websocket: bool,
    /// Whether clients speak TLS; how is what a reload changes.
    pub tls: bool,
    /// Who must say by the PROXY protocol whose a connection is.
    pub proxies: Sources,
    /// What becomes of what requests say of where they come from.
    pub forwarded: Forwarded,
}

/// The JSON Schema of keyway.yaml.
pub fn keyway_schema() -> serde_json::Value {
    schema_for!(keyway::KeywayFile).to_value()
}

/// The JSON Schema of topology.yaml.
pub fn topology_schema() -> serde_json::Value {
    schema_for!(topology::TopologyFile).to_value()
}

#[cfg(test)]
mod tests;
