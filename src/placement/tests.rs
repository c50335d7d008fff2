//! Pure: what holds for every placement.

use proptest::prelude::*;

use super::*;

const SLOTS: Algorithm = Algorithm::Slots {
    bits: SlotBits::MIN,
};

/// `count` members of weight 1.
pub(super) fn equal(count: usize) -> Vec<Member> {
    let member = |index| Member {
        name: format!("users-{index}"),
        weight: 1,
        hash_key: Some(format!("10.0.{}.{}:80", index / 256, index % 256)),
        zone: None,
    };
    (0..count).map(member).collect()
}

pub(super) fn names(
    placement: &Placement,
    members: impl Iterator<Item = MemberIndex>,
) -> Vec<&str> {
    members
        .map(|member| placement.names()[member.as_usize()].as_str())
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "test counts are small")]
pub(super) fn count(count: usize) -> f64 {
    count as f64
}

fn replication(factor: u8, spread: ZoneSpread) -> Replication {
    Replication {
        factor: NonZeroU8::new(factor).unwrap(),
        spread,
    }
}

/// Members in zones `a`, `b`, ...: as many in each as `counts` says.
fn zoned(counts: &[usize]) -> Vec<Member> {
    let mut members = equal(counts.iter().sum());
    let zones = counts
        .iter()
        .zip('a'..)
        .flat_map(|(&count, zone)| std::iter::repeat_n(zone, count));
    for (member, zone) in members.iter_mut().zip(zones) {
        member.zone = Some(zone.to_string());
    }
    members
}

/// The candidates of some tokens all over the ring.
fn orders(placement: &Placement) -> impl Iterator<Item = (Token, Vec<MemberIndex>)> {
    let tokens = (0..500_u32).map(|key| placement.token(&key.to_be_bytes()));
    tokens.map(|token| (token, placement.candidates(token).collect()))
}

fn error(algorithm: Algorithm, members: &[Member]) -> PlacementError {
    Placement::build(algorithm, members, Replication::NONE).unwrap_err()
}

#[test]
fn slot_bits_are_powers_of_two_in_range() {
    assert_eq!(SlotBits::from_slots(65_536), Some(SlotBits::default()));
    assert_eq!(SlotBits::from_slots(256), Some(SlotBits::MIN));
    assert_eq!(
        SlotBits::from_slots(1 << 20).map(SlotBits::slots),
        Some(1_048_576)
    );
    for slots in [0, 1, 128, 255, 257, 65_535, 1 << 21, u32::MAX] {
        assert_eq!(SlotBits::from_slots(slots), None, "{slots}");
    }
    assert_eq!((SlotBits::new(7), SlotBits::new(21)), (None, None));
}

#[test]
fn refuses_members_that_contradict_each_other() {
    let mut weightless = equal(2);
    for member in &mut weightless {
        member.weight = 0;
    }
    let mut twins = equal(2);
    twins[1].name = "users-0".to_owned();
    assert_eq!(error(SLOTS, &[]), PlacementError::Empty);
    assert_eq!(error(SLOTS, &weightless), PlacementError::Weightless);
    assert_eq!(
        error(SLOTS, &twins),
        PlacementError::DuplicateName {
            name: "users-0".into()
        }
    );
    let found = MEMBERS_MAX + 1;
    let too_many = PlacementError::TooManyMembers {
        found,
        max: MEMBERS_MAX,
    };
    assert_eq!(error(SLOTS, &equal(found)), too_many);
}

#[test]
fn strict_zones_need_a_zone_of_every_member() {
    let mut members = zoned(&[2, 2]);
    members[2].zone = None;
    let strict = replication(2, ZoneSpread::Strict);
    let error = Placement::build(SLOTS, &members, strict).unwrap_err();
    assert_eq!(
        error,
        PlacementError::MissingZone {
            name: "users-2".into()
        }
    );
    assert!(Placement::build(SLOTS, &members, replication(1, ZoneSpread::Strict)).is_ok());
}

#[test]
fn strict_zones_leave_fewer_replicas_than_the_factor() {
    for algorithm in [SLOTS, Algorithm::Ketama] {
        let strict = replication(3, ZoneSpread::Strict);
        let placement = Placement::build(algorithm, &zoned(&[5, 5]), strict).unwrap();
        assert_eq!(
            (placement.replica_count(), placement.candidate_count()),
            (2, 10)
        );
        for (token, order) in orders(&placement) {
            assert!(placement.replicas(token).eq(order[..2].iter().copied()));
            assert_ne!(
                order[0].as_usize() < 5,
                order[1].as_usize() < 5,
                "{order:?}"
            );
        }
    }
}

#[test]
fn zones_without_enough_members_are_filled_up() {
    for algorithm in [SLOTS, Algorithm::Ketama] {
        let best = replication(3, ZoneSpread::BestEffort);
        let placement = Placement::build(algorithm, &zoned(&[30, 1]), best).unwrap();
        assert_eq!(placement.replica_count(), 3);
        for (_, order) in orders(&placement) {
            assert!(
                order[..2].iter().any(|member| member.as_usize() == 30),
                "{order:?}"
            );
        }
    }
}

#[test]
fn members_without_weight_change_nothing() {
    for algorithm in [SLOTS, Algorithm::Ketama] {
        let mut members = equal(6);
        let build = |members: &[Member]| Placement::build(algorithm, members, Replication::NONE);
        let without = build(&members[1..]).unwrap();
        members[0].weight = 0;
        let with = build(&members).unwrap();
        assert_eq!(with.fingerprint(), without.fingerprint());
        assert_eq!(with.ownership()[0].to_bits(), 0);
        assert_eq!(with.candidate_count(), 5);
        members[0].weight = 1;
        assert_ne!(build(&members).unwrap().fingerprint(), with.fingerprint());
    }
}

#[test]
fn fingerprints_tell_placements_apart() {
    let mut renamed = zoned(&[3, 3]);
    renamed[0].name.push('x');
    let mut heavier = zoned(&[3, 3]);
    heavier[0].weight = 2;
    let nine = SlotBits::new(9).unwrap();
    let mut seen = std::collections::HashSet::new();
    for algorithm in [SLOTS, Algorithm::Slots { bits: nine }, Algorithm::Ketama] {
        for members in [&zoned(&[3, 3]), &renamed, &heavier] {
            for spread in [ZoneSpread::BestEffort, ZoneSpread::Strict] {
                let placement = Placement::build(algorithm, members, replication(3, spread));
                assert!(
                    seen.insert(placement.unwrap().fingerprint()),
                    "{algorithm:?} {spread:?}"
                );
            }
        }
    }
}

/// The rule for replicas, obvious: zones not seen yet first, then the rest in order.
fn spread_out(order: &[MemberIndex], members: &[Member], factor: usize) -> Vec<MemberIndex> {
    let mut seen = std::collections::HashSet::new();
    let fresh = |it: &&MemberIndex| match &members[it.as_usize()].zone {
        Some(zone) => seen.len() < factor && seen.insert(zone.clone()),
        None => seen.len() < factor && seen.insert(format!("none {it:?}")),
    };
    let front: Vec<_> = order.iter().filter(fresh).copied().collect();
    let rest = order.iter().filter(|it| !front.contains(it));
    front.iter().chain(rest).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn candidates_are_all_members_once_with_their_replicas_first(
        shape in prop::collection::vec((0..4_u16, prop::option::of("[a-d]")), 1..40),
        factor in 1..8_u8,
        ketama: bool,
    ) {
        let mut members = equal(shape.len());
        for (member, (weight, zone)) in members.iter_mut().zip(shape) {
            (member.weight, member.zone) = (weight, zone);
        }
        prop_assume!(members.iter().any(|member| member.weight > 0));
        let algorithm = if ketama { Algorithm::Ketama } else { SLOTS };
        let plain = Placement::build(algorithm, &members, Replication::NONE).unwrap();
        let best = replication(factor, ZoneSpread::BestEffort);
        let placement = Placement::build(algorithm, &members, best).unwrap();
        let weighted: Vec<_> = (0..members.len()).filter(|&at| members[at].weight > 0).collect();
        for ((token, order), (_, by_preference)) in orders(&placement).zip(orders(&plain)) {
            prop_assert_eq!(&order, &spread_out(&by_preference, &members, factor.into()));
            prop_assert_eq!(order[0], placement.owner(token));
            let mut sorted: Vec<_> = order.iter().map(|member| member.as_usize()).collect();
            sorted.sort_unstable();
            prop_assert_eq!(&sorted, &weighted);
        }
        let total: f64 = placement.ownership().iter().sum();
        prop_assert!((total - 1.0).abs() < 1e-9);
    }
}
