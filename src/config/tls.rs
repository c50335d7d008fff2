//! The `tls` sections of keyway.yaml: of a listener, and of a cluster.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::named::Named;
use super::place::At;
use super::problem::Problem;
use crate::tls::{
    ClientAuth, ClientMaterial, ClientTls, MinVersion, Pair, Pem, ServerMaterial, ServerTls,
};

/// TLS towards clients. The files are followed: what changes in them is taken up for new
/// connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ListenerTls")]
pub(super) struct ServerTlsFile {
    /// What clients are shown: the certificate that is for the name they ask for, else the first.
    certificates: At<Vec<PairFile>>,
    /// Who vouches for clients: a PEM file of certificates, relative to this one.
    client_ca: Option<At<String>>,
    /// Whether clients show certificates: none, optional or required. Default: none.
    client_auth: Option<At<ClientAuth>>,
    /// The oldest version of TLS, "1.2" or "1.3". Default: "1.2".
    min_version: Option<MinVersion>,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Certificate")]
struct PairFile {
    /// A PEM file of the certificate and those that lead to its authority, relative to this one.
    cert: At<String>,
    /// A PEM file of its private key, relative to this one.
    key: At<String>,
}

/// TLS towards nodes. The files are followed: what changes in them is taken up for new connections.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ClusterTls")]
pub(super) struct ClientTlsFile {
    /// Who vouches for nodes: a PEM file of certificates, relative to this one. Default: the
    /// system's authorities.
    ca: Option<At<String>>,
    /// The name that every node's certificate must be for. Default: the host of its address,
    /// of a service its domain.
    name: Option<At<String>>,
    /// What nodes that ask are shown: a PEM file of a certificate, relative to this one. Default:
    /// nothing.
    cert: Option<At<String>>,
    /// A PEM file of its private key, relative to this one.
    key: Option<At<String>>,
}

/// Where to find the files, and where to say what is wrong.
pub(super) struct Reading<'a> {
    pub(super) file: &'a str,
    pub(super) named: &'a mut Named,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl ServerTlsFile {
    /// TLS as the section says, when nothing is wrong with it.
    pub(super) fn into_tls(self, reading: &mut Reading<'_>) -> Option<Arc<ServerTls>> {
        if self.certificates.is_empty() {
            reading.wrong(&self.certificates, "at least one certificate", "none");
            return None;
        }
        let auth = self
            .client_auth
            .as_ref()
            .map_or(ClientAuth::None, |it| it.value);
        if let Some(it) = &self.client_auth
            && auth != ClientAuth::None
            && self.client_ca.is_none()
        {
            reading.wrong(it, "a client_ca beside it", "none");
            return None;
        }
        let pairs = self.certificates.iter();
        let pairs: Option<Vec<_>> = pairs.map(|it| reading.pair(&it.cert, &it.key)).collect();
        let ca = self.client_ca.as_ref().map(|it| reading.pem(it));
        let clients = match ca {
            None => None,
            Some(ca) => Some((ca?, auth)),
        };
        let material = ServerMaterial {
            pairs: pairs?,
            clients,
            min_version: self.min_version.unwrap_or_default(),
        };
        let built = reading.named.server(material);
        reading.built(&self.certificates, built)
    }
}

impl ClientTlsFile {
    /// TLS as the section at `section` says, when nothing is wrong with it.
    pub(super) fn into_tls(
        section: &At<Self>,
        reading: &mut Reading<'_>,
    ) -> Option<Arc<ClientTls>> {
        let Self {
            ca,
            name,
            cert,
            key,
        } = &section.value;
        let pair = match (cert, key) {
            (Some(cert), Some(key)) => Some(reading.pair(cert, key)?),
            (None, None) => None,
            (Some(alone), None) => {
                reading.wrong(alone, "a key beside it", "none");
                return None;
            }
            (None, Some(alone)) => {
                reading.wrong(alone, "a cert beside it", "none");
                return None;
            }
        };
        let ca = match ca {
            None => None,
            Some(ca) => Some(reading.pem(ca)?),
        };
        let name = match name {
            None => None,
            Some(name) => Some(reading.name(name)?),
        };
        let built = reading.named.client(ClientMaterial { ca, name, pair });
        reading.built(section, built)
    }
}

impl Reading<'_> {
    fn wrong<T>(&mut self, at: &At<T>, expected: &str, found: impl Into<String>) {
        self.problems.push(at.problem(self.file, expected, found));
    }

    fn pair(&mut self, cert: &At<String>, key: &At<String>) -> Option<Pair> {
        let file = cert.value.clone();
        let (cert, key) = (self.pem(cert), self.pem(key));
        Some(Pair {
            file,
            cert: cert?,
            key: key?,
        })
    }

    fn pem(&mut self, path: &At<String>) -> Option<Pem> {
        let read = self.named.pem(path);
        read.map_err(|error| {
            let found = format!("{:?}: {error}", path.value);
            self.wrong(path, "a readable file", found);
        })
        .ok()
    }

    fn name(&mut self, name: &At<String>) -> Option<ServerName<'static>> {
        let parsed = ServerName::try_from(name.value.clone());
        let found = format!("{:?}", name.value);
        parsed
            .map_err(|_| self.wrong(name, "a host name or an IP address", found))
            .ok()
    }

    pub(super) fn built<T, E: std::fmt::Display>(
        &mut self,
        at: &At<impl Sized>,
        built: Result<T, E>,
    ) -> Option<T> {
        let expected = "certificates and keys that can be used";
        built
            .map_err(|found| self.wrong(at, expected, found.to_string()))
            .ok()
    }
}
