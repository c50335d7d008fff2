//! The one swapped state: everything that a request needs to know, as of one moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use arc_swap::ArcSwap;

use super::counters::{ClusterCounters, Ejections, ProbeCounters, RouteCounters, ShardCounters};
use super::desired::{ClusterParams, Desired};
use super::load::{Load, Quantile, Turnstile};
use super::node::Node;
use crate::placement::Placement;
use crate::retry::Budget;
use crate::routing::{NodeSeed, Route, RouteTable};
use crate::telemetry::Striped;
use crate::topology::Lifecycle;
use crate::upstream::ConnectionCounters;

/// What both files said when they were last accepted, ready to serve by.
#[derive(Debug)]
pub struct State {
    /// The number of the state, from 1; it grows with each accepted change.
    pub generation: u64,
    /// Finds a request's route.
    pub table: RouteTable,
    /// The routes, in the order of the table's indices.
    pub routes: Vec<RouteEntry>,
    /// The clusters that the topology names, by name.
    pub clusters: Vec<Cluster>,
    /// The counters of requests that took no route.
    pub unrouted: Arc<Striped<RouteCounters>>,
    /// Whether the nodes of any cluster see normal forms of paths.
    pub normalizes: bool,
    /// What the files asked for.
    pub desired: Desired,
}

/// A route with what it resolved to.
#[derive(Debug)]
pub struct RouteEntry {
    /// The route as configured.
    pub route: Route,
    /// The place of its cluster in [`State::clusters`].
    pub cluster: usize,
    /// Its counters.
    pub counters: Arc<Striped<RouteCounters>>,
}

/// A cluster with its placement, its shards and what is counted of it.
#[derive(Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// How to talk to it.
    pub params: ClusterParams,
    /// Which shard owns a key; members are the shards, in their order.
    pub placement: Arc<Placement>,
    /// Keys placed by hand, as places in `shards`.
    pub pins: HashMap<Box<[u8]>, usize>,
    /// The shards, in the order of the topology.
    pub shards: Vec<Shard>,
    /// Its counters.
    pub counters: Arc<Striped<ClusterCounters>>,
    /// The counters of the connections to its nodes.
    pub connections: Arc<Striped<ConnectionCounters>>,
    /// How many retries it may see. Locked only when something failed and wants a retry.
    pub budget: Arc<Mutex<Budget>>,
    /// Which nodes left rotation, and why; written seldom, by any thread.
    pub ejections: Arc<Ejections>,
    /// How the probes of its nodes ended.
    pub probes: Arc<ProbeCounters>,
    /// What is under way, where a setting asks for it.
    pub load: Arc<Load>,
    /// How many nodes it has.
    pub nodes_count: usize,
}

/// A shard with its nodes.
#[derive(Debug)]
pub struct Shard {
    /// Its name.
    pub name: String,
    /// Its nodes, in the order written.
    pub replicas: Vec<Replica>,
    /// What orders the nodes for a key, beside `replicas`.
    pub seeds: Vec<NodeSeed>,
    /// Its counters.
    pub counters: Arc<Striped<ShardCounters>>,
    /// Those who wait for a place at its nodes.
    pub queue: Arc<Turnstile>,
    /// How long 95 of 100 of its answers take, lately.
    pub p95: Arc<Quantile>,
    /// The same of 99.
    pub p99: Arc<Quantile>,
}

/// A node in its place in the topology.
#[derive(Debug)]
pub struct Replica {
    /// The node.
    pub node: Arc<Node>,
    /// Its number over all clusters of the state: the place of its pool on each thread.
    pub slot: usize,
    /// The zone it runs in.
    pub zone: Option<String>,
    /// Whether that is keyway's own.
    pub is_local: bool,
    /// Whether the topology lets it take new requests.
    pub lifecycle: Lifecycle,
}

impl State {
    /// Every node of every cluster, in the order of their slots.
    pub fn replicas(&self) -> impl Iterator<Item = (&Cluster, &Shard, &Replica)> {
        self.clusters.iter().flat_map(|cluster| {
            let shards = cluster.shards.iter();
            shards.flat_map(move |shard| shard.replicas.iter().map(move |it| (cluster, shard, it)))
        })
    }

    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|it| it.name == name)
    }
}

/// The place where the state is swapped.
///
/// Data threads keep what they loaded until [`generation`](Self::generation) moves on, so that a
/// request costs one load of a word that rarely changes.
#[derive(Debug)]
pub struct SharedState {
    generation: AtomicU64,
    current: ArcSwap<State>,
    /// Every state that may still be held: locked at a swap and at a scrape.
    made: Mutex<Vec<Weak<State>>>,
}

impl SharedState {
    /// A place holding `state`.
    pub fn new(state: State) -> Self {
        let generation = AtomicU64::new(state.generation);
        let state = Arc::new(state);
        Self {
            generation,
            made: Mutex::new(vec![Arc::downgrade(&state)]),
            current: ArcSwap::new(state),
        }
    }

    /// The generation of the newest state.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The newest state.
    pub fn load(&self) -> Arc<State> {
        self.current.load_full()
    }

    /// Swaps in `state`; only the writer may.
    pub(super) fn store(&self, state: State) {
        let generation = state.generation;
        let state = Arc::new(state);
        self.still_made().push(Arc::downgrade(&state));
        self.current.store(state);
        // After the state, so that who sees the number finds the state.
        self.generation.store(generation, Ordering::Release);
    }

    /// How many states are in memory: the newest, and older ones that requests began with.
    pub fn held(&self) -> usize {
        self.still_made().len()
    }

    /// The states that are not freed.
    fn still_made(&self) -> MutexGuard<'_, Vec<Weak<State>>> {
        let mut made = self.made.lock().expect("the list must not be poisoned");
        made.retain(|it| it.strong_count() > 0);
        made
    }
}
