//! Pure: nginx's `hash KEY consistent`, point for point.
//!
//! Written after `ngx_http_upstream_init_chash` and `ngx_http_upstream_find_chash_point` in nginx's
//! `src/http/modules/ngx_http_upstream_hash_module.c`, whose placement is the same since 1.7.2,
//! and which follows Perl's `Cache::Memcached::Fast`:
//!
//! - A member's `hash_key` is its `server` parameter as written, split into host and port at the
//!   last `:` if only digits follow it. A leading `unix:`, in any case, is dropped and the rest is
//!   host. Brackets of IPv6 stay. An absent port is an empty one.
//! - Each of its `160 * weight` points is CRC-32 (IEEE) over host, a zero byte, port, and the point
//!   before as 4 bytes, little endian; 0 before the first.
//! - Of equal points the one of the member written first counts.
//! - A key goes to the first point that is not below its CRC-32, wrapping around.
//!
//! The candidates are the distinct members of the points that follow. That is where keyway
//! parts from nginx: nginx tries at most 20 points, the same member again if it comes up, and then
//! any peer. nginx also places empty keys, and all keys of a single peer, round-robin; keyway has
//! no empty keys.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crc32fast::Hasher;

use super::roster::{Roster, Rows};
use super::{Member, MemberIndex, PlacementError, Token};

/// Points of a member for each unit of its weight; nginx's constant.
const POINTS_PER_WEIGHT: usize = 160;

/// Four million points take some 50 MB and 26 000 members of weight 1.
const WEIGHT_MAX: u64 = 26_214;

/// The points of all members in order, and the candidates of each; see the module's text.
#[derive(Clone)]
pub struct KetamaRing {
    roster: Roster,
    points: Box<[u32]>,
    rows: Rows,
    fingerprint: u64,
}

/// The token of `key`: its CRC-32.
pub(super) fn token(key: &[u8]) -> Token {
    Token::new(crc32fast::hash(key).into())
}

impl KetamaRing {
    pub(super) fn build(members: &[Member], roster: Roster) -> Result<Self, PlacementError> {
        let servers = servers(members)?;
        let weight: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
        if weight > WEIGHT_MAX {
            return Err(PlacementError::TooManyPoints {
                found: weight,
                max: WEIGHT_MAX,
            });
        }
        let mut points = Vec::new();
        for (index, (server, member)) in servers.iter().zip(members).enumerate() {
            let count = POINTS_PER_WEIGHT * usize::from(member.weight);
            let member = MemberIndex::at(index);
            points.extend(server.points().take(count).map(|point| (point, member)));
        }
        points.sort_by_key(|(point, _)| *point);
        points.dedup_by_key(|(point, _)| *point);
        let (points, members): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        let rows = rows(&roster, &members);
        let fingerprint = fingerprint(&roster, &points, &rows);
        Ok(Self {
            roster,
            points: points.into(),
            rows,
            fingerprint,
        })
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The index of the first point that is not below `token`, wrapping around.
    pub(super) fn point(&self, token: Token) -> usize {
        let index = self
            .points
            .partition_point(|&point| u64::from(point) < token.as_u64());
        if index == self.points.len() { 0 } else { index }
    }

    pub(super) fn row(&self, point: usize) -> &[MemberIndex] {
        self.rows.row(point)
    }

    pub(super) fn owner(&self, point: usize) -> MemberIndex {
        self.rows.owner(point)
    }

    /// The points in order, each with the member that owns the tokens up to it.
    pub(super) fn points(&self) -> impl Iterator<Item = (u32, MemberIndex)> {
        self.points.iter().copied().zip(self.rows.owners())
    }

    /// The candidates after the row of `point`, from a walk over all points.
    pub(super) fn tail(&self, point: usize) -> Vec<MemberIndex> {
        let owners = |from, to| (from..to).map(|at| self.rows.owner(at));
        let walk = owners(point, self.points.len()).chain(owners(0, point));
        let mut order = distinct(walk, &self.roster);
        self.roster.arrange(&mut order);
        order.split_off(self.rows.row(point).len())
    }
}

impl fmt::Debug for KetamaRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KetamaRing")
            .field("points", &self.points.len())
            .field("roster", &self.roster)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// What nginx hashes for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server<'a> {
    host: &'a [u8],
    port: &'a [u8],
}

impl<'a> Server<'a> {
    fn split(hash_key: &'a str) -> Self {
        let text = hash_key.as_bytes();
        if let Some((scheme, path)) = text.split_at_checked(5)
            && scheme.eq_ignore_ascii_case(b"unix:")
        {
            return Self {
                host: path,
                port: b"",
            };
        }
        let digits = text
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (front, port) = text.split_at(text.len() - digits);
        match front.strip_suffix(b":") {
            Some(host) => Self { host, port },
            None => Self {
                host: text,
                port: b"",
            },
        }
    }

    fn points(self) -> impl Iterator<Item = u32> {
        let mut base = Hasher::new();
        base.update(self.host);
        base.update(&[0]);
        base.update(self.port);
        let next = move |previous: u32| {
            let mut hasher = base.clone();
            hasher.update(&previous.to_le_bytes());
            hasher.finalize()
        };
        std::iter::successors(Some(next(0)), move |&previous| Some(next(previous)))
    }
}

/// What to hash for each member.
///
/// Two that share their first point share all, as the points of a server follow from its CRC-32:
/// nginx would give nothing to the second, which can only be a mistake.
fn servers(members: &[Member]) -> Result<Vec<Server<'_>>, PlacementError> {
    let mut seen = HashMap::new();
    let mut servers = Vec::with_capacity(members.len());
    for Member { name, hash_key, .. } in members {
        let hash_key = hash_key.as_deref().filter(|text| !text.is_empty());
        let missing = || PlacementError::MissingHashKey { name: name.clone() };
        let server = Server::split(hash_key.ok_or_else(missing)?);
        if let Some(first) = seen.insert(server.points().next(), name) {
            let (first, second) = (first.clone(), name.clone());
            return Err(PlacementError::SameHashKey { first, second });
        }
        servers.push(server);
    }
    Ok(servers)
}

/// The tabled candidates of every point, whose members are `owners`.
///
/// Walking backwards, the candidates of a point are those of the next one with its own member
/// moved to the front; a prefix of them needs no more than the same prefix of the next.
fn rows(roster: &Roster, owners: &[MemberIndex]) -> Rows {
    let (depth, tabled) = (roster.depth(), roster.tabled());
    let mut entries = vec![owners[0]; owners.len() * tabled];
    let mut next: Vec<MemberIndex> = distinct_prefix(owners.iter().copied(), depth);
    let mut order = Vec::with_capacity(depth);
    for (point, row) in entries.chunks_exact_mut(tabled).enumerate().rev() {
        let owner = owners[point];
        let at = next.iter().position(|&member| member == owner);
        if at.is_none() {
            next.pop();
            next.push(owner);
        }
        let end = at.map_or(next.len(), |at| at + 1);
        next[..end].rotate_right(1);
        order.clone_from(&next);
        if !roster.arrange(&mut order) {
            let walk = owners[point..].iter().chain(&owners[..point]);
            order = distinct(walk.copied(), roster);
            roster.arrange(&mut order);
        }
        row.copy_from_slice(&order[..tabled]);
    }
    Rows::new(tabled, entries)
}

/// All members with a weight in the order of `walk`.
fn distinct(walk: impl Iterator<Item = MemberIndex>, roster: &Roster) -> Vec<MemberIndex> {
    distinct_prefix(walk, roster.candidate_count())
}

/// The first `count` members in the order of `walk`.
fn distinct_prefix(walk: impl Iterator<Item = MemberIndex>, count: usize) -> Vec<MemberIndex> {
    let mut seen = HashSet::with_capacity(count);
    walk.filter(|member| seen.insert(*member))
        .take(count)
        .collect()
}

fn fingerprint(roster: &Roster, points: &[u32], rows: &Rows) -> u64 {
    let mut members: Vec<_> = rows.iter().flatten().copied().collect();
    members.sort_unstable();
    members.dedup();
    let (mut hasher, ranks) = roster.fingerprint("ketama", 0, members.into_iter());
    for (point, row) in points.iter().zip(rows.iter()) {
        hasher.update(&point.to_le_bytes());
        for member in row {
            hasher.update(&ranks[member.as_usize()].to_le_bytes());
        }
    }
    hasher.digest()
}

#[cfg(test)]
mod tests;
