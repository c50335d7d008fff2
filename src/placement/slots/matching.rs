//! Pure: who owns each slot, so that no member owns too many.
//!
//! Section 4 of the specification, by deferred acceptance (Gale and Shapley 1962): each slot asks
//! the members in its order, and a member that holds too many slots sends the one that it wants
//! least to ask the next. The outcome does not depend on who asks when, so that all ask in rounds, and
//! a member looks once a round at whom to send on.

use std::collections::HashMap;

use super::prefixes::Prefixes;
use super::score::{Key, Rank, Scores};

/// So many times what was needed of an order is ranked at once.
const LONGER: usize = 4;

/// The owner of each slot.
pub(super) fn owners(scores: &Scores, prefixes: &Prefixes) -> Vec<Rank> {
    let caps = caps(scores);
    let firsts: Vec<Rank> = prefixes.firsts().collect();
    if suffice(&caps, &firsts) {
        return firsts;
    }
    let mut held: Vec<Held> = caps.into_iter().map(Held::new).collect();
    let mut orders = Orders {
        scores,
        prefixes,
        asked: vec![0; slots(scores)],
        longer: HashMap::new(),
    };
    let mut asking: Vec<u32> = (0..scores.bits().slots()).collect();
    while !asking.is_empty() {
        for slot in asking.drain(..) {
            let rank = orders.next(slot);
            held[rank.as_usize()].offer(scores.preference(rank, slot), slot);
        }
        for held in &mut held {
            held.send_on(&mut asking);
        }
    }
    let mut owners = vec![None; slots(scores)];
    for (rank, held) in scores.ranks().zip(held) {
        for slot in held.offers.into_iter().map(Offer::slot) {
            owners[slot as usize] = Some(rank);
        }
    }
    owners
        .into_iter()
        .map(|owner| owner.expect("caps must leave room for every slot"))
        .collect()
}

/// Whether `caps` leave every slot with the first that it asks, as is the rule among few members.
fn suffice(caps: &[usize], firsts: &[Rank]) -> bool {
    let mut asked = vec![0; caps.len()];
    for rank in firsts {
        asked[rank.as_usize()] += 1;
    }
    asked.iter().zip(caps).all(|(asked, cap)| asked <= cap)
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

/// A slot that asked a member; the member wants those that are less more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Offer(u64);

impl Offer {
    fn new(preference: u32, slot: u32) -> Self {
        Self(u64::from(preference) << 32 | u64::from(slot))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the slot is the low 32 bits"
    )]
    const fn slot(self) -> u32 {
        self.0 as u32
    }
}

/// The slots that a member holds.
struct Held {
    cap: usize,
    offers: Vec<Offer>,
}

impl Held {
    fn new(cap: usize) -> Self {
        Self {
            cap,
            offers: Vec::with_capacity(cap),
        }
    }

    fn offer(&mut self, preference: u32, slot: u32) {
        self.offers.push(Offer::new(preference, slot));
    }

    /// Adds the slots that are too many to those that are `asking`.
    fn send_on(&mut self, asking: &mut Vec<u32>) {
        if self.offers.len() > self.cap {
            self.offers.select_nth_unstable(self.cap);
            asking.extend(self.offers.drain(self.cap..).map(Offer::slot));
        }
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
        if let Some(rank) = self.prefixes.of(slot).get(at) {
            return *rank;
        }
        let longer = self.longer.entry(slot).or_default();
        if at >= longer.len() {
            // The next ones are rarely full too: to sort all members costs more than to look again.
            *longer = self.scores.first(slot, LONGER * (at + 1));
        }
        longer[at].rank()
    }
}
