//! Pure: from the text of keyway.yaml, or from flags, to a configuration.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::keyway::{KeywayFile, Threads};
use super::named::Named;
use super::problem::{Problem, Problems};
use super::{Config, Listener, Process, topology};
use crate::topology::{Address, AddressError, Topology};

/// What the command line says in place of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Where the admin server listens.
    pub admin: Option<Address>,
    /// This sidecar's zone.
    pub zone: Option<String>,
}

/// What else goes into a configuration.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) overrides: Overrides,
    /// The environment, for `${NAME}`.
    pub(super) env: BTreeMap<String, String>,
    /// The machine's cores, for `threads: auto`.
    pub(super) cores: usize,
}

/// A keyway.yaml that waits for its topology.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) config: Config,
    /// Where each route's cluster is named, with what to say when there is none.
    clusters: Vec<(String, Problem)>,
    /// The file as JSON text.
    shown: String,
}

/// The most data threads that `auto` makes: a sidecar that takes more cores has become the
/// application.
const AUTO_THREADS_MAX: usize = 4;

/// What `text`, the content of the file at `path`, says.
pub(super) fn keyway(
    path: &Path,
    text: &str,
    surroundings: &Surroundings,
    named: &mut Named,
) -> Result<Assembled, Problems> {
    let file = path.display().to_string();
    let mut document = Document::parse(&file, text).map_err(|it| Problems(vec![it]))?;
    let shown = document.to_json();
    let mut problems = Vec::new();
    document.expand(&surroundings.env, &mut problems);
    let decoded = document.decode::<KeywayFile>(&mut problems);
    let assembled = decoded.map(|it| assemble(path, &file, it, surroundings, named, &mut problems));
    match assembled {
        Some(assembled) if problems.is_empty() => Ok(Assembled { shown, ..assembled }),
        _ => {
            problems.sort_by_key(|it| (it.line, it.column));
            Err(Problems(problems))
        }
    }
}

fn assemble(
    path: &Path,
    file: &str,
    read: KeywayFile,
    surroundings: &Surroundings,
    named: &mut Named,
    problems: &mut Vec<Problem>,
) -> Assembled {
    let Surroundings {
        overrides, cores, ..
    } = surroundings;
    let listeners = read.listeners.iter().map(|it| Listener {
        name: it.name.0.clone(),
        address: it.address.0.clone(),
        websocket: it.websocket.unwrap_or(true),
        tls: it.tls.is_some(),
        proxies: it.proxy_protocol.from.iter().map(|it| it.0).collect(),
        forwarded: it.forwarded.to_forwarded(),
    });
    let auto = NonZeroUsize::new((*cores).min(AUTO_THREADS_MAX)).unwrap_or(NonZeroUsize::MIN);
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let process = Process {
        listeners: listeners.collect(),
        admin: overrides
            .admin
            .clone()
            .unwrap_or_else(|| read.admin_address()),
        threads: match read.threads {
            None | Some(Threads::Auto) => auto,
            Some(Threads::Exactly(threads)) => threads,
        },
        topology: folder.join(read.topology.as_deref().unwrap_or("topology.yaml")),
        start: read.start.unwrap_or_default(),
        upgrade: read
            .upgrade
            .as_ref()
            .and_then(|it| Some(it.0.as_ref()?.0.clone())),
    };
    let clusters = read
        .routes
        .iter()
        .map(|it| it.cluster_or_problem(file))
        .collect();
    let desired = read.into_desired(file, overrides.zone.clone(), named, problems);
    Assembled {
        config: Config { process, desired },
        clusters,
        shown: String::new(),
    }
}

impl Assembled {
    /// The configuration as long as there is no topology.
    pub(super) fn without_topology(self) -> Config {
        let Config { process, desired } = self.config;
        let mut desired = desired.without_topology();
        desired.shown = format!(r#"{{"keyway":{},"topology":null}}"#, self.shown);
        Config { process, desired }
    }

    /// The whole configuration.
    ///
    /// # Errors
    /// When a route's cluster is not in the topology.
    pub(super) fn with_topology(self, topology: Topology, shown: &str) -> Result<Config, Problems> {
        let unknown = self
            .clusters
            .into_iter()
            .filter(|it| !topology.clusters.contains_key(&it.0));
        let problems: Vec<_> = unknown.map(|it| it.1).collect();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let mut config = self.config;
        config.desired.topology = topology;
        config.desired.shown = format!(r#"{{"keyway":{},"topology":{shown}}}"#, self.shown);
        Ok(config)
    }
}

impl Config {
    /// The configuration of a keyway without files: one route to one cluster of `nodes`, each a
    /// shard of its own as `ID=ADDRESS`, keyed by the first of `keys` that yields.
    ///
    /// It is written as files and read like them, so flags mean what the same keys mean.
    ///
    /// # Errors
    /// Everything that is wrong with the flags.
    pub fn from_flags(
        listen: &[String],
        keys: &[String],
        nodes: &[String],
        overrides: &Overrides,
        cores: usize,
    ) -> Result<Self, Problems> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = String::from("listeners:\n");
        for (at, address) in listen.iter().enumerate() {
            let name = if at == 0 {
                "app".to_owned()
            } else {
                format!("app-{}", at + 1)
            };
            // Writing to a String cannot fail.
            let _infallible =
                writeln!(text, "  - {{ name: {name}, address: {} }}", quoted(address));
        }
        let keys: Vec<_> = keys.iter().map(|it| quoted(it)).collect();
        let _infallible = write!(
            text,
            "routes:\n  - {{ name: all, match: {{}}, key: [{}], cluster: nodes }}\n",
            keys.join(", ")
        );
        let mut shards = String::from("version: 1\nclusters:\n  nodes:\n    nodes:\n");
        for node in nodes {
            let (id, address) = node.split_once('=').unwrap_or((node, ""));
            let (id, address) = (quoted(id), quoted(address));
            let _infallible = writeln!(shards, "      - {{ id: {id}, address: {address} }}");
        }
        let overrides = overrides.clone();
        let surroundings = Surroundings {
            overrides,
            env: BTreeMap::new(),
            cores,
        };
        let (topology, shown) = topology::parse("--node", &shards)?;
        let flags = PathBuf::from("--listen and --key");
        keyway(&flags, &text, &surroundings, &mut Named::default())?.with_topology(topology, &shown)
    }
}

/// An address given on the command line.
///
/// # Errors
/// When `text` is none.
pub fn parse_listen_address(text: &str) -> Result<Address, AddressError> {
    Address::parse_listener(text)
}
