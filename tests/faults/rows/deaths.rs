//! Processes that die, and come back.

use std::time::Duration;

use super::{RATE, ms, secs};
use crate::report::{Report, Run, percentile};
use crate::stage::Stage;
use crate::suite::{Setting, Suite};

/// The nodes of the shard that goes down.
const SHARD: [&str; 2] = ["s0a", "s0b"];

/// kill -9 of a node, and its restart.
pub fn kill(suite: &Suite) -> Run {
    killed(suite, "kill", &Setting::BARE)
}

/// The same by HTTP/2, where all that is under way at the node ends with one connection.
pub fn kill_http2(suite: &Suite) -> Run {
    killed(suite, "kill_http2", &Setting::HTTP2)
}

fn killed(suite: &Suite, row: &'static str, setting: &Setting) -> Run {
    let stage = Stage::set(suite, row, setting);
    let mut load = stage.load(RATE, suite.seconds(14, 7));
    load.until(suite.calm());
    load.fault(&["s0a"]);
    stage.node("s0a").kill();
    load.until(suite.seconds(6, 3));
    stage.node("s0a").start();
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    // Bytes had gone out: nobody knows what the node did with them.
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    keyway.must_be_over_within(ms(100));
    must_be_home(keyway, suite);
    run
}

/// A node that is up for a second and down for a second.
pub fn flapping(suite: &Suite) -> Run {
    let cycles: u32 = if suite.full { 10 } else { 2 };
    let stage = Stage::set(suite, "flapping", &Setting::BARE);
    let mut load = stage.load(RATE, secs(2 * u64::from(cycles) + 3));
    for cycle in 0..cycles {
        load.until(secs(2 * u64::from(cycle) + 1));
        if cycle == 0 {
            load.fault(&["s0a"]);
        }
        stage.node("s0a").kill();
        load.until(secs(2 * u64::from(cycle) + 2));
        stage.node("s0a").start();
    }
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    must_be_home(keyway, suite);
    // Each of its keys may go and come back once a cycle; requests that overlap may show it twice.
    let keys = keyway.homes.iter().filter(|it| *it == "s0a").count();
    let (moves, bound) = (keyway.moves(), keys * cycles as usize * 2);
    keyway.must(
        &format!("{keys} keys move at most {bound} times, found {moves}"),
        moves <= bound,
    );
    run
}

/// Every node of one shard dies; they are back after five seconds.
pub fn shard_down(suite: &Suite) -> Run {
    let mut run = play_shard_down(suite, "shard_down", "");
    let keyway = run.keyway();
    let fault = keyway.marks.fault.unwrap();
    keyway.must_be_right();
    must_spare_other_shards(keyway);
    let refusals: Vec<_> = keyway
        .samples
        .iter()
        .filter(|it| it.is_error() && it.due > fault + ms(100))
        .cloned()
        .collect();
    let named = refusals
        .iter()
        .all(|it| it.reason() == Some("no_healthy_node"));
    keyway.must("the shard's requests are no_healthy_node", named);
    let took = percentile(refusals.iter().map(|it| it.took), 90);
    keyway.must(
        &format!("they are told at once, found {took:?}"),
        took < ms(50) + keyway.late() * 2,
    );
    must_be_home(keyway, suite);
    run
}

/// The same, while requests may wait.
pub fn shard_held(suite: &Suite) -> Run {
    let mut run = play_shard_down(
        suite,
        "shard_held",
        "hold: { requests: 1000, max_wait: 8s }",
    );
    let keyway = run.keyway();
    keyway.must_hold();
    must_spare_other_shards(keyway);
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    must_be_home(keyway, suite);
    if suite.knows(&["probe"]) {
        let back = keyway.marks.repair.unwrap() + ms(1250) + keyway.late() * 2;
        let late = keyway.count(|it| it.due + it.took > back && it.took > secs(1));
        keyway.must(
            &format!("nobody waits a second after it is back, found {late}"),
            late == 0,
        );
    }
    run
}

fn play_shard_down(suite: &Suite, row: &'static str, cluster: &'static str) -> Run {
    let setting = Setting {
        cluster,
        ..Setting::BARE
    };
    let stage = Stage::set(suite, row, &setting);
    let (calm, down) = (suite.calm(), suite.seconds(5, 3));
    let mut load = stage.load(RATE, calm + down + secs(6));
    load.until(calm);
    load.fault(&SHARD);
    for node in SHARD {
        stage.node(node).kill();
    }
    load.until(calm + down);
    stage.node("s0a").start();
    load.repaired();
    stage.node("s0b").start();
    load.end()
}

/// Every node of every shard dies; the load stays.
pub fn all_down(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "all_down", &Setting::BARE);
    let (calm, down) = (suite.calm(), suite.seconds(30, 3));
    let end = calm + down + secs(7);
    let mut load = stage.load(RATE, end);
    load.until(calm);
    load.fault(&all(&stage));
    for node in &stage.nodes {
        node.kill();
    }
    load.until(calm + down);
    for node in &stage.nodes {
        node.start();
    }
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_be_right();
    must_be_back(keyway, end);
    run
}

/// Every node answers 503; the load stays. What reaches nodes is counted by them.
pub fn all_failing(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "all_failing", &Setting::BARE);
    let (calm, down) = (suite.calm(), suite.seconds(30, 4));
    let end = calm + down + secs(7);
    let mut load = stage.load(RATE, end);
    load.until(calm);
    load.fault(&all(&stage));
    for node in &stage.nodes {
        node.tell("fail 503 /");
    }
    load.until(calm + down);
    for node in &stage.nodes {
        node.tell("heal");
    }
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_be_right();
    must_be_back(keyway, end);
    let amplification = keyway.amplification(calm, calm + down);
    let requests = keyway.part(calm, calm + down).count();
    // The budget's `min_per_second` of 10, over as many windows of 10 s as this touches; and what its first
    // window may spend of the requests before, which a whole number of windows leaves nothing of.
    let windows = (down.as_secs_f64() / 10.0).ceil();
    let rest = windows * 10.0 - down.as_secs_f64();
    let before = keyway.part(Duration::ZERO, calm).count() + keyway.homes.len();
    let earlier = if rest > 0.0 { 0.2 * before as f64 } else { 0.0 };
    let aside = (10.0 * 10.0 * windows + earlier) / requests as f64;
    keyway.must(
        &format!("at most 1.2 attempts a request, found {amplification:.2}, {aside:.2} aside"),
        amplification <= 1.2 + aside + 0.01,
    );
    run
}

fn all<'a>(stage: &'a Stage<'_>) -> Vec<&'a str> {
    stage.nodes.iter().map(|it| it.id.as_str()).collect()
}

/// 95 % of the requests are answered right from five seconds after the repair on.
fn must_be_back(keyway: &mut Report, end: Duration) {
    let back = keyway.marks.repair.unwrap() + secs(5);
    let goodput = keyway.goodput(back, end);
    keyway.must(
        &format!("95 % are right 5 s after, found {:.0} %", goodput * 100.0),
        goodput >= 0.95,
    );
}

/// Within a second where keyway looks for itself, else when the longest back-off has passed.
fn must_be_home(keyway: &mut Report, suite: &Suite) {
    let probed = suite.knows(&["probe"]);
    keyway.must_be_home_within(if probed { ms(1250) } else { ms(5500) });
}

/// Nothing of the other shards is lost, late or elsewhere.
fn must_spare_other_shards(keyway: &mut Report) {
    let other = |key: usize| keyway.owners[key] != "s0";
    let harmed = keyway.count(|it| other(it.key) && !it.is_right());
    keyway.must(
        &format!("other shards lose nothing, found {harmed}"),
        harmed == 0,
    );
    keyway.must_leave_others_at_home();
}
