//! keyway while things go wrong: real nodes that die, hang and flap, a network that lies, and an
//! open-loop load that does not care; on request with `HAProxy` and nginx beside it.
//!
//! ```text
//! cargo test --test faults                 the rows that tell something soon, one after the other
//! cargo test --test faults -- kill stop    rows whose names contain one of these
//! tests/faults/run                         all rows, beside the peers
//! tests/faults/run kill --peers haproxy    one row, beside one of them
//! ```
//!
//! All proxies of a row stand over the same nodes and get the same requests at the same moments, so that each meets
//! the fault in the same instant. Nodes are processes; where Linux allows it, everything lives in a network namespace
//! of its own, in which packets can be dropped. A row whose keys this keyway does not know is left out, and says so.
//!
//! A **request** is a GET, or in three of ten cases a POST, with an id; it is sent when it is due, whatever became of
//! those before. Its answer is **right** when a node gave it, it is whole and names that id. It is an **error** when
//! the proxy made the answer, cut it, or gave none. What a row prints of a proxy:
//!
//! - **L**, lost: GETs without a right answer.
//! - **E**: errors, of GET and of POST.
//! - **W**: answers of a shard that does not own the key, by `keyway ring locate`.
//! - **D**: POSTs that nodes did more than once, by the records that they write before they answer.
//! - **T**: from the fault to the last request that met an error, by when these were due.
//! - **R**: from the repair to the last request that its key's home did not answer: the node that answered this key
//!   of this proxy before.
//! - **A**: attempts that reached a node, a request.
//! - requests that took longer than 100 ms, the 99th percentile and the longest, from when they were sent.
//! - memory and descriptors of the proxy before the load and after it.
//!
//! Rows in which one shard is in trouble also tell what a request costs keyway of the processor, before and during it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a panic is how a row fails, and rows are printed"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the processes under test keep the wall's time"
)]
#![allow(
    clippy::format_push_string,
    reason = "short texts, written for the reader"
)]
#![allow(clippy::cast_precision_loss, reason = "counts are small")]
#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests are read in place"
)]

mod chaos;
mod load;
mod network;
mod node;
mod peers;
mod report;
mod rows;
mod stage;
mod suite;
mod support;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde_json::Value;

use peers::Peer;
use rows::Row;
use suite::Suite;

/// How many lines of keyway's log are shown when it did not do well.
const LOGGED: usize = 20;

/// A request is never sent so late by a machine that does anything else.
const LATE: Duration = Duration::from_millis(500);

/// What was asked for.
struct Arguments {
    full: bool,
    list: bool,
    peers: Vec<Peer>,
    /// Parts of names.
    rows: Vec<String>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("node", of_node)) = arguments
        .split_first()
        .map(|(it, rest)| (it.as_str(), rest))
    {
        node::serve(of_node).unwrap();
        return ExitCode::SUCCESS;
    }
    let asked = Arguments::read(&arguments);
    if asked.list {
        for row in rows::ALL {
            println!("{}: test", row.name);
        }
        return ExitCode::SUCCESS;
    }
    let isolated = network::isolate(&arguments);
    play(&asked, &suite(&asked, isolated))
}

fn suite(asked: &Arguments, isolated: bool) -> Suite {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    Suite {
        runtime: runtime.unwrap(),
        full: asked.full,
        peers: asked.peers.clone(),
        isolated,
        known: known_keys(),
    }
}

/// Plays what was asked for, row by row, and tells it as the test runner would.
fn play(asked: &Arguments, suite: &Suite) -> ExitCode {
    let chosen: Vec<_> = rows::ALL.iter().filter(|it| asked.wants(it)).collect();
    println!("\nrunning {} tests\n{}", chosen.len(), report::HEAD);
    let begun = Instant::now();
    let (mut told, mut failed, mut ignored) = (Vec::new(), 0, 0);
    for row in &chosen {
        if let Some(obstacle) = row.obstacle(suite) {
            ignored += 1;
            told.push(format!("test {} ... ignored, {obstacle}", row.name));
            continue;
        }
        let outcome = if is_well(row, suite) {
            "ok"
        } else {
            failed += 1;
            "FAILED"
        };
        told.push(format!("test {} ... {outcome}", row.name));
    }
    let outcome = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\n{}\n\ntest result: {outcome}. {} passed; {failed} failed; {ignored} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        told.join("\n"),
        chosen.len() - failed - ignored,
        rows::ALL.len() - chosen.len(),
        begun.elapsed().as_secs_f64(),
    );
    ExitCode::from(u8::from(failed > 0))
}

/// Plays a row and prints it; whether keyway showed what it must. What this machine was too busy for
/// says nothing, and is played once more.
fn is_well(row: &Row, suite: &Suite) -> bool {
    let mut run = catch_unwind(AssertUnwindSafe(|| (row.play)(suite)));
    if let Ok([keyway, ..]) = run.as_ref().map(|it| &it.0[..])
        && !keyway.violations.is_empty()
        && keyway.late() > LATE
    {
        println!(
            "{}: again, sending was late by {:?}",
            row.name,
            keyway.late()
        );
        run = catch_unwind(AssertUnwindSafe(|| (row.play)(suite)));
    }
    let Ok(mut run) = run else {
        return false;
    };
    for report in &run.0 {
        println!("{}", report.line());
    }
    let keyway = run.keyway();
    for note in &keyway.notes {
        println!("{note}");
    }
    for violation in &keyway.violations {
        println!("{}: keyway must show: {violation}", row.name);
    }
    let well = keyway.violations.is_empty();
    if !well {
        // It begins with where it listens.
        let logged = keyway.log.iter().skip(2).take(LOGGED);
        println!("{}", logged.cloned().collect::<Vec<_>>().join("\n"));
        println!(
            "{}: {:?}, late {:?}",
            row.name,
            keyway.endings(),
            keyway.late()
        );
    }
    well
}

/// The keys of a cluster, by keyway's own schema, and what rows go by besides.
fn known_keys() -> HashSet<String> {
    let schema = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .arg("schema")
        .output()
        .unwrap();
    let text = String::from_utf8(schema.stdout).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let keys = schema["$defs"]["Cluster"]["properties"].as_object();
    let mut keys: HashSet<_> = keys.unwrap().keys().cloned().collect();
    for other in ["least_loaded", "resolver"] {
        if text.contains(&format!("\"{other}\"")) {
            keys.insert(other.to_owned());
        }
    }
    keys
}

impl Arguments {
    /// Everything but these is the test runner's, or part of a row's name.
    fn read(arguments: &[String]) -> Self {
        let mut asked = Self {
            full: false,
            list: false,
            peers: Vec::new(),
            rows: Vec::new(),
        };
        let mut peers = None;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--full" => asked.full = true,
                "--list" => asked.list = true,
                "--peers" => peers = arguments.next(),
                // These have a value, which is no name.
                "--test-threads" | "--format" | "--color" | "--skip" | "--logfile" => {
                    arguments.next();
                }
                flag if flag.starts_with('-') => {}
                name => asked.rows.push(name.to_owned()),
            }
        }
        let named = |peer: &Peer| peers.is_none_or(|it| it.split(',').any(|it| it == peer.name()));
        if asked.full {
            asked.peers = vec![Peer::Haproxy, Peer::Nginx];
            asked.peers.retain(named);
        }
        asked
    }

    fn wants(&self, row: &Row) -> bool {
        let named = self.rows.iter().any(|it| row.name.contains(it.as_str()));
        named || self.rows.is_empty() && (self.full || row.soon)
    }
}
