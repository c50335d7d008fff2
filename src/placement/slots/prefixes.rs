//! Pure: the members that want each slot most.

use super::score::{Key, Scores};

/// With fewer members than this the first sweep takes all of them.
const SWEPT_WHOLE: usize = 16;

/// One slot in so many may be left to direct ranking when the sweeps end.
const LEFT_OVER: usize = 256;

/// The first `depth` keys of each slot, in order.
pub(super) struct Prefixes {
    depth: usize,
    keys: Vec<Key>,
}

impl Prefixes {
    /// The prefixes of all slots, as [`Scores::ranked`] has them.
    ///
    /// Every member hands in its keys below a common bound. A slot that then has `depth` keys has
    /// its first ones, as all others lie above the bound, and is closed: that it is known without
    /// a look at its keys saves most of the cache misses. The bound grows until few slots are open.
    pub(super) fn new(scores: &Scores, depth: usize) -> Self {
        let slots = scores.bits().slots() as usize;
        let mut prefixes = Self {
            depth,
            keys: vec![Key::MAX; slots * depth],
        };
        let mut swept = vec![0; scores.members().len()];
        let mut open = vec![true; slots];
        let mut bound = first_bound(scores, depth);
        loop {
            for (rank, swept) in scores.ranks().zip(&mut swept) {
                let below = scores.below(rank, bound);
                for preference in *swept..below {
                    let slot = scores.slot(rank, preference);
                    if open[slot as usize] {
                        prefixes.insert(slot, scores.key(rank, preference));
                    }
                }
                *swept = below;
            }
            let mut short = 0;
            for (open, keys) in open.iter_mut().zip(prefixes.keys.chunks_exact(depth)) {
                *open = is_short(keys);
                short += usize::from(*open);
            }
            if short <= slots / LEFT_OVER {
                break;
            }
            bound = bound.grown();
        }
        prefixes.rank_short(scores);
        prefixes
    }

    /// The first keys of `slot`.
    pub(super) fn of(&self, slot: u32) -> &[Key] {
        &self.keys[slot as usize * self.depth..][..self.depth]
    }

    fn insert(&mut self, slot: u32, key: Key) {
        let keys = &mut self.keys[slot as usize * self.depth..][..self.depth];
        let mut at = self.depth - 1;
        if key >= keys[at] {
            return;
        }
        while at > 0 && keys[at - 1] > key {
            keys[at] = keys[at - 1];
            at -= 1;
        }
        keys[at] = key;
    }

    fn rank_short(&mut self, scores: &Scores) {
        let depth = self.depth;
        for (slot, keys) in (0..).zip(self.keys.chunks_exact_mut(depth)) {
            if is_short(keys) {
                keys.copy_from_slice(&scores.first(slot, depth));
            }
        }
    }
}

fn is_short(keys: &[Key]) -> bool {
    keys.last() == Some(&Key::MAX)
}

fn first_bound(scores: &Scores, depth: usize) -> Key {
    if scores.members().len() < SWEPT_WHOLE {
        return Key::MAX;
    }
    let weight = scores.weights().map(u64::from).sum();
    Key::bound(depth.div_ceil(2) as u64, weight)
}
