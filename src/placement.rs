//! Pure: which member of a cluster owns a key.

use std::num::NonZeroU8;

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

/// Base-2 logarithm of a slot count, `8..=20`; 16 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotBits(u8);

/// How many members in a row hold a key, and how they spread over zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Copies of each key, the owner's included.
    pub factor: NonZeroU8,
    /// What zones mean for the choice of replicas.
    pub spread: ZoneSpread,
}

/// What zones mean for the choice of replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZoneSpread {
    /// As many zones as possible, then any member.
    #[default]
    BestEffort,
    /// Never two replicas in one zone, even if that leaves fewer than the factor.
    Strict,
}
// STUB
#[derive(Clone, Copy, Debug)]
pub struct Token(u64);
impl Token {
    pub fn value(self) -> u64 {
        self.0
    }
}
impl From<u64> for Token {
    fn from(v: u64) -> Self {
        Token(v)
    }
}
#[derive(Clone, Copy, Debug)]
pub struct MemberIndex(u16);
impl MemberIndex {
    pub fn index(self) -> usize {
        self.0.into()
    }
}
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub name: String,
    pub weight: u16,
    pub hash_key: Option<String>,
    pub zone: Option<String>,
}
#[derive(Clone, Debug)]
pub struct Placement(Vec<Member>);
#[derive(Clone, Debug)]
pub struct Diff {
    pub moved: f64,
    pub pairs: Vec<Pair>,
}
#[derive(Clone, Debug, thiserror::Error)]
#[error("x")]
pub struct PlacementError;
pub fn diff(_a: &Placement, _b: &Placement) -> Diff {
    Diff {
        moved: 0.0,
        pairs: vec![],
    }
}
impl Placement {
    pub fn build(_a: Algorithm, m: &[Member], _r: Replication) -> Result<Self, PlacementError> {
        Ok(Self(m.to_vec()))
    }
    pub fn token(&self, key: &[u8]) -> Token {
        Token(xxhash_rust::xxh3::xxh3_64(key))
    }
    pub fn candidates(&self, t: Token) -> impl Iterator<Item = MemberIndex> + '_ {
        let n = self.0.len();
        (0..n).map(move |i| MemberIndex(((t.0 as usize % n) + i).rem_euclid(n) as u16))
    }
    pub fn replicas(&self, t: Token) -> impl Iterator<Item = MemberIndex> + '_ {
        self.candidates(t).take(1)
    }
}

impl Placement {
    pub fn fingerprint(&self) -> u64 {
        0
    }
    pub fn algorithm(&self) -> Algorithm {
        Algorithm::Ketama
    }
    pub fn ownership(&self) -> Vec<f64> {
        vec![1.0; self.0.len()]
    }
    pub fn slot(&self, _t: Token) -> Option<u32> {
        None
    }
}
impl Algorithm {
    pub fn as_str(self) -> &'static str {
        "slots"
    }
}
impl Default for SlotBits {
    fn default() -> Self {
        SlotBits(16)
    }
}
impl SlotBits {
    pub fn from_slots(n: u32) -> Option<Self> {
        n.is_power_of_two().then(|| Self(n.trailing_zeros() as u8))
    }
    pub fn slots(self) -> u32 {
        1 << self.0
    }
}
impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
#[derive(Clone, Debug)]
pub struct Pair {
    pub from: String,
    pub to: String,
    pub fraction: f64,
}
