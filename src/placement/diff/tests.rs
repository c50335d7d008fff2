//! Pure: the diff against sampled owners and against what no placement can do better.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::{Algorithm, Member, Replication, SlotBits, Token};
use super::*;

fn build(bits: Option<u8>, members: &[Member]) -> Placement {
    let algorithm = match bits {
        Some(bits) => Algorithm::Slots {
            bits: SlotBits::new(bits).unwrap(),
        },
        None => Algorithm::Ketama,
    };
    Placement::build(algorithm, members, Replication::NONE).unwrap()
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let shape = prop::collection::hash_map(0..30_u16, 1..4_u16, 1..20);
    shape.prop_map(|shape| {
        let member = |(id, weight)| Member {
            name: format!("m{id}"),
            weight,
            hash_key: Some(format!("10.0.0.{id}:80")),
            zone: None,
        };
        shape.into_iter().map(member).collect()
    })
}

fn owner(placement: &Placement, token: Token) -> &str {
    &placement.names()[placement.owner(token).as_usize()]
}

/// The movement that the shares alone make necessary.
fn ideal(old: &Placement, new: &Placement) -> f64 {
    let shares: HashMap<_, _> = old.names().iter().zip(old.ownership()).collect();
    let gain =
        |(name, share): (&String, f64)| (share - shares.get(name).copied().unwrap_or(0.0)).max(0.0);
    new.names().iter().zip(new.ownership()).map(gain).sum()
}

/// What each pair gains, by looking up the owners at `tokens`.
fn sampled(old: &Placement, new: &Placement, tokens: &[u64]) -> HashMap<(String, String), f64> {
    let mut pairs = HashMap::new();
    let each = 1.0 / f64::from(u32::try_from(tokens.len()).unwrap());
    for &token in tokens {
        let (from, to) = (owner(old, Token::new(token)), owner(new, Token::new(token)));
        if from != to {
            *pairs.entry((from.to_owned(), to.to_owned())).or_default() += each;
        }
    }
    pairs
}

fn assert_close(diff: &Diff, sampled: &HashMap<(String, String), f64>, error: f64) {
    let pairs: HashMap<_, _> = diff
        .pairs
        .iter()
        .map(|it| ((it.from.clone(), it.to.clone()), it.fraction))
        .collect();
    for pair in pairs.keys().chain(sampled.keys()).collect::<HashSet<_>>() {
        let of = |pairs: &HashMap<_, f64>| pairs.get(pair).copied().unwrap_or(0.0);
        assert!(
            (of(&pairs) - of(sampled)).abs() <= error,
            "{pair:?} of {diff:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn holds_what_every_diff_must(
        old in members(), new in members(),
        bits in (prop::option::of(8..12_u8), prop::option::of(8..12_u8)),
    ) {
        let (old, new) = (build(bits.0, &old), build(bits.1, &new));
        let there = diff(&old, &new);
        let back = diff(&new, &old);
        let sum: f64 = there.pairs.iter().map(|pair| pair.fraction).sum();
        prop_assert!((sum - there.moved).abs() < 1e-12);
        prop_assert!((moved(&old, &new) - there.moved).abs() < 1e-12);
        prop_assert!((there.moved - back.moved).abs() < 1e-12);
        prop_assert!(there.moved >= ideal(&old, &new) - 1e-12);
        prop_assert!(there.pairs.iter().all(|pair| pair.from != pair.to && pair.fraction > 0.0));
        prop_assert!(there.pairs.is_sorted_by(|a, b| a.fraction >= b.fraction));
    }

    #[test]
    fn equals_the_owners_of_all_slots(
        old in members(), new in members(), bits in (8..12_u8, 8..12_u8),
    ) {
        let (old, new) = (build(Some(bits.0), &old), build(Some(bits.1), &new));
        let tokens: Vec<_> = (0..1_u64 << 12).map(|slot| slot << 52).collect();
        assert_close(&diff(&old, &new), &sampled(&old, &new, &tokens), 1e-12);
    }

    #[test]
    fn approaches_the_owners_of_many_ketama_tokens(old in members(), new in members()) {
        let (old, new) = (build(None, &old), build(None, &new));
        let tokens: Vec<_> = (0..1_u64 << 13).map(|at| at << 19).collect();
        assert_close(&diff(&old, &new), &sampled(&old, &new, &tokens), 0.02);
    }
}

#[test]
fn nothing_moves_between_equal_placements() {
    for bits in [Some(8), None] {
        let member = |id| Member {
            name: format!("m{id}"),
            weight: 1,
            hash_key: Some(format!("10.0.0.{id}:80")),
            zone: None,
        };
        let members: Vec<_> = (0..9).map(member).collect();
        let mut reversed = members.clone();
        reversed.reverse();
        assert_eq!(
            diff(&build(bits, &members), &build(bits, &reversed)),
            Diff::default()
        );
    }
}

#[test]
fn between_algorithms_owners_are_independent() {
    let member = |id: u16| Member {
        name: format!("m{id}"),
        weight: 1 + id,
        hash_key: Some(format!("10.0.0.{id}:80")),
        zone: None,
    };
    let (old, new) = (
        build(Some(8), &[member(0), member(1)]),
        build(None, &[member(1), member(2)]),
    );
    let diff = diff(&old, &new);
    let same = old.ownership()[1] * new.ownership()[0];
    assert!((diff.moved - (1.0 - same)).abs() < 1e-12);
    assert_eq!(diff.pairs.len(), 3);
}
