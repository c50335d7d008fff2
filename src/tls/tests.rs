use std::time::{Duration, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

/// A self-signed certificate for `hosts`, and its key.
fn pair(hosts: &[&str]) -> Pair {
    let hosts: Vec<_> = hosts.iter().map(|it| (*it).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.not_after = date_time_ymd(2030, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Pair {
        file: "a.crt".to_owned(),
        cert: Pem(certificate.pem().into_bytes()),
        key: Pem(key.serialize_pem().into_bytes()),
    }
}

fn server(pairs: Vec<Pair>) -> Result<ServerTls, TlsError> {
    ServerTls::new(ServerMaterial {
        pairs,
        clients: None,
        min_version: MinVersion::default(),
    })
}

#[test]
fn the_end_of_a_certificate_is_known() {
    let tls = server(vec![pair(&["a.test"])]).unwrap();
    let [expiry] = tls.expiries() else {
        panic!("one certificate has one end");
    };
    // 2030-01-01T00:00:00Z.
    let end = UNIX_EPOCH + Duration::from_hours(525_960);
    assert_eq!((expiry.file.as_str(), expiry.not_after), ("a.crt", end));
}

#[test]
fn what_does_not_fit_is_named() {
    let good = pair(&["a.test"]);
    let other = pair(&["b.test"]);
    let wrong = |change: &dyn Fn(&mut Pair)| {
        let mut pair = good.clone();
        change(&mut pair);
        server(vec![pair]).unwrap_err().to_string()
    };
    let pem = |text: &str| Pem(text.as_bytes().to_vec());
    for (said, error) in [
        (
            wrong(&|it| it.key = other.key.clone()),
            "a.crt: keys may not be consistent: KeyMismatch",
        ),
        (
            wrong(&|it| it.key = it.cert.clone()),
            "a.crt: no private key as PEM",
        ),
        (
            wrong(&|it| it.cert = it.key.clone()),
            "a.crt: no certificates as PEM",
        ),
        (
            wrong(&|it| it.cert = pem("")),
            "a.crt: no certificates as PEM",
        ),
        (
            wrong(&|it| it.cert = pem("-----BEGIN CERTIFICATE-----\nAAAA\n")),
            "a.crt: no certificates as PEM (missing section end marker",
        ),
        (
            wrong(&|it| {
                it.cert = pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
            }),
            "a.crt: a certificate that cannot be read (",
        ),
    ] {
        assert!(said.starts_with(error), "{said}");
    }
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{:?}", pair(&["a.test"]));
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    assert!(!shown.contains("45, 45"), "{shown}");
}

#[test]
fn nodes_are_believed_by_the_authorities_that_are_given() {
    let ca = Some(pair(&["ca.test"]).cert);
    let material = |ca, pair| ClientMaterial {
        ca,
        name: None,
        pair,
    };
    let tls = ClientTls::new(material(ca.clone(), Some(pair(&["keyway"])))).unwrap();
    assert!(tls.expiry().is_some());
    for (offer, protocols) in [
        (Offer::Either, &[&b"h2"[..], b"http/1.1"][..]),
        (Offer::Http1, &[b"http/1.1"]),
        (Offer::Http2, &[b"h2"]),
    ] {
        assert_eq!(tls.config(offer).alpn_protocols, protocols);
    }
    let error = ClientTls::new(material(Some(Pem(Vec::new())), None)).unwrap_err();
    assert_eq!(error.to_string(), "no certificates as PEM");
}
