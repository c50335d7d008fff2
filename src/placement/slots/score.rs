//! Pure: how much each member wants each slot.
//!
//! Sections 2 and 3 of the specification. All members are numbered by [`Rank`] here, so that the
//! order in which they were given cannot matter.

use std::sync::OnceLock;

use xxhash_rust::xxh3::xxh3_64;

use super::super::{Member, MemberIndex, SlotBits};

/// Rounds of a permutation: over 256 slots two members agree in one place on average, with a
/// variance of 1.05 (1 were random); after two rounds it is 1.7, after one 29.
const ROUNDS: usize = 3;

/// The step between the inputs of [`mix`], as in `SplitMix64`: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The scores of the members of a placement for all its slots.
#[derive(Clone)]
pub(super) struct Scores {
    bits: SlotBits,
    /// The scores of weight 1 by preference, before jitter: the sum of the strata before each.
    strata: &'static [u64],
    scorers: Box<[Scorer]>,
}

/// A member's position among those with a weight above 0, ordered by the bytes of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u16);

impl Rank {
    pub(super) const FIRST: Self = Self(0);

    pub(super) const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// What orders the members for a slot: the 48 bits of the score, then the rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    /// Greater than the key of any member, as none has rank 65 535.
    pub(super) const MAX: Self = Self(u64::MAX);

    const fn new(score: u64, rank: Rank) -> Self {
        Self(score & !0xffff | rank.0 as u64)
    }

    /// Below it lie some `expected` members of each slot, when all weights sum up to `weight`.
    pub(super) fn bound(expected: u64, weight: u64) -> Self {
        Self(expected.saturating_mul((1 << 60) / weight))
    }

    /// A bound a quarter farther.
    pub(super) const fn grown(self) -> Self {
        Self(self.0.saturating_add((self.0 >> 2) + 1))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the rank is the low 16 bits"
    )]
    pub(super) const fn rank(self) -> Rank {
        Rank(self.0 as u16)
    }
}

impl Scores {
    pub(super) fn new(bits: SlotBits, members: &[Member]) -> Self {
        let mut scorers: Vec<_> = members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.weight > 0)
            .map(|(index, member)| Scorer::new(MemberIndex::at(index), member, bits))
            .collect();
        scorers.sort_unstable_by_key(|scorer| &members[scorer.member.as_usize()].name);
        Self {
            bits,
            strata: strata(bits),
            scorers: scorers.into(),
        }
    }

    pub(super) fn bits(&self) -> SlotBits {
        self.bits
    }

    /// The members by rank.
    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = MemberIndex> {
        self.scorers.iter().map(|scorer| scorer.member)
    }

    pub(super) fn member(&self, rank: Rank) -> MemberIndex {
        self.scorers[rank.as_usize()].member
    }

    /// The members' weights by rank.
    pub(super) fn weights(&self) -> impl ExactSizeIterator<Item = u16> {
        self.scorers.iter().map(|scorer| scorer.weight)
    }

    pub(super) fn ranks(&self) -> impl Iterator<Item = Rank> + use<> {
        let end = u16::try_from(self.scorers.len()).expect("a checked roster must fit 16 bits");
        (0..end).map(Rank)
    }

    /// The slot that is `preference` in the order of the member `rank`.
    pub(super) fn slot(&self, rank: Rank, preference: u32) -> u32 {
        self.scorers[rank.as_usize()].permutation.apply(preference)
    }

    /// Where `slot` is in the order of the member `rank`.
    pub(super) fn preference(&self, rank: Rank, slot: u32) -> u32 {
        self.scorers[rank.as_usize()].permutation.invert(slot)
    }

    /// The key of the member `rank` for the slot that is `preference` in its order.
    ///
    /// For one member it does not fall as `preference` grows.
    pub(super) fn key(&self, rank: Rank, preference: u32) -> Key {
        let scorer = &self.scorers[rank.as_usize()];
        let start = self.strata[preference as usize];
        let stratum = self.strata[preference as usize + 1] - start;
        let jitter = mix(scorer
            .jitter
            .wrapping_add(GOLDEN.wrapping_mul(preference.into())));
        let score = high(start + high(stratum, jitter), scorer.inverse_weight);
        Key::new(score, rank)
    }

    /// Fills `keys` with those of the member `rank` for the slots from `start` on.
    pub(super) fn fill(&self, rank: Rank, start: u32, keys: &mut [Key]) {
        for (slot, key) in (start..).zip(keys) {
            *key = self.key(rank, self.preference(rank, slot));
        }
    }

    /// How many keys of the member `rank` lie below `bound`: the first ones in its order.
    pub(super) fn below(&self, rank: Rank, bound: Key) -> u32 {
        let inverse_weight = self.scorers[rank.as_usize()].inverse_weight;
        // Of all before the last of these the next stratum begins below the bound, and they end there.
        let starts = &self.strata[..self.bits.slots() as usize];
        let begun =
            starts.partition_point(|start| Key::new(high(*start, inverse_weight), rank) < bound);
        let begun = u32::try_from(begun).expect("slots must fit 32 bits");
        let is_beyond = |last: &u32| self.key(rank, *last) >= bound;
        begun.checked_sub(1).filter(is_beyond).unwrap_or(begun)
    }

    /// All members in the order of `slot`.
    pub(super) fn ranked(&self, slot: u32) -> Vec<Rank> {
        let mut keys = self.keys(slot);
        keys.sort_unstable();
        keys.into_iter().map(Key::rank).collect()
    }

    /// The keys of the first `count` of [`ranked`](Self::ranked), in order.
    pub(super) fn first(&self, slot: u32, count: usize) -> Vec<Key> {
        let mut keys = self.keys(slot);
        if count < keys.len() {
            keys.select_nth_unstable(count);
            keys.truncate(count);
        }
        keys.sort_unstable();
        keys
    }

    fn keys(&self, slot: u32) -> Vec<Key> {
        self.ranks()
            .map(|rank| self.key(rank, self.preference(rank, slot)))
            .collect()
    }
}

/// What the scores of one member hang on.
#[derive(Clone, Debug)]
struct Scorer {
    member: MemberIndex,
    weight: u16,
    inverse_weight: u64,
    jitter: u64,
    permutation: Permutation,
}

impl Scorer {
    fn new(index: MemberIndex, member: &Member, bits: SlotBits) -> Self {
        let identity = xxh3_64(member.name.as_bytes());
        Self {
            member: index,
            weight: member.weight,
            inverse_weight: u64::MAX / u64::from(member.weight),
            jitter: mix(identity),
            permutation: Permutation::new(identity, bits),
        }
    }
}

/// A member's order of all slots: a bijection on the numbers of `bits` bits.
#[derive(Clone, Debug)]
struct Permutation {
    mask: u32,
    shift: u32,
    rounds: [Round; ROUNDS],
}

#[derive(Clone, Copy, Debug)]
struct Round {
    add: u32,
    multiply: u32,
    /// The inverse of `multiply` modulo 2^32.
    divide: u32,
}

impl Permutation {
    fn new(identity: u64, bits: SlotBits) -> Self {
        let mask = bits.slots() - 1;
        let mut round = 0;
        let rounds = [(); ROUNDS].map(|()| {
            round += 1;
            Round::new(mix(identity.wrapping_add(GOLDEN.wrapping_mul(round))), mask)
        });
        Self {
            mask,
            shift: u32::from(bits.bits()).div_ceil(2),
            rounds,
        }
    }

    fn apply(&self, preference: u32) -> u32 {
        self.rounds.iter().fold(preference, |x, round| {
            let x = x.wrapping_add(round.add).wrapping_mul(round.multiply) & self.mask;
            x ^ x >> self.shift
        })
    }

    /// The shift is at least half of the bits, so that shifting and adding it undoes itself.
    fn invert(&self, slot: u32) -> u32 {
        self.rounds.iter().rev().fold(slot, |x, round| {
            let x = x ^ x >> self.shift;
            x.wrapping_mul(round.divide).wrapping_sub(round.add) & self.mask
        })
    }
}

impl Round {
    /// The multiplier is 5 modulo 8, which excludes 1, -1 and all others of short period.
    fn new(key: u64, mask: u32) -> Self {
        let half = |bits: u64| {
            (bits & u64::from(mask))
                .try_into()
                .expect("a mask must fit 32 bits")
        };
        let (low, add): (u32, u32) = (half(key), half(key >> 32));
        let multiply = low & !7 | 5;
        Self {
            add,
            multiply,
            divide: inverse(multiply),
        }
    }
}

/// The inverse of an odd number modulo 2^32, by Newton's iteration: each step doubles the bits
/// that are right, of which an odd number has three as its own inverse.
fn inverse(odd: u32) -> u32 {
    (0..4).fold(odd, |x, _| {
        x.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(x)))
    })
}

/// Where the strata of an exponential distribution begin, in units of 2^-60, and the last one's
/// end: the expected values of its ordered samples, one for each slot.
///
/// All placements of as many slots share them: they are larger than all else of a placement.
fn strata(bits: SlotBits) -> &'static [u64] {
    static STRATA: [OnceLock<Box<[u64]>>; SlotBits::MAX.bits() as usize + 1] =
        [const { OnceLock::new() }; _];
    STRATA[usize::from(bits.bits())].get_or_init(|| {
        let slots = u64::from(bits.slots());
        let mut sum = 0;
        let ends = (0..slots).map(|before| {
            sum += (1 << 60) / (slots - before);
            sum
        });
        std::iter::once(0).chain(ends).collect()
    })
}

/// The upper half of a product.
fn high(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014, variant 13 of Stafford's mixers).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_are_bijections_and_invert_themselves() {
        for bits in 8..=20 {
            let bits = SlotBits::new(bits).unwrap();
            for name in ["a", "users-0", ""] {
                let permutation = Permutation::new(xxh3_64(name.as_bytes()), bits);
                let mut seen = vec![false; bits.slots() as usize];
                for preference in 0..bits.slots() {
                    let slot = permutation.apply(preference);
                    assert!(
                        !std::mem::replace(&mut seen[slot as usize], true),
                        "{name} {bits:?}"
                    );
                    assert_eq!(permutation.invert(slot), preference, "{name} {bits:?}");
                }
            }
        }
    }

    /// The places in which two random orders agree are Poisson distributed, with mean 1.
    #[test]
    fn permutations_of_different_members_are_independent() {
        let bits = SlotBits::MIN;
        let order = |member| {
            let permutation = Permutation::new(mix(member), bits);
            (0..bits.slots())
                .map(|place| permutation.apply(place))
                .collect::<Vec<_>>()
        };
        let orders: Vec<_> = (0..400).map(order).collect();
        let (mut sum, mut squares, mut pairs) = (0.0, 0.0, 0.0);
        for (at, one) in orders.iter().enumerate() {
            for other in &orders[..at] {
                let same = one.iter().zip(other).filter(|(a, b)| a == b).count();
                let same = f64::from(u32::try_from(same).unwrap());
                (sum, squares, pairs) = (sum + same, squares + same * same, pairs + 1.0);
            }
        }
        let (mean, variance) = (sum / pairs, squares / pairs - (sum / pairs).powi(2));
        assert!((0.97..1.03).contains(&mean), "{mean}");
        assert!((0.9..1.2).contains(&variance), "{variance}");
    }

    #[test]
    fn what_lies_below_a_bound_is_counted() {
        let bits = SlotBits::MIN;
        let member = |weight| Member {
            name: "a".to_owned(),
            weight,
            ..Member::default()
        };
        for weight in [1, 7, 65_535] {
            let scores = Scores::new(bits, &[member(weight)]);
            let keys: Vec<_> = (0..bits.slots())
                .map(|it| scores.key(Rank(0), it))
                .collect();
            let bounds = keys
                .iter()
                .flat_map(|key| [*key, Key(key.0 + 1), key.grown()]);
            for bound in bounds.chain([Key(0), Key::MAX]) {
                let below = keys.iter().filter(|it| **it < bound).count();
                assert_eq!(scores.below(Rank(0), bound) as usize, below);
            }
        }
    }

    #[test]
    fn scores_do_not_fall_along_a_members_order_and_fit() {
        let bits = SlotBits::MAX;
        assert!(strata(bits).is_sorted() && strata(bits).len() == 1 << 20 | 1);
        for weight in [1, 2, 65_535] {
            let member = Member {
                name: "a".to_owned(),
                weight,
                ..Member::default()
            };
            let scores = Scores::new(bits, &[member]);
            assert!((0..bits.slots()).is_sorted_by_key(|place| scores.key(Rank(0), place)));
        }
    }
}
