//! Pure: which member of a cluster owns a key.
//!
//! A [`Placement`] is built once from the members of a cluster and never changes. It depends on
//! names, weights and zones (and on `hash_key` where another system's placement is reproduced),
//! never on addresses, health, load, history or the platform: two sidecars that read the same
//! topology place alike, and [`Placement::fingerprint`] says whether they do.
//!
//! Deliberately not here: skipping unhealthy members (the caller walks
//! [`Placement::candidates`]), pinned keys, and how keys are cut out of requests.

mod diff;
mod error;
mod ketama;
mod roster;
mod slots;
mod spans;

use std::fmt;
use std::iter::FusedIterator;
use std::num::NonZeroU8;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::diff::{Diff, Pair, diff, moved};
pub use self::error::PlacementError;
pub use self::ketama::KetamaRing;
pub use self::slots::SlotTable;

use self::roster::Roster;

/// The most members that a placement takes: an index and an end fit 16 bits.
pub const MEMBERS_MAX: usize = 65_534;

/// A key's position on a ring: 64 bits for `slots`, 32 for `ketama`.
///
/// A token means something only to placements of the algorithm that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The token at position `value`.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The position as a number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A candidate for the ownership of keys: a shard, or a node where nodes are placed themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The identity that is hashed by `slots`; unique in a placement.
    pub name: String,
    /// The share of keys relative to the other members; 0 owns nothing and is no candidate.
    pub weight: u16,
    /// What `ketama` hashes in place of the name, as nginx's `server` directive has it.
    pub hash_key: Option<String>,
    /// The zone that it runs in; a member without one shares its zone with no other.
    pub zone: Option<String>,
}

/// A member's position in the list that a [`Placement`] was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberIndex(u16);

impl MemberIndex {
    /// The position as an index into the list of members.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// The member at `position`, which the roster has checked to be below [`MEMBERS_MAX`].
    fn at(position: usize) -> Self {
        Self(u16::try_from(position).expect("a checked roster must fit 16 bits"))
    }
}

/// How keys are mapped to members. Part of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// keyway's own fixed slot table.
    Slots {
        /// Base-2 logarithm of the number of slots.
        bits: SlotBits,
    },
    /// nginx's `hash KEY consistent`.
    Ketama,
}

impl Algorithm {
    /// The name in topology files, metrics and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slots { .. } => "slots",
            Self::Ketama => "ketama",
        }
    }
}

/// Base-2 logarithm of a slot count, `8..=20`; 16 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotBits(u8);

impl SlotBits {
    /// 256 slots.
    pub const MIN: Self = Self(8);
    /// 1 048 576 slots.
    pub const MAX: Self = Self(20);

    /// `bits` when it lies in `8..=20`.
    pub const fn new(bits: u8) -> Option<Self> {
        if Self::MIN.0 <= bits && bits <= Self::MAX.0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The logarithm of `slots` when that is a power of two in `256..=1_048_576`.
    pub const fn from_slots(slots: u32) -> Option<Self> {
        let mut bits = Self::MIN.0;
        while bits < Self::MAX.0 && 1 << bits < slots {
            bits += 1;
        }
        if 1 << bits == slots {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The number of slots.
    pub const fn slots(self) -> u32 {
        1 << self.0
    }

    /// The logarithm itself.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl Default for SlotBits {
    fn default() -> Self {
        Self(16)
    }
}

/// How many members in a row hold a key, and how they spread over zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Copies of each key, the owner's included.
    pub factor: NonZeroU8,
    /// What zones mean for the choice of replicas.
    pub spread: ZoneSpread,
}

impl Replication {
    /// The owner alone.
    pub const NONE: Self = Self {
        factor: NonZeroU8::MIN,
        spread: ZoneSpread::BestEffort,
    };
}

impl Default for Replication {
    fn default() -> Self {
        Self::NONE
    }
}

/// What zones mean for the choice of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZoneSpread {
    /// As many zones as possible, then any member.
    #[default]
    BestEffort,
    /// Never two replicas in one zone, even if that leaves fewer than the factor.
    Strict,
}

/// Who owns which keys of a cluster, and who comes next.
#[derive(Clone, Debug)]
pub enum Placement {
    /// One ring holds for all keys.
    Stable(Ring),
}

/// A function from tokens to members in order of preference.
#[derive(Clone, Debug)]
pub enum Ring {
    /// keyway's own: see [`SlotTable`].
    Slots(SlotTable),
    /// nginx's: see [`KetamaRing`].
    Ketama(KetamaRing),
}

impl Placement {
    /// The placement of `members` by `algorithm`, their replicas chosen as `replication` says.
    ///
    /// This is work for a control thread: some ten milliseconds for 65 536 slots.
    ///
    /// # Errors
    /// When the members contradict each other or what the algorithm needs of them.
    pub fn build(
        algorithm: Algorithm,
        members: &[Member],
        replication: Replication,
    ) -> Result<Self, PlacementError> {
        let roster = Roster::new(members, replication)?;
        let ring = match algorithm {
            Algorithm::Slots { bits } => Ring::Slots(SlotTable::build(bits, members, roster)?),
            Algorithm::Ketama => Ring::Ketama(KetamaRing::build(members, roster)?),
        };
        Ok(Self::Stable(ring))
    }

    /// The algorithm that this was built by.
    pub fn algorithm(&self) -> Algorithm {
        match self.ring() {
            Ring::Slots(table) => Algorithm::Slots { bits: table.bits() },
            Ring::Ketama(_) => Algorithm::Ketama,
        }
    }

    /// Where `key` lies.
    pub fn token(&self, key: &[u8]) -> Token {
        match self.ring() {
            Ring::Slots(_) => slots::token(key),
            Ring::Ketama(_) => ketama::token(key),
        }
    }

    /// The slot of `token`, where the algorithm has slots.
    pub fn slot(&self, token: Token) -> Option<u32> {
        match self.ring() {
            Ring::Slots(table) => Some(table.slot(token)),
            Ring::Ketama(_) => None,
        }
    }

    /// The member that owns `token`.
    pub fn owner(&self, token: Token) -> MemberIndex {
        let ring = self.ring();
        ring.owner(ring.position(token))
    }

    /// Every member with a weight above 0, once, in the order of preference: the replica set, led
    /// by the owner, then the others.
    ///
    /// The replica set and at least the first four are read from a table. Asking for more ranks
    /// all members, once, which allocates: it is for when all of those have failed.
    pub fn candidates(&self, token: Token) -> Candidates<'_> {
        let ring = self.ring();
        let position = ring.position(token);
        Candidates {
            ring,
            position,
            owner: Some(ring.owner(position)),
            row: ring.row(position)[1..].iter(),
            tail: None,
        }
    }

    /// The members that hold `token`, owner first: the first [`replica_count`] candidates.
    ///
    /// [`replica_count`]: Self::replica_count
    pub fn replicas(&self, token: Token) -> impl Iterator<Item = MemberIndex> + '_ {
        self.candidates(token).take(self.replica_count())
    }

    /// How many members hold each key: the replication factor, or fewer where the members (with
    /// [`ZoneSpread::Strict`], their zones) do not suffice; at least 1.
    pub fn replica_count(&self) -> usize {
        self.ring().roster().replica_count()
    }

    /// How many [`candidates`](Self::candidates) each token has.
    pub fn candidate_count(&self) -> usize {
        self.ring().roster().candidate_count()
    }

    /// The members' names, weight or not, in the order that this was built from.
    pub fn names(&self) -> &[String] {
        self.ring().roster().names()
    }

    /// The exact share of the key space that each member owns, by [`MemberIndex`]; the sum is 1.
    pub fn ownership(&self) -> Vec<f64> {
        self.ring().ownership()
    }

    /// A number that tells placements apart: equal for two that place all keys alike.
    ///
    /// It covers the algorithm, the number of slots and the candidates of every token as far as
    /// they are tabled, by name; the order of the members and those without weight change nothing.
    pub fn fingerprint(&self) -> u64 {
        match self.ring() {
            Ring::Slots(table) => table.fingerprint(),
            Ring::Ketama(ring) => ring.fingerprint(),
        }
    }

    fn ring(&self) -> &Ring {
        let Self::Stable(ring) = self;
        ring
    }
}

impl Ring {
    fn roster(&self) -> &Roster {
        match self {
            Self::Slots(table) => table.roster(),
            Self::Ketama(ring) => ring.roster(),
        }
    }

    /// The index of the row that holds the first candidates of `token`.
    fn position(&self, token: Token) -> usize {
        match self {
            Self::Slots(table) => table.slot(token) as usize,
            Self::Ketama(ring) => ring.point(token),
        }
    }

    fn owner(&self, position: usize) -> MemberIndex {
        match self {
            Self::Slots(table) => table.owner(position),
            Self::Ketama(ring) => ring.owner(position),
        }
    }

    fn row(&self, position: usize) -> &[MemberIndex] {
        match self {
            Self::Slots(table) => table.row(position),
            Self::Ketama(ring) => ring.row(position),
        }
    }

    /// The candidates that follow the row at `position`.
    fn tail(&self, position: usize) -> Vec<MemberIndex> {
        if self.row(position).len() == self.roster().candidate_count() {
            return Vec::new();
        }
        match self {
            Self::Slots(table) => table.tail(position),
            Self::Ketama(ring) => ring.tail(position),
        }
    }
}

/// The candidates of one token in order of preference; see [`Placement::candidates`].
#[derive(Clone, Debug)]
pub struct Candidates<'a> {
    ring: &'a Ring,
    position: usize,
    owner: Option<MemberIndex>,
    /// Those that are tabled behind the owner.
    row: std::slice::Iter<'a, MemberIndex>,
    tail: Option<std::vec::IntoIter<MemberIndex>>,
}

impl Iterator for Candidates<'_> {
    type Item = MemberIndex;

    fn next(&mut self) -> Option<MemberIndex> {
        if let Some(member) = self.owner.take().or_else(|| self.row.next().copied()) {
            return Some(member);
        }
        let tail = || self.ring.tail(self.position).into_iter();
        self.tail.get_or_insert_with(tail).next()
    }
}

impl FusedIterator for Candidates<'_> {}

#[cfg(test)]
mod tests;
