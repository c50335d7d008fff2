//! Reads the two files and makes a configuration of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::assemble::{self, Assembled, Surroundings};
use super::document::FILE_MAX;
use super::named::{Built, Named, NamedFiles};
use super::problem::Problems;
use super::{Config, Overrides, named, topology};
use crate::topology::Topology;

/// Reads the files of one sidecar, again and again.
#[derive(Clone, Debug)]
pub struct Loader {
    keyway: PathBuf,
    /// As the first load found it: a restart key.
    topology: PathBuf,
    surroundings: Surroundings,
    /// The files that keyway.yaml named when it was last loaded.
    named: BTreeSet<PathBuf>,
    /// What the running configuration was made of.
    built: Built,
}

/// What both files, and those that they name, were at one moment, or why they could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    keyway: Result<String, String>,
    topology: Result<String, String>,
    named: NamedFiles,
}

/// Why files make no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// They are wrong: a line for each problem.
    #[error("{}", .0.join("\n"))]
    Problems(Vec<String>),
    /// A route names a cluster that the topology does not have, perhaps not yet.
    #[error("{0}")]
    Waiting(Problems),
}

/// What a keyway can start with.
#[derive(Debug)]
pub struct Opening {
    /// What reads the files again.
    pub loader: Loader,
    /// What they say.
    pub config: Config,
    /// What they were.
    pub snapshot: Snapshot,
    /// Why there is no topology in it.
    pub problem: Option<LoadError>,
}

impl Loader {
    /// Loads `keyway` and the topology that it names for the first time. The environment is taken
    /// as it is now.
    ///
    /// # Errors
    /// When either is wrong.
    pub fn open(
        keyway: PathBuf,
        overrides: Overrides,
    ) -> Result<(Self, Config, Snapshot), LoadError> {
        let opening = Self::begin(keyway, overrides)?;
        match opening.problem {
            None => Ok((opening.loader, opening.config, opening.snapshot)),
            Some(problem) => Err(problem),
        }
    }

    /// The same, but that a topology may be missing or wrong.
    ///
    /// # Errors
    /// When keyway.yaml is wrong.
    pub fn begin(keyway: PathBuf, overrides: Overrides) -> Result<Opening, LoadError> {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let env: BTreeMap<_, _> = std::env::vars().collect();
        let surroundings = Surroundings {
            overrides,
            env,
            cores,
        };
        let topology = keyway.with_file_name("topology.yaml");
        let mut loader = Self {
            keyway,
            topology,
            surroundings,
            named: BTreeSet::new(),
            built: Built::default(),
        };
        let text = read(&loader.keyway).map_err(|it| LoadError::Problems(vec![it]))?;
        let assembled = loader.assemble(&text, &mut loader.named(NamedFiles::new()))?;
        loader
            .topology
            .clone_from(&assembled.config.process.topology);
        let mut snapshot = loader.read();
        let (config, problem) = match loader.load(&mut snapshot) {
            Ok(config) => (config, None),
            Err(problem) => (assembled.without_topology(), Some(problem)),
        };
        Ok(Opening {
            loader,
            config,
            snapshot,
            problem,
        })
    }

    /// The files that are followed.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = [self.keyway.as_path(), self.topology.as_path()];
        files
            .into_iter()
            .chain(self.named.iter().map(PathBuf::as_path))
    }

    /// What the files are now.
    pub fn read(&self) -> Snapshot {
        Snapshot {
            keyway: read(&self.keyway),
            topology: read(&self.topology),
            named: self
                .named
                .iter()
                .map(|path| (path.clone(), read_bytes(path, named::FILE_MAX)))
                .collect(),
        }
    }

    /// The configuration that `snapshot` is; files that keyway.yaml names now and did not before
    /// are added to it.
    ///
    /// # Errors
    /// Everything that is wrong with either file, or with those that it names.
    pub fn load(&mut self, snapshot: &mut Snapshot) -> Result<Config, LoadError> {
        let mut named = self.named(snapshot.named.clone());
        let loaded = self.load_with(snapshot, &mut named);
        let Named { used, built, .. } = named;
        if loaded.is_ok() {
            snapshot.named = used;
            self.built = built;
        } else {
            // A file that could not be used is followed too: its next change may be the cure.
            snapshot.named.extend(used);
        }
        self.named = snapshot.named.keys().cloned().collect();
        loaded
    }

    fn named(&self, read: NamedFiles) -> Named {
        Named::new(&self.keyway, read, self.built.clone())
    }

    fn load_with(&self, snapshot: &Snapshot, named: &mut Named) -> Result<Config, LoadError> {
        let unreadable = |it: &String| LoadError::Problems(vec![it.clone()]);
        let keyway = snapshot.keyway.as_ref().map_err(unreadable);
        let keyway = keyway.and_then(|text| self.assemble(text, named));
        let topology = snapshot.topology.as_ref().map_err(unreadable);
        let topology = topology.and_then(|text| {
            topology::parse(&self.topology.display().to_string(), text).map_err(LoadError::from)
        });
        match (keyway, topology) {
            (Ok(keyway), Ok((topology, shown))) => keyway
                .with_topology(topology, &shown)
                .map_err(LoadError::Waiting),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(one), Err(other)) => {
                let lines = [one, other].map(|it| it.to_string());
                Err(LoadError::Problems(
                    lines
                        .iter()
                        .flat_map(|it| it.lines())
                        .map(str::to_owned)
                        .collect(),
                ))
            }
        }
    }

    fn assemble(&self, text: &str, named: &mut Named) -> Result<Assembled, LoadError> {
        let surroundings = &self.surroundings;
        Ok(assemble::keyway(&self.keyway, text, surroundings, named)?)
    }
}

impl Snapshot {
    /// Whether both files differ from those of `other`.
    pub fn both_differ(&self, other: &Self) -> bool {
        self.keyway != other.keyway && self.topology != other.topology
    }
}

impl From<Problems> for LoadError {
    fn from(problems: Problems) -> Self {
        Self::Problems(problems.0.iter().map(ToString::to_string).collect())
    }
}

/// Reads and parses a topology file by itself.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_topology(path: &Path) -> Result<Topology, LoadError> {
    let text = read(path).map_err(|it| LoadError::Problems(vec![it]))?;
    let parsed = topology::parse(&path.display().to_string(), &text)?;
    Ok(parsed.0)
}

/// Whether the file at `path` is a topology rather than a keyway.yaml: only that has a version.
pub fn is_topology(path: &Path) -> bool {
    let text = read(path).unwrap_or_default();
    text.lines()
        .any(|line| line.starts_with("version:") || line.starts_with("epoch:"))
}

/// The text of a file that is not too large; what keeps it from being read, in one line.
fn read(path: &Path) -> Result<String, String> {
    let found = |what: &dyn std::fmt::Display| {
        format!(
            "{}: expected a readable YAML file, found {what}",
            path.display()
        )
    };
    let bytes = read_bytes(path, FILE_MAX).map_err(|it| found(&it))?;
    String::from_utf8(bytes).map_err(|error| found(&error))
}

/// The content of a file of at most `max` bytes; what keeps it from being read, in one line.
pub(super) fn read_bytes(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|it| it.to_string())?;
    // A pipe could keep the reader waiting for ever.
    if !file.metadata().is_ok_and(|it| it.is_file()) {
        return Err("no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let limit = max as u64 + 1;
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map_err(|it| it.to_string())?;
    if bytes.len() > max {
        return Err(format!("more than {} MiB", max >> 20));
    }
    Ok(bytes)
}
