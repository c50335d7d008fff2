//! The files that keyway.yaml names: certificates, keys and authorities.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::load::read_bytes;
use crate::tls::{ClientMaterial, ClientTls, Pem, ServerMaterial, ServerTls, TlsError};

/// Larger files are none of these.
pub(super) const FILE_MAX: usize = 1 << 20;

/// What named files were at one moment, or why they could not be read.
pub(super) type NamedFiles = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

/// Gives a configuration the files that it names, and what is made of them.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Relative paths begin here.
    folder: PathBuf,
    /// Those that were read already, at the same moment as keyway.yaml.
    read: NamedFiles,
    /// Those that were asked for.
    pub(super) used: NamedFiles,
    before: Built,
    pub(super) built: Built,
}

/// What was made of named files: of the same bytes it is the same, so that what clients and nodes
/// remember of it stays good.
#[derive(Clone, Debug, Default)]
pub(super) struct Built {
    servers: Vec<Arc<ServerTls>>,
    clients: Vec<Arc<ClientTls>>,
}

impl Named {
    /// The files named in `keyway`, of which `read` were read already, and `before` was built.
    pub(super) fn new(keyway: &Path, read: NamedFiles, before: Built) -> Self {
        Self {
            folder: keyway.parent().unwrap_or_else(|| Path::new("")).to_owned(),
            read,
            used: NamedFiles::new(),
            before,
            built: Built::default(),
        }
    }

    /// Where a file is that is named so.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The content of the file at `path`; what keeps it from being read, in one line.
    pub(super) fn pem(&mut self, path: &str) -> Result<Pem, String> {
        let path = self.path(path);
        let content = match self.read.get(&path) {
            Some(content) => content.clone(),
            None => read_bytes(&path, FILE_MAX),
        };
        self.used.insert(path, content.clone());
        content.map(Pem)
    }

    /// TLS towards clients, made of `material`.
    pub(super) fn server(&mut self, material: ServerMaterial) -> Result<Arc<ServerTls>, TlsError> {
        let same = self.before.servers.iter();
        let same = same.into_iter().find(|it| *it.material() == material);
        let built = match same {
            Some(same) => Arc::clone(same),
            None => Arc::new(ServerTls::new(material)?),
        };
        self.built.servers.push(Arc::clone(&built));
        Ok(built)
    }

    /// TLS towards nodes, made of `material`.
    pub(super) fn client(&mut self, material: ClientMaterial) -> Result<Arc<ClientTls>, TlsError> {
        let same = self.before.clients.iter();
        let same = same.into_iter().find(|it| *it.material() == material);
        let built = match same {
            Some(same) => Arc::clone(same),
            None => Arc::new(ClientTls::new(material)?),
        };
        self.built.clients.push(Arc::clone(&built));
        Ok(built)
    }
}
