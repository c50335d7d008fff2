//! Pure: which keys change their owner from one placement to another.
//!
//! Only owners count; that a replica changes moves no key. Members are the same when their names
//! are. Lengths are summed as fractions of a power of two, at most 2^32, which `f64` adds exactly.

use std::collections::HashMap;

use super::spans::Spans;
use super::{MemberIndex, Placement};

/// What moves from one placement to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// The share of the key space whose owner differs, `0.0..=1.0`.
    pub moved: f64,
    /// Where it moves, largest first; the fractions sum up to `moved`.
    pub pairs: Vec<Pair>,
}

/// What moves from one member to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The name of the owner in the old placement.
    pub from: String,
    /// The name of the owner in the new placement.
    pub to: String,
    /// The share of the whole key space.
    pub fraction: f64,
}

/// What moves from `old` to `new`.
///
/// Exact between slot tables of any two sizes and between two ketama rings. Between algorithms
/// every key is hashed anew and its owners before and after are independent: the result is the
/// expected movement, `old_i * new_j` for every two members, and a pair for each.
pub fn diff(old: &Placement, new: &Placement) -> Diff {
    let mut fractions: HashMap<_, f64> = HashMap::new();
    each_move(old, new, |from, to, fraction| {
        *fractions.entry((from, to)).or_default() += fraction;
    });
    let pair = |((from, to), fraction): ((MemberIndex, MemberIndex), f64)| Pair {
        from: old.names()[from.as_usize()].clone(),
        to: new.names()[to.as_usize()].clone(),
        fraction,
    };
    let mut pairs: Vec<_> = fractions.into_iter().map(pair).collect();
    pairs.sort_unstable_by(|a, b| {
        let names = (&a.from, &a.to).cmp(&(&b.from, &b.to));
        b.fraction.total_cmp(&a.fraction).then(names)
    });
    Diff {
        moved: pairs.iter().map(|pair| pair.fraction).sum(),
        pairs,
    }
}

/// What moves from `old` to `new` in all: [`Diff::moved`] without the pairs, which may be many.
pub fn moved(old: &Placement, new: &Placement) -> f64 {
    let mut moved = 0.0;
    each_move(old, new, |_, _, fraction| moved += fraction);
    moved
}

/// Calls `visit` with old owner, new owner and length for each piece of the key space that moves.
fn each_move(
    old: &Placement,
    new: &Placement,
    mut visit: impl FnMut(MemberIndex, MemberIndex, f64),
) {
    let names = (0..).zip(new.names());
    let by_name: HashMap<&str, usize> = names.map(|(index, name)| (name.as_str(), index)).collect();
    let renumber = |name: &String| {
        by_name
            .get(name.as_str())
            .map(|&index| MemberIndex::at(index))
    };
    let successors: Vec<Option<MemberIndex>> = old.names().iter().map(renumber).collect();
    let visit = |from: MemberIndex, to, fraction| {
        if successors[from.as_usize()] != Some(to) {
            visit(from, to, fraction);
        }
    };
    let (old_spans, new_spans) = (Spans::of(old.ring()), Spans::of(new.ring()));
    if old.algorithm().as_str() == new.algorithm().as_str() {
        sweep(&old_spans, &new_spans, visit);
    } else {
        product(&old.ownership(), &new.ownership(), visit);
    }
}

/// Visits the pieces on which both sides have one owner each.
fn sweep(old: &Spans, new: &Spans, mut visit: impl FnMut(MemberIndex, MemberIndex, f64)) {
    let (mut old_spans, mut new_spans) = (old.iter().peekable(), new.iter().peekable());
    let mut start = 0;
    while let (Some(from), Some(to)) = (old_spans.peek(), new_spans.peek()) {
        let end = from.end.min(to.end);
        visit(from.owner, to.owner, old.share(end - start));
        start = end;
        old_spans.next_if(|span| span.end == end);
        new_spans.next_if(|span| span.end == end);
    }
}

/// Visits every two owners with the chance to have one before and the other after.
fn product(old: &[f64], new: &[f64], mut visit: impl FnMut(MemberIndex, MemberIndex, f64)) {
    let owners = |shares: &'_ [f64]| {
        let shares = shares
            .iter()
            .copied()
            .enumerate()
            .filter(|&(_, share)| share > 0.0);
        shares
            .map(|(index, share)| (MemberIndex::at(index), share))
            .collect::<Vec<_>>()
    };
    let new = owners(new);
    for (from, before) in owners(old) {
        for &(to, after) in &new {
            visit(from, to, before * after);
        }
    }
}

#[cfg(test)]
mod tests;
