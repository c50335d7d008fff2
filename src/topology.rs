//! Pure: where the shards are, as parsed from `topology.yaml`.
//!
//! Both forms of the file, `shards` and `nodes`, become the same types: in the `nodes` form each
//! node is a shard of its own and its successors on the placement are its replicas.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::placement::{Algorithm, Member, Placement, PlacementError, Replication, SlotBits};

/// A whole topology file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// The file's version, growing with each change; `None` when it carries none.
    pub epoch: Option<u64>,
    /// The epoch whose movement of keys the operator accepted, whatever `max_moved` says.
    pub accept_moved: Option<u64>,
    /// The clusters by name.
    pub clusters: BTreeMap<String, ClusterTopology>,
}

/// The shards of one service and the rule that maps keys to them.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterTopology {
    /// The placement algorithm.
    pub algorithm: Algorithm,
    /// How many shards in a row hold a key; one in the `shards` form.
    pub replication: Replication,
    /// The shards, in the order written; names are unique.
    pub shards: Vec<Shard>,
    /// Whole keys that are placed by hand, as indices into `shards`.
    pub pins: HashMap<String, usize>,
}

impl ClusterTopology {
    /// The shards as the placement sees them, in their order.
    pub fn members(&self) -> Vec<Member> {
        let member = |shard: &Shard| Member {
            name: shard.name.clone(),
            weight: shard.weight,
            hash_key: shard.hash_key.clone(),
            zone: shard.nodes.first().and_then(|it| it.zone.clone()),
        };
        self.shards.iter().map(member).collect()
    }

    /// A cluster of which it is not known yet where it is: one shard, which has no node.
    pub fn unknown() -> Self {
        let shard = Shard {
            name: String::new(),
            weight: 1,
            hash_key: None,
            nodes: Vec::new(),
        };
        Self {
            algorithm: Algorithm::Slots {
                bits: SlotBits::MIN,
            },
            replication: Replication::default(),
            shards: vec![shard],
            pins: HashMap::new(),
        }
    }

    /// Builds the placement of keys over the shards.
    ///
    /// # Errors
    /// When the members do not fit the algorithm.
    pub fn place(&self) -> Result<Placement, PlacementError> {
        Placement::build(self.algorithm, &self.members(), self.replication)
    }
}

/// A named set of nodes that hold the same keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// The shard's identity: renaming it moves data.
    pub name: String,
    /// The share of keys relative to the other shards; 0 owns nothing.
    pub weight: u16,
    /// What a compatible placement hashes for this shard; `None` where the algorithm uses the name.
    pub hash_key: Option<String>,
    /// The nodes in the order written, ids unique in the file; none only where nothing is known of a
    /// cluster yet.
    pub nodes: Vec<NodeSpec>,
}

/// One backend process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// The node's identity, unique in the file.
    pub id: String,
    /// Where it listens.
    pub address: Address,
    /// The zone that it runs in, when known.
    pub zone: Option<String>,
    /// Its share of the shard's requests relative to the other nodes; at 0 it is tried last.
    pub weight: u16,
    /// Whether it takes new requests.
    pub lifecycle: Lifecycle,
}

/// Whether a node takes new requests, as the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// It does.
    #[default]
    Active,
    /// It finishes what it has and is tried only when nothing else is left.
    Draining,
}

/// Where a node listens: `host:port`, `[v6]:port`, `srv:_service._tcp.domain` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP endpoint whose host is an IP address or a name to resolve.
    Tcp {
        /// The host without brackets.
        host: String,
        /// The port; 0 only where a listener asks for any free one.
        port: u16,
    },
    /// A Unix-domain stream socket.
    Unix(PathBuf),
    /// TCP endpoints that SRV records name; never of a listener.
    Srv(SrvName),
}

/// The name of SRV records: a service, over TCP, of a domain (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SrvName(String);

impl SrvName {
    /// The name that is looked up.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain whose service it is: what is left without the service's labels.
    pub fn domain(&self) -> &str {
        self.0.splitn(3, '.').nth(2).unwrap_or_default()
    }

    fn parse(name: &str) -> Option<Self> {
        let mut labels = name.splitn(3, '.');
        let service = labels.next()?.strip_prefix('_')?;
        let is_tcp = labels.next()?.eq_ignore_ascii_case("_tcp");
        let domain = labels.next()?;
        let named = is_host_name(name) && is_host_name(domain) && !service.is_empty();
        (is_tcp && named).then(|| Self(name.to_owned()))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError {
            expected: "host:port, [ipv6]:port, srv:_service._tcp.domain or unix:/absolute/path",
            found: text.to_owned(),
        };
        if let Some(name) = text.strip_prefix("srv:") {
            return SrvName::parse(name).map(Self::Srv).ok_or_else(error);
        }
        match Self::parse_listener(text) {
            Ok(Self::Tcp { port: 0, .. }) | Err(_) => Err(error()),
            Ok(address) => Ok(address),
        }
    }
}

impl Address {
    /// An address to listen on: as [`from_str`](Self::from_str), and port 0 for any free one.
    ///
    /// # Errors
    /// When `text` is no address.
    pub fn parse_listener(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError {
            expected: "host:port, [ipv6]:port or unix:/absolute/path",
            found: text.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let absolute = path.starts_with('/');
            return absolute.then(|| Self::Unix(path.into())).ok_or_else(error);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let host = match bare {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(error()),
            None => host,
        };
        let named = bare.is_some() || is_host_name(host);
        match port.parse() {
            Ok(port) if named => Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            }),
            _ => Err(error()),
        }
    }
}

/// Whether `host` is made of the characters of an IPv4 address or a DNS name.
fn is_host_name(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.len() <= 253 && host.chars().all(plain)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Srv(name) => write!(f, "srv:{}", name.as_str()),
        }
    }
}

/// A text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct AddressError {
    /// What addresses look like.
    pub expected: &'static str,
    /// The text.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_written() {
        for text in [
            "10.0.0.1:80",
            "[::1]:8080",
            "node-1.svc:9",
            "unix:/run/a.sock",
            "srv:_http._tcp.users.internal",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "", "10.0.0.1", ":80", "a:0", "a:65536", "::1:80", "[x]:1", "a b:1", "unix:x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_is_named_by_its_labels() {
        let name = SrvName::parse("_http._tcp.users.internal").unwrap();
        assert_eq!(name.domain(), "users.internal");
        for name in [
            "",
            "users.internal",
            "_http.users.internal",
            "_http._udp.users.internal",
            "_._tcp.users",
            "_http._tcp",
            "_http._tcp.",
            "_http._tcp.a:80",
            "http._tcp.a",
        ] {
            let text = format!("srv:{name}");
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("srv:_service._tcp.domain"), "{error}");
            assert!(Address::parse_listener(&text).is_err(), "{text}");
        }
    }
}
