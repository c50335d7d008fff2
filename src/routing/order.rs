//! Pure: the order in which a shard's nodes are tried for a key.
//!
//! With [`Prefer::Key`] each key has its own first node, so that a shard's nodes share its reads,
//! and every sidecar chooses alike: the node with the highest score first, where
//! `score = mix(token XOR seed)`, `seed = XXH3_64(node id)` and `mix` is the finalizer of
//! `SplitMix64` (Steele, Lea, Flood, 2014). That is rendezvous hashing (Thaler and Ravishankar,
//! 1998): when a node leaves, only its own keys choose anew.
//!
//! Nodes of different weights are ordered by `-log2(score / 2^64) / weight`, the lowest first, which
//! gives each its weight's share of first places (Schindelhauer and Schomaker, *Weighted distributed
//! hash tables*, 2005). The logarithm is an integer's, so that every platform orders alike.

use xxhash_rust::xxh3::xxh3_64;

use super::Prefer;
use crate::placement::Token;

/// The most nodes of one shard: the bound of an order, and more than any replica set has.
pub const NODES_PER_SHARD_MAX: usize = 16;

/// What stands for a node when its place in an order is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSeed {
    hash: u64,
    weight: u16,
}

/// Places of nodes in their shard, the first to try first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    places: [u8; NODES_PER_SHARD_MAX],
    len: u8,
    next: u8,
}

impl NodeSeed {
    /// The seed of the node `id`, which gets first places by its `weight`: none when that is 0.
    pub fn new(id: &str, weight: u16) -> Self {
        let hash = xxh3_64(id.as_bytes());
        Self { hash, weight }
    }

    /// Its weight.
    pub fn weight(self) -> u16 {
        self.weight
    }

    /// Whether the key that hashes to `token` is among the first `share` of those that the node gets:
    /// as the share grows a key comes once, and stays.
    pub fn takes(self, token: Token, share: f64) -> bool {
        // Another hash than the score, which is high for the node's own keys.
        let place = mix(self.score(token.as_u64()) ^ !self.hash);
        #[expect(clippy::cast_precision_loss, reason = "2^-53 of a share is none")]
        let place = place as f64 / u64::MAX as f64;
        place < share
    }

    fn score(self, token: u64) -> u64 {
        mix(token ^ self.hash)
    }

    /// How far back a node of this weight stands: the lowest is the first.
    fn distance(self, token: u64) -> u64 {
        // 64 bits before the point's 20, less the logarithm: at most 2^26, so that 2^37 fit above.
        let below_one = (64 << LOG2_BITS) - log2(self.score(token) | 1);
        match self.weight {
            0 => u64::MAX,
            weight => (below_one << 37) / u64::from(weight),
        }
    }
}

/// Bits behind the point of [`log2`].
const LOG2_BITS: u32 = 20;

/// The binary logarithm of `number`, digit by digit (Knuth, *The Art of Computer Programming* 1,
/// exercise 1.2.2-25).
fn log2(number: u64) -> u64 {
    let whole = number.ilog2();
    // A number from 1 below 2, with 63 bits behind the point.
    let mut rest = u128::from(number << (63 - whole));
    let mut log = u64::from(whole);
    for _ in 0..LOG2_BITS {
        rest = (rest * rest) >> 63;
        let digit = rest >> 64;
        rest >>= digit;
        log = (log << 1) | u64::from(digit != 0);
    }
    log
}

/// The finalizer of `SplitMix64`.
fn mix(bits: u64) -> u64 {
    let mixed = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Order {
    /// The order of the nodes with these `seeds` for the key that hashes to `token`; nodes beyond
    /// [`NODES_PER_SHARD_MAX`] have no place.
    pub fn of(prefer: Prefer, token: Token, seeds: &[NodeSeed]) -> Self {
        let mut order = Self::default();
        for (place, _) in (0_u8..).zip(seeds).take(NODES_PER_SHARD_MAX) {
            order.places[usize::from(place)] = place;
            order.len = place + 1;
        }
        let places = &mut order.places[..usize::from(order.len)];
        if prefer == Prefer::Order || places.len() < 2 {
            return order;
        }
        // Insertion keeps the written order of equal scores.
        let seed = |place: u8| seeds[usize::from(place)];
        if seeds.iter().any(|it| it.weight != seeds[0].weight) {
            places.sort_by_key(|place| seed(*place).distance(token.as_u64()));
        } else {
            places.sort_by_key(|place| std::cmp::Reverse(seed(*place).score(token.as_u64())));
        }
        order
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = (self.next < self.len).then(|| self.places[usize::from(self.next)])?;
        self.next += 1;
        Some(place.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(prefer: Prefer, token: u64, ids: &[&str]) -> Vec<usize> {
        let seeds: Vec<_> = ids.iter().map(|id| NodeSeed::new(id, 1)).collect();
        Order::of(prefer, Token::new(token), &seeds).collect()
    }

    #[test]
    fn as_written_is_as_written() {
        assert_eq!(order(Prefer::Order, 7, &["b", "a", "c"]), [0, 1, 2]);
        assert!(order(Prefer::Key, 7, &[]).is_empty());
    }

    #[test]
    fn each_key_has_its_own_first_node() {
        let mut first = [0; 3];
        for token in 0..30_000 {
            let order = order(Prefer::Key, token << 32, &["a", "b", "c"]);
            first[order[0]] += 1;
        }
        assert!(
            first.iter().all(|it| (9_500..10_500).contains(it)),
            "{first:?}"
        );
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_keys() {
        let (three, two) = (["a", "b", "c"], ["a", "b"]);
        for token in 0..1000 {
            let names: Vec<_> = order(Prefer::Key, token, &three)
                .iter()
                .map(|it| three[*it])
                .collect();
            let without: Vec<_> = names.into_iter().filter(|it| *it != "c").collect();
            let left: Vec<_> = order(Prefer::Key, token, &two)
                .iter()
                .map(|it| two[*it])
                .collect();
            assert_eq!(without, left);
        }
    }

    fn first_places(weights: [u16; 3]) -> [u32; 3] {
        let names = ["a", "b", "c"];
        let seeds = std::array::from_fn::<_, 3, _>(|at| NodeSeed::new(names[at], weights[at]));
        let mut first = [0; 3];
        for token in 0..40_000 {
            let mut order = Order::of(Prefer::Key, Token::new(mix(token)), &seeds);
            first[order.next().unwrap()] += 1;
        }
        first
    }

    #[test]
    fn a_weight_is_a_share_of_first_places() {
        let [a, b, c] = first_places([1, 2, 1]);
        assert!(
            (9_600..10_400).contains(&a) && (9_600..10_400).contains(&c),
            "{a} {c}"
        );
        assert!((19_600..20_400).contains(&b), "{b}");
        let [a, b, c] = first_places([300, 100, 0]);
        assert!(
            (29_600..30_400).contains(&a) && (9_600..10_400).contains(&b),
            "{a} {b}"
        );
        assert_eq!(c, 0);
    }

    #[test]
    fn weights_that_are_equal_change_nothing() {
        for token in 0..1000 {
            let order = |weight| {
                let seeds = ["a", "b", "c"].map(|id| NodeSeed::new(id, weight));
                Order::of(Prefer::Key, Token::new(mix(token)), &seeds)
            };
            assert_eq!(order(1), order(7));
        }
    }

    #[test]
    fn logarithms() {
        assert_eq!(log2(1), 0);
        assert_eq!(log2(1 << 63), 63 << LOG2_BITS);
        for number in [3, 1000, 0xdead_beef, u64::MAX] {
            #[expect(clippy::cast_precision_loss, reason = "compared to some digits")]
            let (found, expected) = (
                log2(number) as f64 / f64::from(1 << LOG2_BITS),
                (number as f64).log2(),
            );
            assert!(
                (found - expected).abs() < 1e-5,
                "{number}: {found} {expected}"
            );
        }
    }

    #[test]
    fn a_key_comes_once_as_a_share_grows() {
        let seed = NodeSeed::new("a", 1);
        let mut taken = 0;
        for token in (0..4000).map(|it| Token::new(mix(it))) {
            let shares = [0.0, 0.1, 0.25, 0.5, 0.9, 1.0].map(|it| seed.takes(token, it));
            assert!(shares.is_sorted());
            assert!(!shares[0] && shares[5]);
            taken += u32::from(shares[2]);
        }
        assert!((900..1100).contains(&taken), "{taken}");
    }

    /// Every sidecar must order alike: these values may never change.
    #[test]
    fn golden_orders() {
        let ids = ["users-0a", "users-0b", "users-0c"];
        let orders: Vec<_> = [0, 1, 0xdead_beef, u64::MAX]
            .map(|token| order(Prefer::Key, token, &ids))
            .into();
        assert_eq!(orders, GOLDEN);
    }

    /// The same with weights.
    #[test]
    fn golden_orders_by_weight() {
        let seeds = [("users-0a", 1), ("users-0b", 3), ("users-0c", 65535)];
        let seeds = seeds.map(|(id, weight)| NodeSeed::new(id, weight));
        let orders: Vec<Vec<_>> = [0, 1, 0xdead_beef, u64::MAX]
            .map(|token| Order::of(Prefer::Key, Token::new(token), &seeds).collect())
            .into();
        assert_eq!(orders, [[2, 0, 1], [2, 1, 0], [2, 0, 1], [2, 1, 0]]);
    }

    const GOLDEN: [[usize; 3]; 4] = [[2, 0, 1], [1, 0, 2], [2, 0, 1], [0, 2, 1]];
}
