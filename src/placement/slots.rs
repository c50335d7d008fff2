//! Pure: keyway's own placement, a fixed table of slots.
#![doc = include_str!("slots.md")]
//!
//! # This implementation
//! The specification ranks all members for all slots, and so does the builder when they are few.
//! Of many it reads the cheapest ranks of each off its permutation instead ([`prefixes`]), which
//! is enough for nearly all slots, and ranks the others directly. Then it finds the matching by
//! deferred acceptance ([`matching`]).

mod matching;
mod prefixes;
mod score;

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use self::prefixes::Prefixes;
use self::score::{Rank, Scores};
use super::roster::{Roster, Rows};
use super::{Member, MemberIndex, PlacementError, SlotBits, Token};

/// How many members a fingerprint takes at a time: two bytes each are too few for the hasher.
const FINGERPRINTED_AT_ONCE: usize = 1024;

/// Which members prefer each slot, in order; see the module's specification.
#[derive(Clone)]
pub struct SlotTable {
    roster: Roster,
    scores: Scores,
    rows: Rows,
    fingerprint: u64,
}

/// The token of `key`: its XXH3 hash of 64 bits, seed 0.
pub(super) fn token(key: &[u8]) -> Token {
    Token::new(xxh3_64(key))
}

impl SlotTable {
    pub(super) fn build(
        bits: SlotBits,
        members: &[Member],
        roster: Roster,
    ) -> Result<Self, PlacementError> {
        let slots = bits.slots();
        let candidates = roster.candidate_count();
        if candidates > slots as usize {
            return Err(PlacementError::TooFewSlots {
                members: candidates,
                slots,
            });
        }
        let scores = Scores::new(bits, members);
        let prefixes = Prefixes::new(&scores, roster.depth());
        let owners = matching::owners(&scores, &prefixes);
        let rows = rows(&roster, &scores, &prefixes, &owners);
        let fingerprint = fingerprint(&roster, &scores, &rows);
        Ok(Self {
            roster,
            scores,
            rows,
            fingerprint,
        })
    }

    pub(super) fn bits(&self) -> SlotBits {
        self.scores.bits()
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The top bits of the token.
    pub(super) fn slot(&self, token: Token) -> u32 {
        let slot = token.as_u64() >> (u64::BITS - u32::from(self.bits().bits()));
        slot.try_into().expect("a slot must have at most 20 bits")
    }

    pub(super) fn row(&self, slot: usize) -> &[MemberIndex] {
        self.rows.row(slot)
    }

    /// The owner of one slot.
    pub(super) fn owner(&self, slot: usize) -> MemberIndex {
        self.rows.owner(slot)
    }

    /// The owner of each slot.
    pub(super) fn owners(&self) -> impl Iterator<Item = MemberIndex> {
        self.rows.owners()
    }

    /// The candidates after the row of `slot`, from the ranks of all members.
    pub(super) fn tail(&self, slot: usize) -> Vec<MemberIndex> {
        let slot = slot.try_into().expect("a slot must have at most 20 bits");
        let row = self.rows.row(slot as usize);
        let ranked = self.scores.ranked(slot);
        let others = ranked.into_iter().map(|rank| self.scores.member(rank));
        let mut order = lead(row[0], others);
        self.roster.arrange(&mut order);
        order.split_off(row.len())
    }
}

impl fmt::Debug for SlotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotTable")
            .field("bits", &self.bits())
            .field("roster", &self.roster)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// `owner`, then the `others` without it.
fn lead(owner: MemberIndex, others: impl Iterator<Item = MemberIndex>) -> Vec<MemberIndex> {
    let others = others.filter(|&member| member != owner);
    std::iter::once(owner).chain(others).collect()
}

/// The tabled candidates of every slot.
fn rows(roster: &Roster, scores: &Scores, prefixes: &Prefixes, owners: &[Rank]) -> Rows {
    let tabled = roster.tabled();
    let members: Vec<MemberIndex> = scores.members().collect();
    let mut entries = vec![members[0]; owners.len() * tabled];
    let mut order = Vec::new();
    let slots = (0..).zip(owners).zip(entries.chunks_exact_mut(tabled));
    for ((slot, owner), row) in slots {
        let owner = members[owner.as_usize()];
        let mut fill = |ranks: &[Rank]| {
            let ranked = ranks.iter().map(|rank| members[rank.as_usize()]);
            let others = ranked.filter(|&member| member != owner);
            if !roster.is_zoned() {
                // The order stands as it is, and what is kept of it is as long as a row.
                row[0] = owner;
                for (place, member) in row[1..].iter_mut().zip(others) {
                    *place = member;
                }
                return true;
            }
            order.clear();
            order.push(owner);
            order.extend(others);
            let long_enough = roster.arrange(&mut order);
            if long_enough {
                row.copy_from_slice(&order[..tabled]);
            }
            long_enough
        };
        if !fill(prefixes.of(slot)) {
            let filled = fill(&scores.ranked(slot));
            assert!(filled, "the order of all members must hold all replicas");
        }
    }
    Rows::new(tabled, entries)
}

fn fingerprint(roster: &Roster, scores: &Scores, rows: &Rows) -> u64 {
    let members = scores.members();
    let (mut hasher, ranks) = roster.fingerprint("slots", scores.bits().bits(), members);
    let mut bytes = [[0; size_of::<u16>()]; FINGERPRINTED_AT_ONCE];
    for members in rows.members().chunks(FINGERPRINTED_AT_ONCE) {
        let bytes = &mut bytes[..members.len()];
        for (bytes, member) in bytes.iter_mut().zip(members) {
            *bytes = ranks[member.as_usize()].to_le_bytes();
        }
        hasher.update(bytes.as_flattened());
    }
    hasher.digest()
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
