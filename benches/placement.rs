//! What the placement costs, and how evenly and stably it places.
//!
//! `cargo bench --bench placement` first prints the figures, exact from the table of 65 536 slots,
//! then times building it and reading the first three candidates of a token.

#![expect(clippy::print_stdout, reason = "printing is what this does")]

use std::fmt;
use std::num::NonZeroU8;

use divan::{Bencher, black_box};
use keyway::placement::{
    Algorithm, Member, MemberIndex, Placement, Replication, SlotBits, Token, ZoneSpread, moved,
};

const SIZES: [usize; 4] = [3, 10, 100, 1000];
const TOKENS: usize = 4096;

fn main() {
    print_balance();
    print_removals();
    print_weights();
    divan::main();
}

fn print_balance() {
    println!("equal weights, 65 536 slots: ownership as a multiple of the fair share");
    for size in SIZES {
        let shares = build(&members(size, |_| 1)).ownership();
        let ratios = Spread::of(shares.iter().map(|share| share * real(size)));
        println!("  {size:>4} members: {ratios}");
    }
}

fn print_removals() {
    println!("one member leaves: keys moved as a multiple of the fair share");
    for size in SIZES {
        let (ratios, second) = removals(size);
        println!(
            "  {size:>4} members: {ratios}; to the second choice {:.3} %",
            second * 100.0
        );
    }
}

fn print_weights() {
    println!("weights 1, 2, 4 in turn: ownership as a multiple of the weight's share");
    for size in [3, 12, 99] {
        let weight = |index: usize| [1, 2, 4][index % 3];
        let shares = build(&members(size, weight)).ownership();
        let total: u16 = (0..size).map(weight).sum();
        let ratio = |index: usize| shares[index] * f64::from(total) / f64::from(weight(index));
        for class in 0..3 {
            let ratios = Spread::of((class..size).step_by(3).map(ratio));
            println!("  {size:>4} members, weight {}: {ratios}", weight(class));
        }
    }
}

#[divan::bench(args = SIZES)]
fn build_slots(bencher: Bencher<'_, '_>, size: usize) {
    let members = members(size, |_| 1);
    bencher.bench_local(|| build(black_box(&members)));
}

#[divan::bench(args = SIZES)]
fn build_slots_three_zones(bencher: Bencher<'_, '_>, size: usize) {
    let members = members(size, |_| 1);
    let factor = NonZeroU8::new(3).expect("three is not zero");
    let replication = Replication {
        factor,
        spread: ZoneSpread::Strict,
    };
    let algorithm = Algorithm::Slots {
        bits: SlotBits::default(),
    };
    bencher.bench_local(|| Placement::build(algorithm, black_box(&members), replication));
}

#[divan::bench(args = SIZES)]
fn build_ketama(bencher: Bencher<'_, '_>, size: usize) {
    let members = members(size, |_| 1);
    bencher.bench_local(|| {
        Placement::build(Algorithm::Ketama, black_box(&members), Replication::NONE)
    });
}

#[divan::bench(args = SIZES)]
fn three_candidates_slots(bencher: Bencher<'_, '_>, size: usize) {
    bench_candidates(bencher, &build(&members(size, |_| 1)));
}

#[divan::bench(args = SIZES)]
fn three_candidates_ketama(bencher: Bencher<'_, '_>, size: usize) {
    let members = members(size, |_| 1);
    let placement = Placement::build(Algorithm::Ketama, &members, Replication::NONE);
    bench_candidates(bencher, &placement.expect("the members must be valid"));
}

/// Times [`TOKENS`] lookups at random places: divide what is printed by it, or read items/s.
fn bench_candidates(bencher: Bencher<'_, '_>, placement: &Placement) {
    let tokens: Vec<Token> = (0..TOKENS as u64)
        .map(|index| placement.token(&index.to_le_bytes()))
        .collect();
    bencher
        .counter(divan::counter::ItemsCount::new(TOKENS))
        .bench_local(|| {
            let three = |&token: &Token| -> usize {
                placement
                    .candidates(token)
                    .take(3)
                    .map(MemberIndex::as_usize)
                    .sum()
            };
            black_box(&tokens).iter().map(three).sum::<usize>()
        });
}

/// The extremes of some numbers and their mean.
struct Spread {
    min: f64,
    mean: f64,
    max: f64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let numbers: Vec<f64> = numbers.collect();
        Self {
            min: numbers.iter().copied().fold(f64::MAX, f64::min),
            mean: numbers.iter().sum::<f64>() / real(numbers.len()),
            max: numbers.iter().copied().fold(f64::MIN, f64::max),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "min {:.4}, mean {:.4}, max {:.4}",
            self.min, self.mean, self.max
        )
    }
}

/// What moves when each of `size` members leaves, of at most 100 tried, and the share of the slots
/// left behind whose second choice is their owner then.
fn removals(size: usize) -> (Spread, f64) {
    let all = members(size, |_| 1);
    let before = build(&all);
    let (mut ratios, mut owned, mut kept) = (Vec::new(), 0, 0);
    for leaving in (0..size).step_by(size.div_ceil(100)) {
        let mut rest = all.clone();
        rest.remove(leaving);
        let after = build(&rest);
        ratios.push(moved(&before, &after) * real(size));
        for token in (0..65_536).map(|slot| Token::new(slot << 48)) {
            let mut names = before
                .candidates(token)
                .map(|it| &before.names()[it.as_usize()]);
            if names.next() == Some(&all[leaving].name) {
                owned += 1;
                let owner = &after.names()[after.owner(token).as_usize()];
                kept += usize::from(names.next() == Some(owner));
            }
        }
    }
    (Spread::of(ratios.into_iter()), real(kept) / real(owned))
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
fn real(count: usize) -> f64 {
    count as f64
}

fn build(members: &[Member]) -> Placement {
    let algorithm = Algorithm::Slots {
        bits: SlotBits::default(),
    };
    Placement::build(algorithm, members, Replication::NONE).expect("the members must be valid")
}

fn members(count: usize, weight: impl Fn(usize) -> u16) -> Vec<Member> {
    let member = |index| Member {
        name: format!("users-{index}"),
        weight: weight(index),
        hash_key: Some(format!("10.0.{}.{}:80", index / 256, index % 256)),
        zone: Some(format!("zone-{}", index % 3)),
    };
    (0..count).map(member).collect()
}
