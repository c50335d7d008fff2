//! Pure: the members of a placement, and which of them in a row are replicas.
//!
//! What both rings share: the checked list of members, the rule that picks replicas out of an
//! order of preference, and the table of the first candidates of every position.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::Xxh3;

use super::{MEMBERS_MAX, Member, MemberIndex, PlacementError, Replication, ZoneSpread};

/// The fewest candidates that are tabled: more than fail together in practice.
const TABLED_MIN: usize = 4;

/// How much of an order is kept while building when zones may reorder it: among three even zones
/// one is missing from 16 members in a row for 0.5 % of all positions.
const ZONED_DEPTH: usize = 16;

/// The checked members of a placement and the rule for their replicas.
#[derive(Clone, Debug)]
pub(super) struct Roster {
    names: Box<[String]>,
    /// A number for the zone of each member, with or without weight.
    zones: Box<[u16]>,
    /// How many members have a weight above 0.
    candidates: usize,
    /// How many members hold a key.
    replicas: usize,
    /// How many of them lie in different zones.
    distinct_zones: usize,
    /// Whether zones may reorder the members: some have one in common.
    zoned: bool,
}

impl Roster {
    pub(super) fn new(
        members: &[Member],
        replication: Replication,
    ) -> Result<Self, PlacementError> {
        check_names(members)?;
        let candidates = members.iter().filter(|member| member.weight > 0).count();
        if candidates == 0 {
            return Err(PlacementError::Weightless);
        }
        let factor = usize::from(replication.factor.get());
        let strict = replication.spread == ZoneSpread::Strict && factor > 1;
        let unzoned = members.iter().find(|member| member.zone.is_none());
        if let (true, Some(member)) = (strict, unzoned) {
            return Err(PlacementError::MissingZone {
                name: member.name.clone(),
            });
        }
        let zones = number_zones(members);
        let weighted = zones
            .iter()
            .zip(members)
            .filter(|(_, member)| member.weight > 0);
        let used: HashSet<u16> = weighted.map(|(zone, _)| *zone).collect();
        let distinct_zones = factor.min(used.len());
        let replicas = if strict {
            distinct_zones
        } else {
            factor.min(candidates)
        };
        let names = members.iter().map(|member| member.name.clone()).collect();
        Ok(Self {
            names,
            zones,
            candidates,
            replicas,
            distinct_zones,
            zoned: distinct_zones > 1 && used.len() < candidates,
        })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn candidate_count(&self) -> usize {
        self.candidates
    }

    pub(super) fn replica_count(&self) -> usize {
        self.replicas
    }

    /// Whether zones may reorder the members.
    pub(super) fn is_zoned(&self) -> bool {
        self.zoned
    }

    /// How many candidates of each position are tabled: never fewer than its replicas.
    pub(super) fn tabled(&self) -> usize {
        self.replicas.max(TABLED_MIN).min(self.candidates)
    }

    /// How long a prefix of each order a builder keeps, so that [`arrange`](Self::arrange) rarely
    /// needs the whole order.
    pub(super) fn depth(&self) -> usize {
        let wanted = if self.zoned { ZONED_DEPTH } else { TABLED_MIN };
        wanted.max(self.replicas).min(self.candidates)
    }

    /// Moves the replicas to the front of `order`, a prefix of an order of preference: the first
    /// member of each zone until enough zones are in, all others keeping their order.
    ///
    /// Returns whether the prefix was long enough; a whole order always is.
    pub(super) fn arrange(&self, order: &mut [MemberIndex]) -> bool {
        if !self.zoned {
            // The first ones are of different zones as they are, or of the only one.
            return order.len() >= self.distinct_zones;
        }
        let mut chosen = 0;
        for at in 0..order.len() {
            if chosen == self.distinct_zones {
                break;
            }
            let zone = self.zone(order[at]);
            if order[..chosen]
                .iter()
                .all(|&member| self.zone(member) != zone)
            {
                order[chosen..=at].rotate_right(1);
                chosen += 1;
            }
        }
        chosen == self.distinct_zones
    }

    fn zone(&self, member: MemberIndex) -> u16 {
        self.zones[member.as_usize()]
    }

    /// A hasher that took the algorithm's name, its parameter, the number of replicas and the
    /// names of `members`, with each member's position among them.
    pub(super) fn fingerprint(
        &self,
        algorithm: &str,
        parameter: u8,
        members: impl Iterator<Item = MemberIndex>,
    ) -> (Xxh3, Vec<u16>) {
        let mut hasher = Xxh3::new();
        hasher.update(algorithm.as_bytes());
        hasher.update(&[0, parameter]);
        hasher.update(&(self.replicas as u64).to_le_bytes());
        let mut by_name: Vec<MemberIndex> = members.collect();
        by_name.sort_unstable_by_key(|member| &self.names[member.as_usize()]);
        let mut ranks = vec![0; self.names.len()];
        for (rank, member) in (0_u16..).zip(by_name) {
            let name = &self.names[member.as_usize()];
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            ranks[member.as_usize()] = rank;
        }
        (hasher, ranks)
    }
}

fn check_names(members: &[Member]) -> Result<(), PlacementError> {
    if members.is_empty() {
        return Err(PlacementError::Empty);
    }
    if members.len() > MEMBERS_MAX {
        return Err(PlacementError::TooManyMembers {
            found: members.len(),
            max: MEMBERS_MAX,
        });
    }
    let mut names = HashSet::with_capacity(members.len());
    match members.iter().find(|member| !names.insert(&member.name)) {
        Some(member) => Err(PlacementError::DuplicateName {
            name: member.name.clone(),
        }),
        None => Ok(()),
    }
}

/// Numbers the zones; a member that has none gets one to itself.
fn number_zones(members: &[Member]) -> Box<[u16]> {
    let mut known: HashMap<&str, u16> = HashMap::new();
    let mut zones = Vec::with_capacity(members.len());
    for (fresh, member) in (0..).zip(members) {
        let zone = member.zone.as_deref();
        zones.push(zone.map_or(fresh, |zone| *known.entry(zone).or_insert(fresh)));
    }
    zones.into()
}

/// The first candidates of every position of a ring.
#[derive(Clone)]
pub(super) struct Rows {
    len: usize,
    /// The first member of each row once more, close together: nearly every request asks for no
    /// other, and these stay in the cache.
    owners: Box<[MemberIndex]>,
    entries: Box<[MemberIndex]>,
}

impl Rows {
    /// Rows of `len` members each, laid end to end in `entries`.
    pub(super) fn new(len: usize, entries: Vec<MemberIndex>) -> Self {
        assert!(entries.len().is_multiple_of(len), "rows must be whole");
        Self {
            len,
            owners: entries.iter().step_by(len).copied().collect(),
            entries: entries.into(),
        }
    }

    pub(super) fn owner(&self, position: usize) -> MemberIndex {
        self.owners[position]
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = MemberIndex> {
        self.owners.iter().copied()
    }

    pub(super) fn row(&self, position: usize) -> &[MemberIndex] {
        &self.entries[position * self.len..][..self.len]
    }

    /// The members of all rows, end to end.
    pub(super) fn members(&self) -> &[MemberIndex] {
        &self.entries
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[MemberIndex]> {
        self.entries.chunks_exact(self.len)
    }
}
