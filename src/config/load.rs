//! Reads the two files and makes a configuration of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::assemble::{self, Assembled, Surroundings};
use super::document::FILE_MAX;
use super::problem::Problems;
use super::{Config, Overrides, topology};
use crate::topology::Topology;

/// Reads the files of one sidecar, again and again.
#[derive(Clone, Debug)]
pub struct Loader {
    keyway: PathBuf,
    /// As the first load found it: a restart key.
    topology: PathBuf,
    surroundings: Surroundings,
}

/// What both files were at one moment, or why they could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    keyway: Result<String, String>,
    topology: Result<String, String>,
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

impl Loader {
    /// Loads `keyway` and the topology that it names for the first time. The environment is taken
    /// as it is now.
    ///
    /// # Errors
    /// When there is no configuration to start with.
    pub fn open(
        keyway: PathBuf,
        overrides: Overrides,
    ) -> Result<(Self, Config, Snapshot), LoadError> {
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
        };
        let text = read(&loader.keyway).map_err(|it| LoadError::Problems(vec![it]))?;
        loader.topology = loader.assemble(&text)?.config.process.topology;
        let snapshot = loader.read();
        let config = loader.load(&snapshot)?;
        Ok((loader, config, snapshot))
    }

    /// The files that are followed.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [self.keyway.as_path(), self.topology.as_path()].into_iter()
    }

    /// What the files are now.
    pub fn read(&self) -> Snapshot {
        Snapshot {
            keyway: read(&self.keyway),
            topology: read(&self.topology),
        }
    }

    /// The configuration that `snapshot` is.
    ///
    /// # Errors
    /// Everything that is wrong with either file.
    pub fn load(&self, snapshot: &Snapshot) -> Result<Config, LoadError> {
        let unreadable = |it: &String| LoadError::Problems(vec![it.clone()]);
        let keyway = snapshot.keyway.as_ref().map_err(unreadable);
        let keyway = keyway.and_then(|text| self.assemble(text));
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

    fn assemble(&self, text: &str) -> Result<Assembled, LoadError> {
        Ok(assemble::keyway(&self.keyway, text, &self.surroundings)?)
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
    let mut bytes = Vec::new();
    let limit = FILE_MAX as u64 + 1;
    File::open(path)
        .and_then(|file| {
            // A pipe could keep the reader waiting for ever.
            let regular = file.metadata()?.is_file();
            let kind = io::ErrorKind::InvalidInput;
            regular
                .then_some(file)
                .ok_or_else(|| io::Error::new(kind, "no regular file"))
        })
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| found(&error))?;
    if bytes.len() > FILE_MAX {
        return Err(found(&format!("more than {} MiB", FILE_MAX >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| found(&error))
}
