//! Pure: the slot table against its oracle, its golden vectors and the figures it promises.

use proptest::prelude::*;
use serde_json::Value;

use super::super::tests::{count, equal, names};
use super::super::{Algorithm, Placement, Replication, moved};
use super::*;

const FIGURES: [usize; 4] = [3, 10, 100, 1000];

fn slots(members: &[Member]) -> Placement {
    let algorithm = Algorithm::Slots {
        bits: SlotBits::default(),
    };
    Placement::build(algorithm, members, Replication::NONE).unwrap()
}

/// The largest and the smallest ownership as multiples of `weight`'s share.
fn extremes(placement: &Placement, members: &[Member], weight: u16) -> (f64, f64) {
    let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
    let share = f64::from(weight) / total;
    let shares = placement.ownership().into_iter().zip(members);
    let ratios = shares
        .filter(|(_, it)| it.weight == weight)
        .map(|(owned, _)| owned / share);
    ratios.fold((f64::MIN, f64::MAX), |(max, min), it| {
        (max.max(it), min.min(it))
    })
}

#[test]
fn places_as_the_golden_vectors_say() {
    let text = include_str!("../../../tests/data/placement/slots.json");
    let topologies: Vec<Value> = serde_json::from_str(text).unwrap();
    let mut vectors = 0;
    for topology in &topologies {
        let bits = SlotBits::new(topology["bits"].as_u64().unwrap().try_into().unwrap()).unwrap();
        let member = |it: &Value| Member {
            name: it[0].as_str().unwrap().to_owned(),
            weight: it[1].as_u64().unwrap().try_into().unwrap(),
            ..Member::default()
        };
        let members: Vec<_> = topology["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(member)
            .collect();
        let algorithm = Algorithm::Slots { bits };
        let placement = Placement::build(algorithm, &members, Replication::NONE).unwrap();
        for vector in topology["vectors"].as_array().unwrap() {
            let key = unhex(vector["key"].as_str().unwrap());
            let token = placement.token(&key);
            let candidates: Vec<_> = names(&placement, placement.candidates(token).take(3));
            assert_eq!(vector["token"], token.to_string(), "{vector}");
            assert_eq!(vector["slot"], placement.slot(token).unwrap(), "{vector}");
            assert_eq!(
                vector["candidates"],
                serde_json::json!(candidates),
                "{vector}"
            );
            vectors += 1;
        }
    }
    assert_eq!(vectors, 273);
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn assert_equals_oracle(members: &[Member], bits: u8) {
    let bits = SlotBits::new(bits).unwrap();
    let algorithm = Algorithm::Slots { bits };
    let placement = Placement::build(algorithm, members, Replication::NONE).unwrap();
    for (slot, expected) in (0..).zip(oracle::candidates(&Scores::new(bits, members))) {
        let token = Token::new(slot << (u64::BITS - u32::from(bits.bits())));
        let candidates: Vec<_> = placement.candidates(token).collect();
        assert_eq!(candidates, expected, "slot {slot} of {members:?}");
        assert_eq!(placement.owner(token), expected[0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_oracle(
        weights in prop::collection::vec((".{0,6}", prop_oneof![0..4_u16, 1..=u16::MAX]), 1..40),
        bits in 8..=10_u8,
    ) {
        let named = weights.into_iter().enumerate();
        let member = |(at, (name, weight))| Member {
            name: format!("{name}{at}"), weight, ..Member::default()
        };
        let members: Vec<_> = named.map(member).collect();
        prop_assume!(members.iter().any(|member| member.weight > 0));
        assert_equals_oracle(&members, bits);
    }
}

#[test]
fn equals_the_oracle_when_every_slot_has_a_member() {
    assert_equals_oracle(&equal(256), 8);
}

#[test]
fn equals_the_oracle_when_one_member_has_nearly_all_weight() {
    let mut members = equal(40);
    members[7].weight = u16::MAX;
    assert_equals_oracle(&members, 8);
}

#[test]
fn no_member_owns_much_more_than_its_share() {
    for count in FIGURES {
        let members = equal(count);
        let (max, _) = extremes(&slots(&members), &members, 1);
        assert!(max <= 1.06, "{count} members: {max}");
    }
}

#[test]
fn weights_are_met() {
    for count in [3, 12, 30] {
        let mut members = equal(count);
        for (member, weight) in members.iter_mut().zip([1, 2, 4].into_iter().cycle()) {
            member.weight = weight;
        }
        let placement = slots(&members);
        for weight in [1, 2, 4] {
            let (max, min) = extremes(&placement, &members, weight);
            assert!(
                max <= 1.08 && min >= 0.92,
                "{count} members, weight {weight}: {min}..{max}"
            );
        }
    }
}

/// Over all members in release builds, as in the bench; debug builds let every fourth leave.
#[test]
fn a_member_that_leaves_moves_its_own_keys_to_their_second_choice() {
    let all = equal(100);
    let before = slots(&all);
    let step = if cfg!(debug_assertions) { 4 } else { 1 };
    let (mut ratios, mut owned, mut kept) = (Vec::new(), 0, 0);
    for leaving in (0..all.len()).step_by(step) {
        let mut rest = all.clone();
        rest.remove(leaving);
        let after = slots(&rest);
        ratios.push(moved(&before, &after) * 100.0);
        for slot in 0..1 << 16 {
            let token = Token::new(slot << 48);
            let first: Vec<_> = names(&before, before.candidates(token).take(2));
            if first[0] == all[leaving].name {
                owned += 1;
                kept += usize::from(names(&after, after.candidates(token).take(1)) == first[1..]);
            }
        }
    }
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let mean = ratios.iter().sum::<f64>() / count(ratios.len());
    let second = count(kept) / count(owned);
    assert!(mean <= 1.03 && worst <= 1.08, "mean {mean}, worst {worst}");
    assert!(second >= 0.99, "{second}");
}

#[test]
fn the_order_of_members_changes_nothing() {
    let members = equal(50);
    let mut reversed = members.clone();
    reversed.reverse();
    let (one, other) = (slots(&members), slots(&reversed));
    assert_eq!(one.fingerprint(), other.fingerprint());
    for slot in 0..1 << 16 {
        let token = Token::new(slot << 48);
        let (one, other) = (
            names(&one, one.candidates(token).take(4)),
            names(&other, other.candidates(token).take(4)),
        );
        assert_eq!(one, other, "slot {slot}");
    }
}

#[test]
fn refuses_more_members_than_slots() {
    let algorithm = Algorithm::Slots {
        bits: SlotBits::MIN,
    };
    let error = Placement::build(algorithm, &equal(257), Replication::NONE).unwrap_err();
    assert_eq!(
        error,
        PlacementError::TooFewSlots {
            members: 257,
            slots: 256
        }
    );
}
