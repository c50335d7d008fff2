//! hyper as the oracle: whatever the codec accepts, hyper accepts and reads alike, up to where the
//! message ends. What only hyper accepts is the codec's strictness.
//!
//! `KEYWAY_FUZZ_CASES` says how many cases each test reads, `KEYWAY_FUZZ_SEED` with which it
//! begins: a failure names its own.

use std::collections::BTreeMap;

use self::corpus::{Case, Random};
use self::reading::{Reading, Stop};
use self::reference::Hyper;
use super::*;

mod corpus;
mod reading;
mod reference;
mod words;

/// What each test reads by default.
const CASES: u64 = 10_000;

/// How the two readings of an input compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Both read the first message, and all that the codec reads after it, alike.
    Alike,
    /// Only hyper reads the first message.
    Stricter,
    /// Neither does.
    Refused,
}

#[test]
fn requests_are_read_as_hyper_reads_them() {
    run(corpus::request, requests_agree);
}

#[test]
fn responses_are_read_as_hyper_reads_them() {
    run(corpus::response, responses_agree);
}

fn requests_agree(case: &Case) -> Result<Verdict, String> {
    let reading = reading::requests(&case.input);
    let mut hyper = Hyper::server();
    compare(&case.input, &reading, &mut hyper)
}

fn responses_agree(case: &Case) -> Result<Verdict, String> {
    let asked = [case.asked.clone(), Method::GET];
    let reading = reading::responses(&case.input, &asked);
    let mut hyper = Hyper::client(asked.to_vec());
    let verdict = compare(&case.input, &reading, &mut hyper)?;
    let goes_on = matches!(reading.stop, Stop::Done | Stop::Short | Stop::Refused(_));
    if goes_on && !reading.messages.is_empty() && hyper.asked() == 1 {
        return Err("hyper does not ask again".to_owned());
    }
    Ok(verdict)
}

/// Feeds hyper what the codec says is a message, but for its last byte, then that byte.
fn compare(input: &[u8], reading: &Reading, hyper: &mut Hyper) -> Result<Verdict, String> {
    let mut fed = 0;
    for (at, (message, end)) in reading.messages.iter().enumerate() {
        hyper.feed(&input[fed..end - 1]);
        if hyper.whole() > at {
            return Err(format!("hyper ends message {at} before {end}"));
        }
        hyper.feed(&input[end - 1..*end]);
        fed = *end;
        let is_last = at + 1 == reading.messages.len();
        if is_last && reading.stop == Stop::UntilClose {
            hyper.end_of_input();
        }
        let read = hyper.messages();
        if hyper.whole() == at {
            return Err(format!(
                "hyper does not end message {at} at {end}: {read:?}"
            ));
        }
        if read[at] != *message {
            return Err(format!("hyper reads {:?}, the codec {message:?}", read[at]));
        }
    }
    let read = reading.messages.len();
    if matches!(reading.stop, Stop::Tunnel | Stop::Untold) {
        return Ok(Verdict::Alike);
    }
    hyper.feed(&input[fed..]);
    hyper.end_of_input();
    if reading.ends_connection() && (hyper.messages().len() > read || hyper.asked() > read) {
        return Err("hyper goes on where the codec ends".to_owned());
    }
    if let (Some(broken), Some(head)) = (&reading.broken, hyper.messages().get(read))
        && (&broken.start, &broken.fields) != (&head.start, &head.fields)
    {
        return Err(format!("hyper reads {head:?}, the codec {broken:?}"));
    }
    Ok(match (read, hyper.whole()) {
        (1.., _) => Verdict::Alike,
        (0, 1..) => Verdict::Stricter,
        (0, 0) => Verdict::Refused,
    })
}

impl Reading {
    fn ends_connection(&self) -> bool {
        matches!(self.stop, Stop::Closed | Stop::UntilClose | Stop::Tunnel)
    }
}

/// Reads as many cases as asked for, and looks whether they were worth it.
fn run(generate: fn(&mut Random) -> Case, agree: fn(&Case) -> Result<Verdict, String>) {
    let given = |name| {
        let given = std::env::var(name).ok();
        given.map(|it| it.parse::<u64>().expect("a number"))
    };
    let (seed, cases) = (given("KEYWAY_FUZZ_SEED"), given("KEYWAY_FUZZ_CASES"));
    let (first, cases) = (seed.unwrap_or(0), cases.unwrap_or(CASES));
    let mut verdicts = BTreeMap::<_, u64>::new();
    for seed in first..first + cases {
        let case = generate(&mut Random(seed));
        let shown = Shown(seed, &case);
        let verdict = agree(&case).unwrap_or_else(|why| panic!("{why}\n{}", shown.told(agree)));
        *verdicts.entry(verdict).or_default() += 1;
    }
    println!("{verdicts:?}");
    let share = |verdict| 100 * verdicts.get(&verdict).unwrap_or(&0) / cases;
    if cases >= CASES {
        assert!(share(Verdict::Alike) >= 30, "{verdicts:?}");
        assert!(share(Verdict::Refused) >= 10, "{verdicts:?}");
    }
}

/// A case under way: named when reading it panics.
struct Shown<'a>(u64, &'a Case);

impl Shown<'_> {
    /// The case and the least of it that is still read otherwise.
    fn told(&self, agree: fn(&Case) -> Result<Verdict, String>) -> String {
        let mut least = Case {
            asked: self.1.asked.clone(),
            input: self.1.input.clone(),
        };
        let mut size = least.input.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at + size <= least.input.len() {
                let mut input = least.input.clone();
                input.drain(at..at + size);
                let asked = least.asked.clone();
                let less = Case { asked, input };
                if agree(&less).is_err() {
                    least = less;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        let why = agree(&least).unwrap_err();
        let asked = &least.asked;
        format!("{asked}: b\"{}\": {why}", shown(&least.input))
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(seed, Case { asked, input }) = self;
            eprintln!("KEYWAY_FUZZ_SEED={seed}: {asked}: b\"{}\"", shown(input));
        }
    }
}
