use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::desired::{Balance, Caps, ClusterParams, Desired};
use super::*;
use crate::health::{EjectParams, Standing};
use crate::key::KeySpec;
use crate::placement::{Algorithm, Replication, SlotBits};
use crate::routing::{MissingKey, Prefer, Route, RouteMatch, WhenShardDown};
use crate::topology::{ClusterTopology, Lifecycle, NodeSpec, Shard as ShardSpec, Topology};
use crate::units::Ratio;

/// Shards of these many nodes each; node `n` of shard `s` is `s.n`.
fn topology(shards: &[usize]) -> Topology {
    let node = |shard: usize, node: usize| NodeSpec {
        id: format!("{shard}.{node}"),
        address: format!("10.0.{shard}.{node}:80").parse().unwrap(),
        zone: None,
        weight: 1,
        lifecycle: Lifecycle::Active,
    };
    let shard = |(at, nodes): (usize, &usize)| ShardSpec {
        name: format!("s{at}"),
        weight: 1,
        hash_key: None,
        nodes: (0..*nodes).map(|it| node(at, it)).collect(),
    };
    let cluster = ClusterTopology {
        algorithm: Algorithm::Slots {
            bits: SlotBits::MIN,
        },
        replication: Replication::NONE,
        shards: shards.iter().enumerate().map(shard).collect(),
        pins: std::iter::once(("pinned".to_owned(), 0)).collect(),
    };
    Topology {
        clusters: BTreeMap::from([("c".to_owned(), cluster)]),
        ..Topology::default()
    }
}

fn desired(topology: Topology, params: ClusterParams) -> Desired {
    let route = Route {
        name: "r".to_owned(),
        matcher: RouteMatch::default(),
        key: KeySpec::parse(&["path".to_owned()], None).unwrap(),
        on_missing_key: MissingKey::Reject,
        cluster: "c".to_owned(),
        timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        honour_idempotency_key: false,
    };
    Desired {
        routes: vec![route],
        clusters: BTreeMap::from([("c".to_owned(), params)]),
        topology,
        ..Desired::default()
    }
}

const NOW: Circumstances = Circumstances {
    threads: 1,
    now: Duration::ZERO,
};

fn first(topology: Topology, params: ClusterParams) -> State {
    reconcile(None, desired(topology, params), NOW)
        .unwrap()
        .state
}

fn next(old: &State, topology: Topology) -> Result<Reconciled, Rejected> {
    reconcile(Some(old), desired(topology, ClusterParams::default()), NOW)
}

fn pick(state: &State, key: &[u8]) -> Pick {
    let cluster = &state.clusters[0];
    Pick::new(cluster, Some(key), cluster.placement.token(key))
}

/// Every node that a request for `key` would try, if each failed.
fn walk(state: &State, key: &[u8]) -> Vec<Target> {
    let mut pick = pick(state, key);
    std::iter::from_fn(|| pick.next(&state.clusters[0], 0, || 0).target()).collect()
}

fn node<'a>(state: &'a State, id: &str) -> &'a Arc<Node> {
    state.clusters[0].node(id).unwrap()
}

mod simulation;

// === the plan ===

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_plan_visits_each_node_of_its_shard_once_and_the_well_ones_first(
        shards in prop::collection::vec(1..5_usize, 1..5),
        refused in prop::collection::vec((0..5_usize, 0..5_usize), 0..8),
        key in prop::collection::vec(any::<u8>(), 0..9),
        next_shard in any::<bool>(),
    ) {
        let down = if next_shard { WhenShardDown::NextShard } else { WhenShardDown::Fail };
        let params = ClusterParams { when_shard_down: down, ..ClusterParams::default() };
        let state = first(topology(&shards), params);
        let cluster = &state.clusters[0];
        for (shard, replica) in refused {
            if let Some(node) = cluster.node(&format!("{shard}.{replica}")) {
                node.refused(node.standing(), 0, 0);
            }
        }
        let visited = walk(&state, &key);
        let owner = cluster.placement.owner(cluster.placement.token(&key)).as_usize();
        let distinct: HashSet<_> = visited.iter().map(|it| (it.shard, it.replica)).collect();
        prop_assert_eq!(distinct.len(), visited.len());
        let of_owner = visited.iter().filter(|it| it.shard == owner).count();
        prop_assert_eq!(of_owner, shards[owner]);
        prop_assert!(next_shard || of_owner == visited.len());
        let well = |it: &Target| it.replica(cluster).node.standing() == Standing::HEALTHY;
        prop_assert!(visited.iter().map(well).is_sorted_by(|before, after| before >= after));
        // Those that are well come in the order of placement.
        let ranks: Vec<_> = visited.iter().filter(|it| well(it)).map(|it| it.rank).collect();
        prop_assert!(ranks.is_sorted());
    }
}

#[test]
fn a_pinned_key_goes_to_its_shard_and_the_order_as_written_is_kept() {
    let params = ClusterParams {
        prefer: Prefer::Order,
        ..ClusterParams::default()
    };
    let state = first(topology(&[3, 3, 3]), params);
    let places: Vec<_> = walk(&state, b"pinned")
        .iter()
        .map(|it| (it.shard, it.replica))
        .collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2)]);
}

#[test]
fn a_drained_node_comes_last_and_an_unresolved_one_never() {
    let params = ClusterParams {
        prefer: Prefer::Order,
        ..ClusterParams::default()
    };
    let mut topology = topology(&[4]);
    let nodes = &mut topology.clusters.get_mut("c").unwrap().shards[0].nodes;
    nodes[0].lifecycle = Lifecycle::Draining;
    nodes[1].address = "name.test:80".parse().unwrap();
    let state = first(topology, params);
    node(&state, "0.2").refused(Standing::HEALTHY, 0, 0);
    let replicas: Vec<_> = walk(&state, b"k").iter().map(|it| it.replica).collect();
    assert_eq!(replicas, [3, 2, 0]);
}

#[test]
fn the_only_well_node_is_known_as_such() {
    let state = first(topology(&[2]), ClusterParams::default());
    let cluster = &state.clusters[0];
    let mut pick = pick(&state, b"k");
    let target = pick.next(cluster, 0, || 0).target().unwrap();
    assert!(!pick.is_only(cluster, target, 0));
    let other = &cluster.shards[0].replicas[1 - target.replica].node;
    other.refused(Standing::HEALTHY, 0, 0);
    assert!(pick.is_only(cluster, target, 0));
    assert!(
        pick.has_next(cluster, 0),
        "a suspect node is better than none"
    );
    pick.next(cluster, 0, || 0).target().unwrap();
    assert!(!pick.has_next(cluster, 0));
}

/// The node that each of many keys would be sent to.
/// What `repeatable` requests and others try first while the first node of the key waits for a trial.
fn tried_first(state: &State, repeatable: bool, now: u64) -> usize {
    let mut pick = pick(state, b"pinned").leaving_trials(!repeatable);
    let target = pick.next(&state.clusters[0], now, || 0).target().unwrap();
    target.rank
}

#[test]
fn a_trial_is_left_to_what_may_be_repeated_for_a_while() {
    let params = ClusterParams {
        prefer: Prefer::Order,
        ..ClusterParams::default()
    };
    let base = u64::try_from(params.eject.times.base.as_millis()).unwrap();
    let state = first(topology(&[2]), params);
    let (node, other) = (node(&state, "0.0"), node(&state, "0.1"));
    assert!(node.eject(0, &EjectParams::default(), 0));
    let due = node.standing().time();
    // The other one does without until it has waited for long; and the trial is one.
    assert_eq!(tried_first(&state, false, due), 1);
    assert_eq!(tried_first(&state, false, due + base - 1), 1);
    assert_eq!(tried_first(&state, false, due + base), 0);
    assert_eq!(tried_first(&state, false, due + base), 1);
    // What may be repeated tries it as soon as that may be.
    let due = node.standing().time();
    assert_eq!(tried_first(&state, true, due - 1), 1);
    assert_eq!(tried_first(&state, true, due), 0);
    // Where no other node is left nobody waits for another request.
    let due = node.standing().time();
    assert!(other.eject(due, &EjectParams::default(), u64::MAX));
    assert_eq!(tried_first(&state, false, due), 0);
    assert!(!node.admits(due));
}

fn spread(state: &State, now: u64) -> Vec<String> {
    let cluster = &state.clusters[0];
    let random = Cell::new(1_u64);
    let draw = || {
        random.set(
            random
                .get()
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1),
        );
        random.get().rotate_left(23)
    };
    let node = |key: u32| {
        let target = pick(state, &key.to_le_bytes())
            .next(cluster, now, draw)
            .target();
        target.unwrap().replica(cluster).node.id().to_owned()
    };
    (0..2000).map(node).collect()
}

fn count(nodes: &[String], id: &str) -> usize {
    nodes.iter().filter(|it| *it == id).count()
}

#[test]
fn a_node_that_joins_gets_its_keys_one_after_the_other_and_keeps_them() {
    let params = ClusterParams {
        slow_start: Duration::from_secs(10),
        ..ClusterParams::default()
    };
    let old = first(topology(&[2]), params.clone());
    let joins = Circumstances {
        now: Duration::from_secs(5),
        ..NOW
    };
    let desired = desired(topology(&[3]), params);
    let state = reconcile(Some(&old), desired, joins).unwrap().state;
    let mut before = spread(&state, 5000);
    assert_eq!(count(&before, "0.2"), 0);
    for now in (6000..=15_000).step_by(1000) {
        let after = spread(&state, now);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || after == "0.2", "{before} {after}");
        }
        before = after;
    }
    // At the end it has all that is its own.
    assert_eq!(
        before,
        spread(&first(topology(&[3]), ClusterParams::default()), 0)
    );
}

#[test]
fn nodes_of_the_own_zone_come_first_and_the_others_are_there_when_they_are_not() {
    let params = ClusterParams {
        prefer: Prefer::Zone,
        ..ClusterParams::default()
    };
    let mut topology = topology(&[4]);
    let nodes = &mut topology.clusters.get_mut("c").unwrap().shards[0].nodes;
    for (node, zone) in nodes.iter_mut().zip(["a", "b", "a", "b"]) {
        node.zone = Some(zone.to_owned());
    }
    let mut desired = desired(topology, params);
    desired.zone = "b".to_owned();
    let state = reconcile(None, desired, NOW).unwrap().state;
    let local = |it: &Target| it.replica(&state.clusters[0]).is_local;
    for key in 0..50_u8 {
        let visited = walk(&state, &[key]);
        let are_local: Vec<_> = visited.iter().map(local).collect();
        assert_eq!(are_local, [true, true, false, false]);
        let ranks: Vec<_> = visited.iter().map(|it| it.rank).collect();
        assert_eq!(ranks, [0, 1, 2, 3]);
    }
    let counts = spread(&state, 0);
    assert!(count(&counts, "0.1") > 900 && count(&counts, "0.3") > 900);
    for id in ["0.1", "0.3"] {
        node(&state, id).refused(Standing::HEALTHY, 0, 0);
    }
    let counts = spread(&state, 1);
    assert!(count(&counts, "0.0") > 900 && count(&counts, "0.2") > 900);
}

#[test]
fn the_less_loaded_of_two_is_chosen_and_the_slowest_never() {
    let params = ClusterParams {
        prefer: Prefer::LeastLoaded,
        ..ClusterParams::default()
    };
    let state = first(topology(&[3]), params);
    for id in ["0.0", "0.1", "0.2"] {
        node(&state, id).took(0, Duration::from_millis(10));
    }
    let even = spread(&state, 0);
    assert!(
        ["0.0", "0.1", "0.2"]
            .iter()
            .all(|it| count(&even, it) > 500)
    );
    node(&state, "0.1").took(0, Duration::from_millis(100));
    assert_eq!(count(&spread(&state, 0), "0.1"), 0);
    // Load weighs as latency does.
    for _ in 0..20 {
        node(&state, "0.2").begin();
    }
    let spread_by_load = spread(&state, 0);
    assert!(count(&spread_by_load, "0.1") > count(&spread_by_load, "0.2"));
    // Who comes back is tried.
    let back = node(&state, "0.0");
    back.refused(back.standing(), 0, 0);
    let cluster = &state.clusters[0];
    let target = pick(&state, b"k")
        .next(cluster, 5000, || 0)
        .target()
        .unwrap();
    assert_eq!(target.replica(cluster).node.id(), "0.0");
}

#[test]
fn a_capped_node_is_passed_by_and_a_capped_shard_is_full() {
    let caps = Caps {
        node: NonZeroU32::new(2),
        ..Caps::default()
    };
    let params = ClusterParams {
        caps,
        prefer: Prefer::Order,
        ..ClusterParams::default()
    };
    let state = first(topology(&[2]), params);
    let cluster = &state.clusters[0];
    let next = || pick(&state, b"k").next(cluster, 0, || 0);
    assert!(node(&state, "0.0").try_begin(2) && node(&state, "0.0").try_begin(2));
    assert!(!node(&state, "0.0").try_begin(2));
    assert!(matches!(next(), Next::Well(Target { replica: 1, .. })));
    node(&state, "0.1").begin();
    node(&state, "0.1").begin();
    assert_eq!(next(), Next::Full);
    // A node that is out is no reason to wait for it.
    node(&state, "0.1").refused(Standing::HEALTHY, 0, 0);
    assert_eq!(next(), Next::Full);
    node(&state, "0.0").end();
    assert!(matches!(next(), Next::Well(Target { replica: 0, .. })));
}

#[test]
fn a_node_with_more_than_its_share_is_passed_by_once_that_means_something() {
    let params = ClusterParams {
        balance: Some(Balance {
            factor: 1.5,
            min_in_flight: 4,
        }),
        prefer: Prefer::Order,
        ..ClusterParams::default()
    };
    let state = first(topology(&[2]), params);
    let cluster = &state.clusters[0];
    let mut served = [0, 0];
    for _ in 0..100 {
        let target = pick(&state, b"k").next(cluster, 0, || 0).target().unwrap();
        target.replica(cluster).node.begin();
        assert!(cluster.load.try_begin(None));
        served[target.replica] += 1;
        if served[0] + served[1] == 4 {
            assert_eq!(served, [4, 0]);
        }
    }
    assert_eq!(served, [75, 25]);
}

// === reconciling ===

#[test]
fn what_was_observed_is_carried_over() {
    let old = first(topology(&[2, 2]), ClusterParams::default());
    node(&old, "0.1").refused(Standing::HEALTHY, 0, 0);
    node(&old, "1.0").set_drained(true);
    let mut changed = topology(&[2, 2, 1]);
    changed.clusters.get_mut("c").unwrap().shards[1].nodes[0].address =
        "10.9.9.9:80".parse().unwrap();
    let new = next(&old, changed).unwrap().state;
    assert_eq!(new.generation, 2);
    assert!(Arc::ptr_eq(node(&old, "0.1"), node(&new, "0.1")));
    // A new address is a new process, and what the operator said of the id holds.
    assert!(!Arc::ptr_eq(node(&old, "1.0"), node(&new, "1.0")));
    assert!(node(&new, "1.0").is_drained());
    let (old_shard, new_shard) = (&old.clusters[0].shards[0], &new.clusters[0].shards[0]);
    assert!(Arc::ptr_eq(&old_shard.counters, &new_shard.counters));
    assert!(Arc::ptr_eq(
        &old.routes[0].counters,
        &new.routes[0].counters
    ));
    assert!(Arc::ptr_eq(
        &old.clusters[0].budget,
        &new.clusters[0].budget
    ));
    let slots: Vec<_> = new.replicas().map(|(_, _, it)| it.slot).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4]);
}

#[test]
fn a_placement_whose_members_stay_is_the_same() {
    let old = first(topology(&[1, 1]), ClusterParams::default());
    let Reconciled { state, moved } = next(&old, topology(&[2, 1])).unwrap();
    assert!(moved.is_empty());
    assert!(Arc::ptr_eq(
        &old.clusters[0].placement,
        &state.clusters[0].placement
    ));
    let Reconciled { moved, .. } = next(&old, topology(&[1, 1, 1])).unwrap();
    assert!((0.2..0.45).contains(&moved[0].diff.moved), "{moved:?}");
}

#[test]
fn epochs_guard_the_topology_and_not_the_rest() {
    let at = |epoch, shards: &[usize]| Topology {
        epoch,
        ..topology(shards)
    };
    let old = first(at(Some(5), &[1, 1]), ClusterParams::default());
    assert!(matches!(
        next(&old, at(Some(4), &[1, 1])),
        Err(Rejected::EpochLower {
            current: 5,
            found: 4
        })
    ));
    assert!(matches!(
        next(&old, at(Some(5), &[1, 2])),
        Err(Rejected::EpochEqual(5))
    ));
    assert!(matches!(
        next(&old, at(None, &[1, 1])),
        Err(Rejected::EpochGone(5))
    ));
    assert!(next(&old, at(Some(5), &[1, 1])).is_ok());
    assert!(next(&old, at(Some(6), &[1, 2])).is_ok());
}

#[test]
fn too_much_movement_is_refused_unless_this_epoch_accepts_it() {
    let params = ClusterParams {
        max_moved: Ratio::percent(5),
        ..ClusterParams::default()
    };
    let old = first(topology(&[1, 1]), params.clone());
    let asks = |epoch, accept_moved| {
        let topology = Topology {
            epoch,
            accept_moved,
            ..topology(&[1, 1, 1])
        };
        reconcile(Some(&old), desired(topology, params.clone()), NOW)
    };
    assert!(matches!(asks(None, None), Err(Rejected::Moved { .. })));
    assert!(matches!(
        asks(Some(2), Some(1)),
        Err(Rejected::Moved { .. })
    ));
    assert!(asks(Some(2), Some(2)).is_ok());
}

#[test]
fn a_route_to_no_cluster_is_refused() {
    let mut desired = desired(topology(&[1]), ClusterParams::default());
    desired.routes[0].cluster = "gone".to_owned();
    let refused = reconcile(None, desired, NOW);
    assert!(matches!(refused, Err(Rejected::UnknownCluster { .. })));
}
