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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZoneSpread {
    /// As many zones as possible, then any member.
    #[default]
    BestEffort,
    /// Never two replicas in one zone, even if that leaves fewer than the factor.
    Strict,
}
