//! Pure: who may change something.
//!
//! A browser on this machine must not be made to change the proxy by a page from elsewhere: such a
//! page can send a request here, but neither a loopback Host by DNS rebinding nor no Origin.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, ORIGIN};
use http::uri::Authority;

/// Why a request may not change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Forbidden {
    /// The peer is another machine.
    #[error("expected a loopback or Unix-socket peer")]
    Peer,
    /// The request was meant for another name.
    #[error("expected a loopback Host")]
    Host,
    /// A page from elsewhere sent the request.
    #[error("expected no foreign Origin")]
    Origin,
}

/// Whether a request from `peer` (`None`: a Unix socket) with these `fields` may change something.
pub(super) fn check(peer: Option<IpAddr>, fields: &HeaderMap) -> Result<(), Forbidden> {
    let Some(peer) = peer else {
        return Ok(());
    };
    let host = fields
        .get(HOST)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let origin = fields.get(ORIGIN).map(|it| it.to_str().unwrap_or_default());
    if !peer.is_loopback() {
        Err(Forbidden::Peer)
    } else if !is_loopback(host) {
        Err(Forbidden::Host)
    } else if origin.is_some_and(|it| it != format!("http://{host}")) {
        Err(Forbidden::Origin)
    } else {
        Ok(())
    }
}

/// Whether `authority` names this machine's loopback interface.
fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_fields(peer: &str, host: &str, origin: Option<&str>) -> Result<(), Forbidden> {
        let mut fields = HeaderMap::new();
        fields.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            fields.insert(ORIGIN, origin.parse().unwrap());
        }
        check(Some(peer.parse().unwrap()), &fields)
    }

    #[test]
    fn only_this_machine_and_no_page_from_elsewhere() {
        assert_eq!(check_fields("127.0.0.1", "127.0.0.1:9901", None), Ok(()));
        assert_eq!(check_fields("::1", "[::1]:9901", None), Ok(()));
        assert_eq!(
            check_fields("127.0.0.1", "localhost", Some("http://localhost")),
            Ok(())
        );
        assert_eq!(
            check_fields("10.0.0.1", "localhost", None),
            Err(Forbidden::Peer)
        );
        assert_eq!(
            check_fields("127.0.0.1", "evil.test", None),
            Err(Forbidden::Host)
        );
        assert_eq!(check_fields("127.0.0.1", "", None), Err(Forbidden::Host));
        let foreign = Some("http://evil.test");
        assert_eq!(
            check_fields("127.0.0.1", "localhost", foreign),
            Err(Forbidden::Origin)
        );
        assert_eq!(
            check_fields("127.0.0.1", "localhost", Some("null")),
            Err(Forbidden::Origin)
        );
    }

    #[test]
    fn a_unix_socket_is_guarded_by_its_file() {
        assert_eq!(check(None, &HeaderMap::new()), Ok(()));
    }
}
