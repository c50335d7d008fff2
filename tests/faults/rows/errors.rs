//! Nodes that answer errors.

use std::sync::Arc;
use std::time::Duration;

use super::{RATE, secs};
use crate::load::{Ended, Schedule};
use crate::report::{Report, Run};
use crate::stage::Stage;
use crate::suite::{Setting, Suite};

/// Ejection by rate alone.
const EJECTING: Setting = Setting {
    cluster: "eject: { consecutive: off, failure_rate: { above: 50%, window: 5s, min_requests: 20 } }",
    ..Setting::BARE
};

/// One node answers 503 for seven of ten paths.
pub fn one(suite: &Suite) -> Run {
    let mut run = failing(suite, "errors_one", &["s0a"]);
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    // Now and then it is tried again; else seven of ten would be errors.
    let (refused, sent) = (
        refusals(keyway, secs(5), secs(8)),
        posts_at_home(keyway, secs(5), secs(8)),
    );
    keyway.must(
        &format!("the node is ejected, found {refused} errors of its {sent} POSTs"),
        refused * 3 <= sent,
    );
    run
}

/// Every node does: it is the paths, not the nodes.
pub fn all(suite: &Suite) -> Run {
    alike(
        suite,
        "errors_all",
        &["s0a", "s0b", "s1a", "s1b", "s2a", "s2b"],
    )
}

/// Every node of one shard does: it is the shard's data, not one of the nodes.
pub fn shard(suite: &Suite) -> Run {
    alike(suite, "errors_shard", &["s0a", "s0b"])
}

fn alike(suite: &Suite, row: &'static str, nodes: &[&str]) -> Run {
    let mut run = failing(suite, row, nodes);
    let keyway = run.keyway();
    keyway.must_be_right();
    let proxied = keyway.errors(false) + keyway.errors(true);
    keyway.must(
        &format!("every answer is a node's, found {proxied} others"),
        proxied == 0,
    );
    let schedule = Arc::clone(&keyway.schedule);
    let good = |it: usize| schedule.0[it].path.starts_with("good");
    let lost = keyway.count(|it| good(it.id) && !it.is_right());
    keyway.must(&format!("good paths lose nothing, found {lost}"), lost == 0);
    let moved = keyway
        .count(|it| good(it.id) && it.node().is_some_and(|node| node != keyway.homes[it.key]));
    keyway.must(
        &format!("good paths are answered at home, found {moved} elsewhere"),
        moved == 0,
    );
    run
}

fn failing(suite: &Suite, row: &'static str, nodes: &[&str]) -> Run {
    let stage = Stage::set(suite, row, &EJECTING);
    let schedule = Schedule::even(RATE, Duration::ZERO..secs(12), &stage.all_keys());
    let schedule = schedule.to(|at| {
        let kind = if at % 10 < 7 { "bad" } else { "good" };
        format!("{kind}/r")
    });
    let mut load = stage.send(schedule);
    load.until(secs(2));
    load.fault(nodes);
    for node in nodes {
        stage.node(node).tell("fail 503 /bad/");
    }
    load.until(secs(8));
    for node in nodes {
        stage.node(node).tell("heal");
    }
    load.repaired();
    load.end()
}

fn refusals(keyway: &Report, from: Duration, to: Duration) -> usize {
    let part = keyway.part(from, to);
    part.filter(|it| matches!(it.ended, Ended::Refused { .. }))
        .count()
}

fn posts_at_home(keyway: &Report, from: Duration, to: Duration) -> usize {
    let part = keyway.part(from, to);
    part.filter(|it| it.post && keyway.homes[it.key] == "s0a")
        .count()
}
