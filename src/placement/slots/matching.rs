//! Pure: who owns each slot, so that no member owns too many.
//!
//! Section 4 of the specification, by deferred acceptance (Gale and Shapley 1962): each slot asks
//! the members in its order, and a member that holds too many slots sends the one that it wants
//! least to ask the next. The outcome does not depend on who asks when.

use std::collections::{BinaryHeap, HashMap};

use super::prefixes::Prefixes;
use super::score::{Key, Rank, Scores};

/// So many times what was needed of an order is ranked at once.
const LONGER: usize = 4;

/// The owner of each slot.
pub(super) fn owners(scores: &Scores, prefixes: &Prefixes) -> Vec<Rank> {
    let mut held: Vec<Held> = caps(scores).into_iter().map(Held::new).collect();
    let mut orders = Orders {
        scores,
        prefixes,
        asked: vec![0; slots(scores)],
        longer: HashMap::new(),
    };
    for slot in 0..scores.bits().slots() {
        let mut asking = Some(slot);
        while let Some(slot) = asking {
            let rank = orders.next(slot);
            asking = held[rank.as_usize()].offer(scores.preference(rank, slot), slot);
        }
    }
    let mut owners = vec![None; slots(scores)];
    for (rank, held) in scores.ranks().zip(held) {
        for (_, slot) in held.slots {
            owners[slot as usize] = Some(rank);
        }
    }
    owners
        .into_iter()
        .map(|owner| owner.expect("caps must leave room for every slot"))
        .collect()
}

fn slots(scores: &Scores) -> usize {
    scores.bits().slots() as usize
}

/// How many slots each member may own: 105 % of its share rounded down, or its share rounded up
/// when that is more.
pub(super) fn caps(scores: &Scores) -> Vec<usize> {
    let slots = slots(scores) as u64;
    let total: u64 = scores.weights().map(u64::from).sum();
    let cap = |weight: u16| {
        let share = slots * u64::from(weight);
        share.div_ceil(total).max(share * 105 / (total * 100))
    };
    let caps = scores.weights().map(cap);
    caps.map(|cap| cap.try_into().expect("a cap must not exceed the slots"))
        .collect()
}

/// The slots that a member holds, the one that it wants least on top.
struct Held {
    cap: usize,
    slots: BinaryHeap<(u32, u32)>,
}

impl Held {
    fn new(cap: usize) -> Self {
        Self {
            cap,
            slots: BinaryHeap::with_capacity(cap + 1),
        }
    }

    /// Takes `slot`, and returns one that is too many.
    fn offer(&mut self, preference: u32, slot: u32) -> Option<u32> {
        self.slots.push((preference, slot));
        let full = self.slots.len() > self.cap;
        full.then(|| self.slots.pop())
            .flatten()
            .map(|(_, slot)| slot)
    }
}

/// How far each slot has got in its order.
struct Orders<'a> {
    scores: &'a Scores,
    prefixes: &'a Prefixes,
    asked: Vec<u16>,
    /// Longer prefixes of those that were needed beyond theirs.
    longer: HashMap<u32, Vec<Key>>,
}

impl Orders<'_> {
    /// The member that `slot` asks next.
    fn next(&mut self, slot: u32) -> Rank {
        let asked = &mut self.asked[slot as usize];
        let at = usize::from(*asked);
        *asked += 1;
        if let Some(key) = self.prefixes.of(slot).get(at) {
            return key.rank();
        }
        let longer = self.longer.entry(slot).or_default();
        if at >= longer.len() {
            // The next ones are rarely full too: to sort all members costs more than to look again.
            *longer = self.scores.first(slot, LONGER * (at + 1));
        }
        longer[at].rank()
    }
}
