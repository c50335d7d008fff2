//! TLS towards clients: certificates by the name that they ask for, and who the clients are.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use schemars::JsonSchema;
use serde::Deserialize;

use super::certificate::{Certified, authorities};
use super::{Expiry, HTTP1, HTTP2, MinVersion, Pair, Pem, TlsError, provider};

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They may; one that does shows a good one.
    Optional,
    /// They must.
    Required,
}

/// What a listener's TLS is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerMaterial {
    /// The certificates; who asks for none of their names gets the first.
    pub pairs: Vec<Pair>,
    /// Who vouches for clients, and whether they need it; `None` when they are not asked.
    pub clients: Option<(Pem, ClientAuth)>,
    /// The oldest version of TLS.
    pub min_version: MinVersion,
}

/// A listener's TLS.
#[derive(Debug)]
pub struct ServerTls {
    material: ServerMaterial,
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
}

/// The certificates of a listener.
#[derive(Debug)]
struct Certificates {
    named: Vec<(Vec<String>, Arc<CertifiedKey>)>,
    first: Arc<CertifiedKey>,
}

impl ServerTls {
    /// TLS as `material` says.
    ///
    /// Sessions are resumed by tickets, whose keys rustls changes every six hours and which end
    /// with this value: a client that showed a certificate is asked again when an authority changed.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub fn new(material: ServerMaterial) -> Result<Self, TlsError> {
        let certified = material.pairs.iter().map(Certified::of);
        let certified = certified.collect::<Result<Vec<_>, _>>()?;
        let expiries = certified.iter().map(|it| it.expiry.clone()).collect();
        let provider = Arc::new(provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(material.min_version.versions())?;
        let builder = match &material.clients {
            None | Some((_, ClientAuth::None)) => builder.with_no_client_auth(),
            Some((ca, auth)) => {
                let roots = Arc::new(authorities(ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if *auth == ClientAuth::Optional {
                    verifier.allow_unauthenticated()
                } else {
                    verifier
                };
                let unusable = |it: rustls::server::VerifierBuilderError| {
                    TlsError::Authorities(it.to_string())
                };
                builder.with_client_cert_verifier(verifier.build().map_err(unusable)?)
            }
        };
        let certificates = Certificates::new(certified)?;
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Self {
            material,
            config: Arc::new(config),
            expiries,
        })
    }

    /// What it was made of.
    pub fn material(&self) -> &ServerMaterial {
        &self.material
    }

    /// What rustls accepts clients by.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Until when its certificates are valid.
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }
}

impl Certificates {
    fn new(certified: Vec<Certified>) -> Result<Self, TlsError> {
        let named: Vec<_> = certified
            .into_iter()
            .map(|it| (it.names, Arc::new(it.key)))
            .collect();
        let first = named
            .first()
            .ok_or(TlsError::Missing(super::Wanted::Certificates))?;
        let first = Arc::clone(&first.1);
        Ok(Self { named, first })
    }

    /// The certificate for `name`: one that names it, else one whose `*.` stands for its first
    /// label (RFC 6125 6.4.3), else the first.
    fn by_name(&self, name: &str) -> &Arc<CertifiedKey> {
        let parent = name.split_once('.').map_or("", |it| it.1);
        let is_exact = |it: &String| it == name;
        let is_wild = |it: &String| it.strip_prefix("*.") == Some(parent);
        let find = |is: &dyn Fn(&String) -> bool| self.named.iter().find(|it| it.0.iter().any(is));
        let found = find(&is_exact).or_else(|| find(&is_wild));
        found.map_or(&self.first, |it| &it.1)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = match hello.server_name() {
            Some(name) => self.by_name(&name.to_ascii_lowercase()),
            None => &self.first,
        };
        Some(Arc::clone(certificate))
    }
}
