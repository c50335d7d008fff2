//! TLS towards nodes: whom keyway believes, and what it shows of itself.

use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::certificate::{Certified, authorities};
use super::{Expiry, HTTP1, HTTP2, MinVersion, Pair, Pem, TlsError, provider};

/// What a cluster's TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMaterial {
    /// Who vouches for nodes; `None` for the authorities of the system.
    pub ca: Option<Pem>,
    /// The name that every node's certificate must be for; `None` for the host of its address.
    pub name: Option<ServerName<'static>>,
    /// What keyway shows a node that asks.
    pub pair: Option<Pair>,
}

/// A cluster's TLS.
#[derive(Debug)]
pub struct ClientTls {
    material: ClientMaterial,
    either: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    expiry: Option<Expiry>,
}

/// The protocols that a node may choose from, by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The one that it likes.
    Either,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Sessions that are remembered for resumption, over all nodes of a cluster.
const SESSIONS: usize = 1024;

impl ClientTls {
    /// TLS as `material` says.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub fn new(material: ClientMaterial) -> Result<Self, TlsError> {
        let certified = material.pair.as_ref().map(Certified::of).transpose()?;
        let expiry = certified.as_ref().map(|it| it.expiry.clone());
        let roots = match &material.ca {
            Some(ca) => authorities(ca)?,
            None => system_authorities()?,
        };
        let provider = Arc::new(provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|it| TlsError::Authorities(it.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(MinVersion::default().versions())?
            .with_webpki_verifier(verifier);
        let mut config = match certified {
            Some(it) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(it.key))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self {
            either: offering(&[HTTP2, HTTP1]),
            http1: offering(&[HTTP1]),
            http2: offering(&[HTTP2]),
            material,
            expiry,
        })
    }

    /// What it was made of.
    pub fn material(&self) -> &ClientMaterial {
        &self.material
    }

    /// What rustls connects to nodes by, offering `offer`.
    pub fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        Arc::clone(match offer {
            Offer::Either => &self.either,
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
        })
    }

    /// The name that every node's certificate must be for, when it is not each its own.
    pub fn name(&self) -> Option<&ServerName<'static>> {
        self.material.name.as_ref()
    }

    /// Until when the certificate that keyway shows is valid.
    pub fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_ref()
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.material == other.material
    }
}

/// Whom the system believes.
fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems carry certificates that no verifier takes.
    let (_taken, _ignored) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let said = found.errors.first().map(ToString::to_string);
        let said = said.unwrap_or_else(|| "the system has none".to_owned());
        return Err(TlsError::Authorities(said));
    }
    Ok(roots)
}
