//! Certificates and keys as PEM files hold them (RFC 7468).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::{Expiry, Pair, Pem, TlsError, Wanted, provider};

/// A pair that fits, and what its certificate says.
#[derive(Debug)]
pub(super) struct Certified {
    pub(super) key: CertifiedKey,
    /// The DNS names that it is for, lower case; one may begin with `*.`.
    pub(super) names: Vec<String>,
    pub(super) expiry: Expiry,
}

impl Certified {
    pub(super) fn of(pair: &Pair) -> Result<Self, TlsError> {
        Self::fit(pair).map_err(|it| TlsError::Pair(pair.file.clone(), Box::new(it)))
    }

    fn fit(pair: &Pair) -> Result<Self, TlsError> {
        let chain = certificates(&pair.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&pair.key.0).map_err(|source| match source {
            pem::Error::NoItemsFound => TlsError::Missing(Wanted::Key),
            source => TlsError::Pem(Wanted::Key, source),
        })?;
        let (names, not_after) = describe(&chain[0])?;
        Ok(Self {
            key: CertifiedKey::from_der(chain, key, &provider())?,
            names,
            expiry: Expiry {
                file: pair.file.clone(),
                not_after,
            },
        })
    }
}

/// The certificates of a file, at least one.
pub(super) fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wanted = Wanted::Certificates;
    let chain = CertificateDer::pem_slice_iter(&pem.0).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err(TlsError::Missing(wanted)),
        Ok(chain) => Ok(chain),
        Err(source) => Err(TlsError::Pem(wanted, source)),
    }
}

/// The authorities of a file: all of its certificates.
pub(super) fn authorities(pem: &Pem) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The names that a certificate is for, and the end of its validity.
fn describe(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, SystemTime), TlsError> {
    let unreadable = |error: &dyn std::fmt::Display| TlsError::Certificate(error.to_string());
    let (_, certificate) = parse_x509_certificate(certificate).map_err(|it| unreadable(&it))?;
    let alternatives = certificate.subject_alternative_name();
    let alternatives = alternatives.map_err(|it| unreadable(&it))?;
    let names = alternatives.map_or_else(Vec::new, |it| {
        let names = it.value.general_names.iter();
        names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect()
    });
    let seconds = certificate.validity().not_after.timestamp();
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok((names, UNIX_EPOCH + since))
}
