//! The two files: read, expanded, parsed into types that need no further checks.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::cluster::desired::Desired;
use crate::topology::Address;

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
    /// Where the admin server listens; `None` when it is switched off.
    pub admin: Option<Address>,
    /// The number of data threads.
    pub threads: NonZeroUsize,
    /// The topology file's path, relative paths resolved against keyway.yaml's folder.
    pub topology: PathBuf,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name, unique.
    pub name: String,
    /// Where it listens.
    pub address: Address,
}
