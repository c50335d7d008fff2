//! Pure: the faults that members can have as a placement's input.

/// Why members cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// There is no member.
    #[error("expected at least one member, found none")]
    Empty,
    /// There is no member that may own anything.
    #[error("expected a member with a weight above 0, found none")]
    Weightless,
    /// There are more members than an index can tell apart.
    #[error("expected at most {max} members, found {found}")]
    TooManyMembers {
        /// The members given.
        found: usize,
        /// [`MEMBERS_MAX`](super::MEMBERS_MAX).
        max: usize,
    },
    /// Two members have one name.
    #[error("expected unique names, found {name:?} twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Zones must not be shared, and a member does not say which it is in.
    #[error("expected a zone for every member, as zone_spread is strict; {name:?} has none")]
    MissingZone {
        /// The member's name.
        name: String,
    },
    /// Some member would own no slot.
    #[error("expected at most one member per slot, found {members} members for {slots} slots")]
    TooFewSlots {
        /// The members with a weight above 0.
        members: usize,
        /// The slots.
        slots: u32,
    },
    /// `ketama` has nothing to hash for a member.
    #[error("expected a hash_key for every member of a ketama placement; {name:?} has none")]
    MissingHashKey {
        /// The member's name.
        name: String,
    },
    /// `ketama` would put two members on the same points.
    #[error(
        "expected hash_keys with points of their own, found {first:?} and {second:?} on the same"
    )]
    SameHashKey {
        /// The name of the member written first.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// The weights ask for more points than this process should hold.
    #[error("expected weights that sum up to at most {max} in a ketama placement, found {found}")]
    TooManyPoints {
        /// The sum of the weights.
        found: u64,
        /// The largest sum that is accepted.
        max: u64,
    },
}
