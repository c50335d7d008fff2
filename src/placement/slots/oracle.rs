//! Pure: the owners and orders of all slots, slow and obvious, after sections 3 and 4 of the
//! specification.

use super::super::MemberIndex;
use super::matching::caps;
use super::score::{Key, Rank, Scores};

/// The candidates of every slot, without regard to zones.
pub(super) fn candidates(scores: &Scores) -> Vec<Vec<MemberIndex>> {
    let slots = scores.bits().slots();
    let mut pairs: Vec<(Key, u32, u32, Rank)> = Vec::new();
    for rank in scores.ranks() {
        for place in 0..slots {
            pairs.push((
                scores.key(rank, place),
                place,
                scores.slot(rank, place),
                rank,
            ));
        }
    }
    pairs.sort_unstable();
    let mut room = caps(scores);
    let mut owners = vec![None; slots as usize];
    let mut orders = vec![Vec::new(); slots as usize];
    for (_, _, slot, rank) in pairs {
        let (owner, room) = (&mut owners[slot as usize], &mut room[rank.as_usize()]);
        if owner.is_none() && *room > 0 {
            *owner = Some(rank);
            *room -= 1;
        }
        orders[slot as usize].push(rank);
    }
    let whole = |(owner, order): (Option<Rank>, Vec<Rank>)| {
        let owner = owner.expect("caps must leave room for every slot");
        let others = order.into_iter().filter(|&rank| rank != owner);
        std::iter::once(owner)
            .chain(others)
            .map(|rank| scores.member(rank))
            .collect()
    };
    owners.into_iter().zip(orders).map(whole).collect()
}
