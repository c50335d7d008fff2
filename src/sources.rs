//! Pure: which peers of a connection are meant, by their addresses.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// Networks, and perhaps whoever comes by a Unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    networks: Vec<IpNet>,
    unix: bool,
}

/// One source: a network, an address, or `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The addresses of a network.
    Network(IpNet),
    /// Whoever comes by a Unix socket.
    Unix,
}

/// What is no source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a network such as 10.0.0.0/8 or fd00::/8, an address, or unix")]
pub struct SourceError;

impl Sources {
    /// Whether a connection of `peer` is meant; `None` is one by a Unix socket.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            None => self.unix,
            Some(ip) => self.networks.iter().any(|it| it.contains(&ip)),
        }
    }

    /// Whether nobody is meant.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }
}

impl FromIterator<Source> for Sources {
    fn from_iter<I: IntoIterator<Item = Source>>(sources: I) -> Self {
        let mut all = Self::default();
        for source in sources {
            match source {
                Source::Network(network) => all.networks.push(network),
                Source::Unix => all.unix = true,
            }
        }
        all
    }
}

impl FromStr for Source {
    type Err = SourceError;

    /// A network must have no bits set beyond its prefix: whoever writes some means something else.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Network(ip.to_canonical().into()));
        }
        let network = text.parse::<IpNet>().map_err(|_| SourceError)?;
        let is_whole = network.trunc() == network;
        is_whole
            .then_some(Self::Network(network))
            .ok_or(SourceError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(texts: &[&str]) -> Sources {
        texts
            .iter()
            .map(|it| it.parse::<Source>().unwrap())
            .collect()
    }

    #[test]
    fn peers_are_found_by_their_networks() {
        let all = sources(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::ffff:198.51.100.1"]);
        for (peer, is_meant) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("198.51.100.1", true),
        ] {
            assert_eq!(
                all.contains(Some(peer.parse().unwrap())),
                is_meant,
                "{peer}"
            );
        }
        assert!(!all.contains(None) && !all.is_empty());
        assert!(sources(&["unix"]).contains(None));
        assert!(sources(&[]).is_empty());
        assert!(sources(&["0.0.0.0/0"]).contains(Some([1, 2, 3, 4].into())));
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0",
            "localhost",
            "UNIX",
            "10.0.0.0 /8",
        ] {
            assert_eq!(text.parse::<Source>(), Err(SourceError), "{text:?}");
        }
    }
}
