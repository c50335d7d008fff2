//! Pure: the members that want each slot most.

use super::score::{Key, Rank, Scores};

/// Up to so many members each slot's are ranked at once: sweeps write all over the table, which
/// costs more than a key until some sixteen keys a slot are saved.
const RANKED_WHOLE: usize = 16;

/// How many slots that is done for at a time: no more than there are, and no more than stay in the
/// nearest cache with all their keys.
const RANKED_AT_ONCE: usize = 128;

/// One slot in so many may be left to direct ranking when the sweeps end.
const LEFT_OVER: usize = 256;

/// The first `depth` members of each slot, in order.
pub(super) struct Prefixes {
    depth: usize,
    ranks: Vec<Rank>,
}

impl Prefixes {
    /// The prefixes of all slots, as [`Scores::ranked`] has them.
    pub(super) fn new(scores: &Scores, depth: usize) -> Self {
        if scores.members().len() <= RANKED_WHOLE {
            Self::ranked_whole(scores, depth)
        } else {
            Self::swept(scores, depth)
        }
    }

    /// The first members of `slot`.
    pub(super) fn of(&self, slot: u32) -> &[Rank] {
        &self.ranks[slot as usize * self.depth..][..self.depth]
    }

    /// The first member of each slot.
    pub(super) fn firsts(&self) -> impl Iterator<Item = Rank> {
        self.ranks.iter().step_by(self.depth).copied()
    }

    /// Some slots at a time, from the keys of all members.
    fn ranked_whole(scores: &Scores, depth: usize) -> Self {
        let slots = scores.bits().slots();
        let mut ranks = vec![Rank::FIRST; slots as usize * depth];
        let mut kept = vec![[Key::MAX; RANKED_AT_ONCE]; depth];
        let starts = (0..slots).step_by(RANKED_AT_ONCE);
        let pieces = ranks.chunks_exact_mut(RANKED_AT_ONCE * depth);
        for (start, ranks) in starts.zip(pieces) {
            for (before, rank) in scores.ranks().enumerate() {
                let mut keys = [Key::MAX; RANKED_AT_ONCE];
                scores.fill(rank, start, &mut keys);
                // Where it goes cannot be foreseen: this sorts without a branch.
                for kept in &mut kept[..depth.min(before + 1)] {
                    for (kept, key) in kept.iter_mut().zip(&mut keys) {
                        (*kept, *key) = (*key.min(kept), *key.max(kept));
                    }
                }
            }
            for (place, kept) in kept.iter_mut().enumerate() {
                let ranks = ranks.iter_mut().skip(place).step_by(depth);
                for (rank, key) in ranks.zip(&*kept) {
                    *rank = key.rank();
                }
                kept.fill(Key::MAX);
            }
        }
        Self { depth, ranks }
    }

    /// Member by member.
    fn swept(scores: &Scores, depth: usize) -> Self {
        let keys = Sweep::new(scores, depth).keys;
        Self {
            depth,
            ranks: keys.into_iter().map(Key::rank).collect(),
        }
    }
}

/// The first `depth` keys of each slot, in order, as far as they are known.
struct Sweep {
    depth: usize,
    keys: Vec<Key>,
}

impl Sweep {
    /// Every member hands in its keys below a common bound. A slot that then has `depth` keys has
    /// its first ones, as all others lie above the bound, and is closed: that it is known without
    /// a look at its keys saves most of the cache misses. The bound grows until few slots are open.
    fn new(scores: &Scores, depth: usize) -> Self {
        let slots = scores.bits().slots() as usize;
        let mut sweep = Self {
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
                        sweep.insert(slot, scores.key(rank, preference));
                    }
                }
                *swept = below;
            }
            let mut short = 0;
            for (open, keys) in open.iter_mut().zip(sweep.keys.chunks_exact(depth)) {
                *open = is_short(keys);
                short += usize::from(*open);
            }
            if short <= slots / LEFT_OVER {
                break;
            }
            bound = bound.grown();
        }
        sweep.rank_short(scores);
        sweep
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
    let weight = scores.weights().map(u64::from).sum();
    Key::bound(depth.div_ceil(2) as u64, weight)
}
