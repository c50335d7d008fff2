//! Pure: from the old state and what the files ask for now to the new state, or to a refusal.
//!
//! Everything observed is carried over here, by name: nodes with their standing and counts, shards'
//! and routes' counters, the retry budgets, and placements whose members did not change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::desired::{Desired, PathForm};
use super::node::Node;
use super::state::{Cluster, Replica, RouteEntry, Shard, State};
use crate::health::Millis;
use crate::placement::{Diff, Placement, PlacementError, diff};
use crate::retry::Budget;
use crate::routing::{NodeSeed, RouteTable};
use crate::telemetry::Striped;
use crate::topology::{self, ClusterTopology, Topology};
use crate::upstream::Endpoint;

/// What reconciling needs to know of the process.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The number of data threads.
    pub threads: usize,
    /// The time since the process began, for the retry budgets.
    pub now: Duration,
}

/// A new state and what it moves.
#[derive(Debug)]
pub struct Reconciled {
    /// The state.
    pub state: State,
    /// The clusters whose key space moved, by name.
    pub moved: Vec<Moved>,
}

/// How much of a cluster's key space a change moves.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The cluster.
    pub cluster: String,
    /// The exact movement.
    pub diff: Diff,
}

/// Why a change is not applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejected {
    /// The topology is older than the one in force.
    #[error("topology epoch: expected above {current}, found {found}")]
    EpochLower {
        /// The epoch in force.
        current: u64,
        /// The file's.
        found: u64,
    },
    /// The topology differs from the one in force, and its epoch does not say so.
    #[error("topology epoch: expected above {0} for changed content, found {0} again")]
    EpochEqual(u64),
    /// The topology in force has an epoch and the file has none.
    #[error("topology epoch: expected above {0}, found none")]
    EpochGone(u64),
    /// More of a cluster's keys would move than may.
    #[error(
        "cluster {cluster:?}: expected at most {max} of the key space to move, found {:.4}% \
         (set accept_moved to this topology's epoch to allow it once)", moved * 100.0
    )]
    Moved {
        /// The cluster.
        cluster: String,
        /// The share that would move.
        moved: f64,
        /// The share that may.
        max: crate::units::Ratio,
    },
    /// A placement cannot be built.
    #[error("cluster {cluster:?}: {source}")]
    Placement {
        /// The cluster.
        cluster: String,
        /// Why.
        source: PlacementError,
    },
    /// A route's cluster is not in the topology.
    #[error("route {route:?}: expected a cluster of the topology, found {cluster:?}")]
    UnknownCluster {
        /// The route.
        route: String,
        /// The cluster that it names.
        cluster: String,
    },
}

/// Builds the state that follows `old` and serves `desired`.
///
/// # Errors
/// When the change must not be applied; `old` serves on.
pub fn reconcile(
    old: Option<&State>,
    desired: Desired,
    circumstances: Circumstances,
) -> Result<Reconciled, Rejected> {
    if let Some(old) = old {
        check_epoch(&old.desired.topology, &desired.topology)?;
    }
    let mut builder = Builder {
        old,
        circumstances,
        slots: 0,
    };
    let mut clusters = Vec::with_capacity(desired.topology.clusters.len());
    for (name, topology) in &desired.topology.clusters {
        clusters.push(builder.cluster(name, topology, &desired)?);
    }
    let moved = movements(old, &clusters);
    for it in &moved {
        check_moved(it, &clusters, &desired.topology)?;
    }
    let routes = builder.routes(&desired, &clusters)?;
    let matchers = desired.routes.iter().map(|it| it.matcher.clone());
    let state = State {
        generation: old.map_or(1, |it| it.generation + 1),
        table: RouteTable::new(matchers.collect()),
        routes,
        normalizes: clusters
            .iter()
            .any(|it| it.params.path == PathForm::Normalize),
        clusters,
        unrouted: old.map_or_else(|| builder.stripes(), |it| Arc::clone(&it.unrouted)),
        desired,
    };
    Ok(Reconciled { state, moved })
}

fn check_epoch(old: &Topology, new: &Topology) -> Result<(), Rejected> {
    match (old.epoch, new.epoch) {
        (Some(current), None) => Err(Rejected::EpochGone(current)),
        (Some(current), Some(found)) if found < current => {
            Err(Rejected::EpochLower { current, found })
        }
        (Some(current), Some(found)) if found == current && old.clusters != new.clusters => {
            Err(Rejected::EpochEqual(current))
        }
        _ => Ok(()),
    }
}

fn movements(old: Option<&State>, clusters: &[Cluster]) -> Vec<Moved> {
    let changed = clusters.iter().filter_map(|new| {
        // Where there was no node there was no key.
        let before = old?.cluster(&new.name).filter(|it| it.nodes_count > 0)?;
        let same = Arc::ptr_eq(&before.placement, &new.placement);
        (!same).then(|| Moved {
            cluster: new.name.clone(),
            diff: diff(&before.placement, &new.placement),
        })
    });
    changed.collect()
}

fn check_moved(it: &Moved, clusters: &[Cluster], topology: &Topology) -> Result<(), Rejected> {
    let accepted = topology.accept_moved.is_some() && topology.accept_moved == topology.epoch;
    let of_this = clusters.iter().find(|cluster| cluster.name == it.cluster);
    match of_this.map(|cluster| cluster.params.max_moved) {
        Some(max) if it.diff.moved > max.as_f64() && !accepted => Err(Rejected::Moved {
            cluster: it.cluster.clone(),
            moved: it.diff.moved,
            max,
        }),
        _ => Ok(()),
    }
}

/// Builds a state's parts, taking over what the old state has of them.
struct Builder<'a> {
    old: Option<&'a State>,
    circumstances: Circumstances,
    /// Nodes so far.
    slots: usize,
}

impl Builder<'_> {
    fn cluster(
        &mut self,
        name: &str,
        topology: &ClusterTopology,
        desired: &Desired,
    ) -> Result<Cluster, Rejected> {
        let before = self.old.and_then(|it| it.cluster(name)).map(Before::new);
        let before = before.as_ref();
        let params = desired.clusters.get(name).cloned().unwrap_or_default();
        let placement = self.placement(name, topology)?;
        let shards = topology
            .shards
            .iter()
            .map(|it| self.shard(before, it, &desired.zone))
            .collect();
        let pins = topology
            .pins
            .iter()
            .map(|(key, shard)| (key.as_bytes().into(), *shard));
        let old = before.map(|it| it.cluster);
        let counters = old.map_or_else(|| self.stripes(), |it| Arc::clone(&it.counters));
        let budget = match old {
            Some(old) => {
                let mut budget = old.budget.lock().expect("a budget must not be poisoned");
                budget.reconfigure(params.retry.budget);
                drop(budget);
                Arc::clone(&old.budget)
            }
            None => Arc::new(Mutex::new(Budget::new(
                params.retry.budget,
                0,
                self.circumstances.now,
            ))),
        };
        Ok(Cluster {
            name: name.to_owned(),
            params,
            placement,
            pins: pins.collect(),
            shards,
            counters,
            connections: old.map_or_else(|| self.stripes(), |it| Arc::clone(&it.connections)),
            budget,
            ejections: old.map(|it| Arc::clone(&it.ejections)).unwrap_or_default(),
            probes: old.map(|it| Arc::clone(&it.probes)).unwrap_or_default(),
            load: old.map(|it| Arc::clone(&it.load)).unwrap_or_default(),
            nodes_count: topology.shards.iter().map(|it| it.nodes.len()).sum(),
        })
    }

    /// The old placement when it would be the same, else a new one.
    fn placement(
        &self,
        name: &str,
        topology: &ClusterTopology,
    ) -> Result<Arc<Placement>, Rejected> {
        if let Some(old) = self.old
            && let Some(before) = old.desired.topology.clusters.get(name)
            && let Some(cluster) = old.cluster(name)
            && (before.algorithm, before.replication) == (topology.algorithm, topology.replication)
            && before.members() == topology.members()
        {
            return Ok(Arc::clone(&cluster.placement));
        }
        let placed = topology.place().map(Arc::new);
        placed.map_err(|source| Rejected::Placement {
            cluster: name.to_owned(),
            source,
        })
    }

    fn shard(&mut self, before: Option<&Before<'_>>, shard: &topology::Shard, zone: &str) -> Shard {
        let old = before.and_then(|it| it.shards.get(shard.name.as_str()));
        let replicas = shard
            .nodes
            .iter()
            .map(|spec| self.replica(before, spec, zone))
            .collect();
        let seed = |it: &topology::NodeSpec| NodeSeed::new(&it.id, it.weight);
        Shard {
            name: shard.name.clone(),
            replicas,
            seeds: shard.nodes.iter().map(seed).collect(),
            counters: old.map_or_else(|| self.stripes(), |it| Arc::clone(&it.counters)),
            queue: old.map(|it| Arc::clone(&it.queue)).unwrap_or_default(),
            p95: old.map(|it| Arc::clone(&it.p95)).unwrap_or_default(),
            p99: old.map(|it| Arc::clone(&it.p99)).unwrap_or_default(),
        }
    }

    fn replica(
        &mut self,
        before: Option<&Before<'_>>,
        spec: &topology::NodeSpec,
        zone: &str,
    ) -> Replica {
        let slot = self.slots;
        self.slots += 1;
        let old = before.and_then(|it| it.nodes.get(spec.id.as_str()).copied());
        let node = match old {
            Some(old) if *old.endpoint().address() == spec.address => Arc::clone(old),
            _ => {
                let endpoint = Endpoint::new(spec.address.clone());
                let node = Node::new(spec.id.clone(), endpoint, self.circumstances.threads);
                if before.is_some_and(|it| !it.nodes.is_empty()) {
                    // It joins others, that are warm.
                    node.begins(millis(self.circumstances.now));
                }
                // An operator's drain is about the id, not the process that answers to it.
                node.set_drained(old.is_some_and(|it| it.is_drained()));
                Arc::new(node)
            }
        };
        Replica {
            node,
            slot,
            zone: spec.zone.clone(),
            is_local: spec.zone.as_deref().is_some_and(|it| it == zone),
            lifecycle: spec.lifecycle,
        }
    }

    fn routes(&self, desired: &Desired, clusters: &[Cluster]) -> Result<Vec<RouteEntry>, Rejected> {
        let places: HashMap<_, _> = clusters
            .iter()
            .map(|it| it.name.as_str())
            .zip(0..)
            .collect();
        let entry = |route: &crate::routing::Route| {
            let Some(&cluster) = places.get(route.cluster.as_str()) else {
                let (route, cluster) = (route.name.clone(), route.cluster.clone());
                return Err(Rejected::UnknownCluster { route, cluster });
            };
            let same = |it: &&RouteEntry| {
                (&it.route.name, &it.route.cluster) == (&route.name, &route.cluster)
            };
            let before = self.old.and_then(|it| it.routes.iter().find(same));
            let counters = before.map_or_else(|| self.stripes(), |it| Arc::clone(&it.counters));
            Ok(RouteEntry {
                route: route.clone(),
                cluster,
                counters,
            })
        };
        desired.routes.iter().map(entry).collect()
    }

    fn stripes<T: Default>(&self) -> Arc<Striped<T>> {
        Arc::new(Striped::new(self.circumstances.threads))
    }
}

fn millis(since: Duration) -> Millis {
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// A cluster of the old state, its parts by name.
struct Before<'a> {
    cluster: &'a Cluster,
    shards: HashMap<&'a str, &'a Shard>,
    nodes: HashMap<&'a str, &'a Arc<Node>>,
}

impl<'a> Before<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let shards = cluster.shards.iter().map(|it| (it.name.as_str(), it));
        let nodes = cluster.nodes().map(|it| (it.id(), it));
        Self {
            cluster,
            shards: shards.collect(),
            nodes: nodes.collect(),
        }
    }
}

impl Cluster {
    /// The nodes of all shards.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        let replicas = self.shards.iter().flat_map(|it| &it.replicas);
        replicas.map(|it| &it.node)
    }

    /// The node of that id.
    pub fn node(&self, id: &str) -> Option<&Arc<Node>> {
        self.nodes().find(|it| it.id() == id)
    }
}
