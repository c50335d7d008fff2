//! Pure: a ring as the pieces of the key space that its members own.

use super::{MemberIndex, Ring, SlotBits};

/// The key space cut up by owner, in order and without gaps.
pub(super) struct Spans {
    /// The length of the key space, a power of two: the most slots, or the range of a CRC-32.
    space: u64,
    spans: Vec<Span>,
}

/// A piece of the key space with one owner; it starts where the one before ends.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) end: u64,
    pub(super) owner: MemberIndex,
}

impl Spans {
    pub(super) fn of(ring: &Ring) -> Self {
        match ring {
            Ring::Slots(table) => {
                let space = u64::from(SlotBits::MAX.slots());
                let slot = space / u64::from(table.bits().slots());
                let span = |(index, owner)| Span {
                    end: index * slot,
                    owner,
                };
                Self {
                    space,
                    spans: (1..).zip(table.owners()).map(span).collect(),
                }
            }
            Ring::Ketama(ring) => {
                let space = 1 << 32;
                let span = |(point, owner)| Span {
                    end: u64::from(point) + 1,
                    owner,
                };
                let mut spans: Vec<_> = ring.points().map(span).collect();
                let rest = Span {
                    end: space,
                    owner: spans[0].owner,
                };
                spans.push(rest);
                Self { space, spans }
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Span> {
        self.spans.iter().copied()
    }

    /// What `length` is of the whole; exact, as both fit the 53 bits of an `f64`.
    #[expect(clippy::cast_precision_loss, reason = "lengths are at most 2^32")]
    pub(super) fn share(&self, length: u64) -> f64 {
        length as f64 / self.space as f64
    }
}

impl Ring {
    /// The share that each of its `members` owns.
    pub(super) fn ownership(&self) -> Vec<f64> {
        let spans = Spans::of(self);
        let mut shares = vec![0.0; self.roster().names().len()];
        let mut start = 0;
        for span in spans.iter() {
            shares[span.owner.as_usize()] += spans.share(span.end - start);
            start = span.end;
        }
        shares
    }
}
