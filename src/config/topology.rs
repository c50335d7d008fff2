//! Pure: topology.yaml, about where the shards are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU8;

use schemars::JsonSchema;
use serde::Deserialize;

use super::document::Document;
use super::place::At;
use super::problem::{Problem, Problems};
use super::scalar::{Name, NodeAddress};
use crate::placement::{Algorithm, Replication, SlotBits, ZoneSpread};
use crate::routing::NODES_PER_SHARD_MAX;
use crate::topology::{ClusterTopology, Lifecycle, NodeSpec, Shard, Topology};

/// Where the shards of each cluster are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "topology.yaml")]
pub(super) struct TopologyFile {
    /// The version of this format: 1.
    version: At<u64>,
    /// The version of this topology, growing with each change. Default: none.
    epoch: Option<u64>,
    /// The number of nodes in this file, which guards against a torn one. Default: not checked.
    members: Option<At<u64>>,
    /// The epoch whose movement of keys is accepted whatever `max_moved` says. Default: none.
    accept_moved: Option<u64>,
    /// The clusters by name.
    clusters: BTreeMap<String, At<ClusterFile>>,
}

/// The shards of one service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ClusterTopology")]
struct ClusterFile {
    /// How keys are mapped to shards. Default: slots.
    placement: Option<PlacementFile>,
    /// The shards, each on nodes that hold the same keys.
    shards: Option<Vec<ShardFile>>,
    /// In place of shards: nodes, each a shard of its own, its successors its replicas.
    nodes: Option<Vec<NodeFile>>,
    /// With nodes: how many hold each key. Default: 1.
    replication_factor: Option<At<u64>>,
    /// With nodes: whether replicas must be in different zones. Default: `best_effort`.
    zone_spread: Option<At<ZoneSpread>>,
    /// Whole keys and the shard (or node) that they are placed on by hand.
    #[serde(default)]
    pins: BTreeMap<String, At<String>>,
}

/// How keys are mapped to shards.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Placement")]
struct PlacementFile {
    /// slots, or ketama as nginx's `hash KEY consistent`. Default: slots.
    algorithm: Option<AlgorithmName>,
    /// With slots: their number, a power of two from 256 to 1048576. Default: 65536.
    slots: Option<At<u32>>,
}

/// A placement algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Algorithm")]
enum AlgorithmName {
    #[default]
    Slots,
    Ketama,
}

/// A named set of nodes that hold the same keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Shard")]
struct ShardFile {
    /// Its identity, unique in the cluster: renaming it moves data.
    name: At<Name>,
    /// Its share of keys relative to the others; 0 owns nothing. Default: 1.
    weight: Option<u16>,
    /// With ketama: what is hashed for it, as nginx hashes an address.
    hash_key: Option<String>,
    /// Its nodes.
    nodes: At<Vec<NodeFile>>,
}

/// One backend process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Node")]
struct NodeFile {
    /// Its identity, unique in the file.
    id: At<Name>,
    /// `HOST:PORT`, `[IPV6]:PORT`, `srv:_SERVICE._tcp.DOMAIN` or `unix:/PATH`.
    address: At<NodeAddress>,
    /// The zone it runs in. Default: unknown.
    zone: Option<String>,
    /// active, or draining: it takes no new requests. Default: active.
    state: Option<Lifecycle>,
    /// Its share of the shard's requests relative to the other nodes, 0 for none while another is well;
    /// where nodes stand in place of shards its share of keys. Default: 1.
    weight: Option<u16>,
    /// Only there, with ketama: what is hashed for it. Default: its address.
    hash_key: Option<At<String>>,
}

/// Parses a topology file, and returns it as JSON text too; `file` is its name in errors.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn parse(file: &str, text: &str) -> Result<(Topology, String), Problems> {
    let document = Document::parse(file, text).map_err(|it| Problems(vec![it]))?;
    let mut problems = Vec::new();
    let decoded = document.decode::<TopologyFile>(&mut problems);
    let whole = problems.is_empty();
    let mut checks = Checks {
        file,
        whole,
        problems,
        ids: HashSet::new(),
    };
    let topology = decoded.map(|it| checks.topology(it));
    let mut problems = checks.problems;
    match topology {
        Some(topology) if problems.is_empty() => Ok((topology, document.to_json())),
        _ => {
            problems.sort_by_key(|it| (it.line, it.column));
            Err(Problems(problems))
        }
    }
}

/// The checks of what no single value shows.
struct Checks<'f> {
    file: &'f str,
    /// Whether nothing was left out: else what is missing may be there.
    whole: bool,
    problems: Vec<Problem>,
    /// The nodes so far.
    ids: HashSet<String>,
}

impl Checks<'_> {
    fn refuse<T>(&mut self, at: &At<T>, expected: impl Into<String>, found: impl Into<String>) {
        self.problems.push(at.problem(self.file, expected, found));
    }

    fn topology(&mut self, read: TopologyFile) -> Topology {
        if read.version.value != 1 {
            self.refuse(&read.version, "version 1", read.version.value.to_string());
        }
        let mut clusters = BTreeMap::new();
        for (name, cluster) in read.clusters {
            clusters.insert(name, self.cluster(cluster));
        }
        let nodes = self.ids.len() as u64;
        if let Some(members) = &read.members
            && self.whole
            && self.problems.is_empty()
            && members.value != nodes
        {
            let expected = format!("{} nodes, as members says", members.value);
            self.refuse(members, expected, nodes.to_string());
        }
        let TopologyFile {
            epoch,
            accept_moved,
            ..
        } = read;
        Topology {
            epoch,
            accept_moved,
            clusters,
        }
    }

    fn cluster(&mut self, mut read: At<ClusterFile>) -> ClusterTopology {
        let placement = read.value.placement.take().unwrap_or_default();
        let algorithm = self.algorithm(&placement);
        let (shards, nodes) = (read.value.shards.take(), read.value.nodes.take());
        let of_nodes = nodes.is_some();
        let shards = match (shards, nodes) {
            (Some(shards), None) => {
                self.check_names(&shards);
                shards
                    .into_iter()
                    .map(|it| self.shard(it, algorithm))
                    .collect()
            }
            (None, Some(nodes)) => nodes
                .into_iter()
                .map(|it| self.lone(it, algorithm))
                .collect(),
            (None, None) => {
                self.refuse(&read, "shards or nodes", "neither");
                Vec::new()
            }
            (Some(_), Some(_)) => {
                self.refuse(&read, "shards or nodes", "both");
                Vec::new()
            }
        };
        self.check_shards(&read, &shards, algorithm);
        let replication = self.replication(&read.value, of_nodes, shards.len());
        let mut pins = HashMap::new();
        for (key, pinned) in &read.value.pins {
            match shards.iter().position(|it| it.name == pinned.value) {
                Some(shard) => drop(pins.insert(key.clone(), shard)),
                None if self.whole => {
                    self.refuse(pinned, "the name of a shard", format!("{:?}", pinned.value));
                }
                None => {}
            }
        }
        ClusterTopology {
            algorithm,
            replication,
            shards,
            pins,
        }
    }

    fn algorithm(&mut self, read: &PlacementFile) -> Algorithm {
        match (read.algorithm.unwrap_or_default(), &read.slots) {
            (AlgorithmName::Slots, None) => Algorithm::Slots {
                bits: SlotBits::default(),
            },
            (AlgorithmName::Slots, Some(slots)) => {
                let bits = SlotBits::from_slots(slots.value).unwrap_or_else(|| {
                    let expected = "a power of two from 256 to 1048576";
                    self.refuse(slots, expected, slots.value.to_string());
                    SlotBits::default()
                });
                Algorithm::Slots { bits }
            }
            (AlgorithmName::Ketama, Some(slots)) => {
                self.refuse(slots, "no slots with ketama", slots.value.to_string());
                Algorithm::Ketama
            }
            (AlgorithmName::Ketama, None) => Algorithm::Ketama,
        }
    }

    fn check_shards(&mut self, read: &At<ClusterFile>, shards: &[Shard], algorithm: Algorithm) {
        if !self.whole {
            return;
        }
        if !shards.is_empty() && shards.iter().all(|it| it.weight == 0) {
            self.refuse(read, "a weight above 0", "zero weights everywhere");
        }
        if let Algorithm::Slots { bits } = algorithm
            && shards.len() > bits.slots() as usize
        {
            let expected = format!("at most a shard for each of {} slots", bits.slots());
            self.refuse(read, expected, format!("{} shards", shards.len()));
        }
    }

    fn check_names(&mut self, shards: &[ShardFile]) {
        let mut names = HashSet::new();
        for shard in shards {
            if !names.insert(shard.name.0.as_str()) {
                let found = format!("{:?} again", shard.name.0);
                self.refuse(&shard.name, "a name of its own in the cluster", found);
            }
        }
    }

    fn replication(&mut self, read: &ClusterFile, of_nodes: bool, nodes: usize) -> Replication {
        let mut replication = Replication {
            factor: NonZeroU8::MIN,
            spread: ZoneSpread::default(),
        };
        if let Some(factor) = &read.replication_factor {
            let fits = u8::try_from(factor.value).ok().and_then(NonZeroU8::new);
            match fits.filter(|it| usize::from(it.get()) <= nodes) {
                _ if !of_nodes => {
                    self.refuse(factor, "replication_factor only with nodes", "shards");
                }
                Some(fits) => replication.factor = fits,
                None if !self.whole => {}
                None => {
                    let expected = format!("1 to {nodes}, the number of nodes");
                    self.refuse(factor, expected, factor.value.to_string());
                }
            }
        }
        if let Some(spread) = &read.zone_spread {
            replication.spread = spread.value;
            if !of_nodes {
                self.refuse(spread, "zone_spread only with nodes", "shards");
            }
        }
        replication
    }

    fn shard(&mut self, read: ShardFile, algorithm: Algorithm) -> Shard {
        if algorithm == Algorithm::Ketama && read.hash_key.is_none() {
            self.refuse(&read.name, "a hash_key for each shard with ketama", "none");
        }
        let nodes = read.nodes.len();
        if self.whole && !(1..=NODES_PER_SHARD_MAX).contains(&nodes) {
            let expected = format!("1 to {NODES_PER_SHARD_MAX} nodes");
            self.refuse(&read.nodes, expected, nodes.to_string());
        }
        let mut specs = Vec::new();
        for node in read.nodes.value {
            if let Some(hash_key) = &node.hash_key {
                self.refuse(
                    hash_key,
                    "a hash_key only of a shard",
                    format!("{:?}", hash_key.value),
                );
            }
            specs.push(self.node(node));
        }
        let ShardFile {
            name,
            weight,
            hash_key,
            ..
        } = read;
        Shard {
            name: name.value.0,
            weight: weight.unwrap_or(1),
            hash_key,
            nodes: specs,
        }
    }

    /// A node that is a shard of its own.
    fn lone(&mut self, mut read: NodeFile, algorithm: Algorithm) -> Shard {
        let weight = read.weight.unwrap_or(1);
        let written = read.hash_key.take().map(|it| it.value);
        let address = || read.address.0.to_string();
        let hash_key = (algorithm == Algorithm::Ketama).then(|| written.unwrap_or_else(address));
        let name = read.id.0.clone();
        Shard {
            name,
            weight,
            hash_key,
            nodes: vec![self.node(read)],
        }
    }

    fn node(&mut self, read: NodeFile) -> NodeSpec {
        if !self.ids.insert(read.id.0.clone()) {
            let found = format!("{:?} again", read.id.0);
            self.refuse(&read.id, "an id of its own in the file", found);
        }
        NodeSpec {
            id: read.id.value.0,
            address: read.address.value.0,
            zone: read.zone,
            weight: read.weight.unwrap_or(1),
            lifecycle: read.state.unwrap_or_default(),
        }
    }
}
