//! TLS as both sides of the proxy speak it: from the bytes of certificates and keys to what rustls
//! takes, and what there is to say of them.
//!
//! Nothing here reads a file or a socket. What was built of the same bytes is the same value, so
//! that a reload which leaves them alone leaves sessions and their resumption alone too.

use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::{SupportedProtocolVersion, version};
use schemars::JsonSchema;
use serde::Deserialize;

mod certificate;
mod client;
mod server;

pub use client::{ClientMaterial, ClientTls, Offer};
pub use server::{ClientAuth, ServerMaterial, ServerTls};

/// The bytes of a certificate chain and its private key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The file of the chain, as it is written in the configuration.
    pub file: String,
    /// The chain, the end's own certificate first.
    pub cert: Pem,
    /// The key.
    pub key: Pem,
}

/// The content of a PEM file, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem(pub Vec<u8>);

/// A certificate that keyway shows, and until when it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Its file, as it is written in the configuration.
    pub file: String,
    /// The end of its validity.
    pub not_after: SystemTime,
}

/// Why bytes make no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file has nothing of what is wanted.
    #[error("no {0}")]
    Missing(Wanted),
    /// A file is no PEM.
    #[error("no {0} ({1})")]
    Pem(Wanted, rustls::pki_types::pem::Error),
    /// A certificate cannot be read.
    #[error("a certificate that cannot be read ({0})")]
    Certificate(String),
    /// The parts do not make one: a key that belongs to another certificate, an unknown kind.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// No certificate of the authorities can be used.
    #[error("no usable authority ({0})")]
    Authorities(String),
    /// What is wrong with one of several pairs.
    #[error("{0}: {1}")]
    Pair(String, #[source] Box<Self>),
}

/// What a PEM file should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Certificates.
    Certificates,
    /// A private key.
    Key,
}

/// The oldest version of TLS that clients may speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    Tls13,
}

impl MinVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static NEWEST: [&SupportedProtocolVersion; 1] = [&version::TLS13];
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => &NEWEST,
        }
    }
}

/// The protocols by their ALPN names (RFC 7301), the preferred one first.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Ring: it builds with a C compiler alone, where AWS-LC wants more.
fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pem({} bytes)", self.0.len())
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificates => "certificates as PEM",
            Self::Key => "private key as PEM",
        })
    }
}

#[cfg(test)]
mod tests;
