//! Pure: the order in which a shard's nodes are tried for a key.
//!
//! With [`Prefer::Key`] each key has its own first node, so that a shard's nodes share its reads,
//! and every sidecar chooses alike: the node with the highest score first, where
//! `score = mix(token XOR seed)`, `seed = XXH3_64(node id)` and `mix` is the finalizer of
//! `SplitMix64` (Steele, Lea, Flood, 2014). That is rendezvous hashing (Thaler and Ravishankar,
//! 1998): when a node leaves, only its own keys choose anew.

use xxhash_rust::xxh3::xxh3_64;

use super::Prefer;
use crate::placement::Token;

/// The most nodes of one shard: the bound of an order, and more than any replica set has.
pub const NODES_PER_SHARD_MAX: usize = 16;

/// What stands for a node when its place in an order is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeSeed(u64);

/// Places of nodes in their shard, the first to try first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    places: [u8; NODES_PER_SHARD_MAX],
    len: u8,
    next: u8,
}

impl NodeSeed {
    /// The seed of the node `id`.
    pub fn new(id: &str) -> Self {
        Self(xxh3_64(id.as_bytes()))
    }

    fn score(self, token: u64) -> u64 {
        let mixed = token ^ self.0;
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
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
        if prefer == Prefer::Key && places.len() > 1 {
            // Insertion keeps the written order of equal scores.
            let score = |place: u8| seeds[usize::from(place)].score(token.as_u64());
            places.sort_by_key(|place| std::cmp::Reverse(score(*place)));
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
        let seeds: Vec<_> = ids.iter().map(|id| NodeSeed::new(id)).collect();
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

    /// Every sidecar must order alike: these values may never change.
    #[test]
    fn golden_orders() {
        let ids = ["users-0a", "users-0b", "users-0c"];
        let orders: Vec<_> = [0, 1, 0xdead_beef, u64::MAX]
            .map(|token| order(Prefer::Key, token, &ids))
            .into();
        assert_eq!(orders, GOLDEN);
    }

    const GOLDEN: [[usize; 3]; 4] = [[2, 0, 1], [1, 0, 2], [2, 0, 1], [0, 2, 1]];
}
