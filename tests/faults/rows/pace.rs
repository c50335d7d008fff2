//! Nodes that hang or are slow, a keyway that hardly runs, and more load than a shard can take.

use std::time::Duration;

use super::{RATE, ms, secs};
use crate::load::Schedule;
use crate::network::signal;
use crate::report::{Report, Run, percentile};
use crate::stage::Stage;
use crate::suite::{Setting, Suite};

/// What is tried once may take so long, by default.
const ATTEMPT: Duration = secs(2);

/// What takes longer met the node that takes 200 ms.
const SLOW: Duration = ms(180);

/// SIGSTOP of a node: the kernel accepts for it, and nobody answers.
pub fn stop(suite: &Suite) -> Run {
    stopped(suite, "stop", &Setting::BARE, 5)
}

/// The same with hedged reads, which need not wait until it is known.
pub fn stop_hedged(suite: &Suite) -> Run {
    let setting = Setting {
        cluster: "hedge: { after: 50ms }",
        ..Setting::BARE
    };
    stopped(suite, "stop_hedged", &setting, 5)
}

/// The same by HTTP/2, where all that waits waits on one connection.
pub fn stop_http2(suite: &Suite) -> Run {
    stopped(suite, "stop_http2", &Setting::HTTP2, 5)
}

/// A node that is stopped; `fewer` times as many requests wait as with a peer.
fn stopped(suite: &Suite, row: &'static str, setting: &Setting, fewer: usize) -> Run {
    let stage = Stage::set(suite, row, setting);
    let stopped = suite.seconds(10, 2);
    let mut load = stage.load(RATE, suite.seconds(30, 8));
    load.until(stopped);
    load.fault(&["s0a"]);
    stage.node("s0a").stop();
    load.until(suite.seconds(30, 8));
    // It wakes, and does what it was sent: a POST that was repeated meanwhile is done twice.
    stage.node("s0a").resume();
    let mut run = load.end();
    let peers = ["haproxy", "nginx"].map(|it| run.of(it).map(Report::slow));
    let keyway = run.keyway();
    keyway.must_hold();
    // A hedge is answered elsewhere whenever this machine pauses.
    if !setting.cluster.contains("hedge") {
        keyway.must_leave_others_at_home();
    }
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["attempt_timeout"]);
    let (slowest, bound) = (keyway.slowest(), ATTEMPT + ms(50) + keyway.late() * 2);
    keyway.must(
        &format!("nobody waits longer than an attempt, found {slowest:?}"),
        slowest <= bound,
    );
    if suite.knows(&["probe"]) {
        // Two probes that fail, and their time.
        let known = stopped + ms(1750) + keyway.late() * 2;
        let waited = keyway.part(known, Duration::MAX);
        let waited = waited.filter(|it| it.took > ms(500)).count();
        keyway.must(
            &format!("nobody waits once it is known, found {waited}"),
            waited == 0,
        );
    }
    for theirs in peers.into_iter().flatten() {
        let ours = keyway.slow();
        keyway.must(
            &format!("{fewer} times fewer than {theirs} wait, found {ours}"),
            ours * fewer <= theirs,
        );
    }
    run
}

/// A node ten times slower, and a choice by load.
pub fn slow_choice(suite: &Suite) -> Run {
    let (mut run, from) = slow(suite, "slow_choice", "prefer: least_loaded");
    let count = |report: &Report| {
        let part = report.part(from, Duration::MAX);
        part.filter(|it| it.took > SLOW).count()
    };
    let theirs = count(run.of("plain").unwrap());
    let keyway = run.keyway();
    let ours = count(keyway);
    // It is asked now and then, so that it is known when it is fast again.
    keyway.must(
        &format!("at most a third of {theirs} requests are slow, found {ours}"),
        ours * 3 <= theirs,
    );
    run
}

/// A node ten times slower, and hedged reads.
pub fn slow_hedged(suite: &Suite) -> Run {
    let (mut run, from) = slow(suite, "slow_hedged", "hedge: { after: p95 }");
    let theirs = p99(run.of("plain").unwrap(), from, true);
    let keyway = run.keyway();
    let ours = p99(keyway, from, true);
    keyway.must(
        &format!("the shard's p99 is three quarters of {theirs:?}, found {ours:?}"),
        ours * 4 <= theirs * 3,
    );
    run
}

/// The 99th percentile of the requests of the shard with the slow node, or of the other shards.
fn p99(report: &Report, from: Duration, slow: bool) -> Duration {
    let shard = |key: usize| (report.owners[key] == "s0") == slow;
    let part = report.part(from, Duration::MAX).filter(|it| shard(it.key));
    percentile(part.map(|it| it.took), 99)
}

/// The keyway with `cluster` stands beside one without; also when what it observed has settled.
fn slow(suite: &Suite, row: &'static str, cluster: &'static str) -> (Run, Duration) {
    let setting = Setting {
        cluster,
        plain: true,
        ..Setting::BARE
    };
    let stage = Stage::set(suite, row, &setting);
    for node in &stage.nodes {
        node.tell("delay 20");
    }
    let end = suite.seconds(20, 8);
    let slowed = suite.seconds(6, 2);
    let schedule = Schedule::even(RATE, Duration::ZERO..end, &stage.all_keys());
    let mut load = stage.send(schedule.of_gets());
    load.until(slowed);
    load.fault(&["s0a"]);
    stage.node("s0a").tell("delay 200");
    let mut run = load.end();
    let from = slowed + secs(2);
    let beside = p99(run.of("plain").unwrap(), from, false);
    let keyway = run.keyway();
    keyway.must_hold();
    let others = p99(keyway, from, false);
    let bound = beside * 2 + ms(20) + keyway.late() * 2;
    keyway.must(
        &format!("other shards' p99 stays {beside:?}, found {others:?}"),
        others <= bound,
    );
    (run, from)
}

/// keyway runs a tenth of the time, as under a quota of its CPU; every node is well.
pub fn starved(suite: &Suite) -> Run {
    let setting = Setting {
        alone: true,
        ..Setting::BARE
    };
    let stage = Stage::set(suite, "starved", &setting);
    let load = stage.load(50, secs(14));
    load.until(secs(2));
    let keyway = stage.keyway().pid();
    for period in 0..100 {
        load.until(secs(2) + ms(100 * period));
        signal(keyway, "-STOP");
        load.until(secs(2) + ms(100 * period + 90));
        signal(keyway, "-CONT");
    }
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    // An ejection, or a refusal, would send keys elsewhere.
    keyway.must_leave_others_at_home();
    run
}

/// SIGSTOP of every node of one shard: its requests wait, and nobody else's. They are few, so that what a request
/// costs is what one of the other shards costs.
pub fn shard_hangs(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "shard_hangs", &Setting::BARE);
    let (stopped, end) = (suite.seconds(10, 4), suite.seconds(25, 10));
    let (hung, others) = (stage.keys_of(&["s0"]), stage.keys_of(&["s1", "s2"]));
    let schedule = Schedule::even(RATE, Duration::ZERO..end, &others).and(Schedule::even(
        RATE / 20,
        Duration::ZERO..end,
        &hung,
    ));
    let mut load = stage.send(schedule.of_gets());
    load.until(ms(500));
    let begun = load.costs();
    load.until(stopped);
    let before = load.costs();
    load.fault(&["s0a", "s0b"]);
    for node in ["s0a", "s0b"] {
        stage.node(node).stop();
    }
    load.until(end);
    let during = load.costs();
    for node in ["s0a", "s0b"] {
        stage.node(node).resume();
    }
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.tells_cpu([begun, before], [before, during]);
    keyway.must_be_right();
    keyway.must_leave_others_at_home();
    let other = |key: usize| keyway.owners[key] != "s0";
    let median = |from: Duration, to: Duration| {
        let part = keyway.part(from, to).filter(|it| other(it.key));
        percentile(part.map(|it| it.took), 50)
    };
    let (before, during) = (median(ms(500), stopped), median(stopped, end));
    let harmed = keyway.count(|it| other(it.key) && !it.is_right());
    keyway.must(
        &format!("other shards lose nothing, found {harmed}"),
        harmed == 0,
    );
    keyway.must(
        &format!("other shards' median stays {before:?}, found {during:?}"),
        during <= before + ms(5) + keyway.late(),
    );
    run
}

/// Ten times the load on one shard, which is more than its nodes can do.
pub fn hot_shard(suite: &Suite) -> Run {
    let setting = Setting {
        cluster: "caps: { node_in_flight: 8, queue: 16, queue_timeout: 100ms }",
        keys: 1000,
        alone: true,
        ..Setting::BARE
    };
    let stage = Stage::set(suite, "hot_shard", &setting);
    for node in &stage.nodes {
        node.tell("capacity 4");
        node.tell("delay 20");
    }
    let (from, to) = (secs(3), suite.seconds(14, 7));
    let end = to + secs(2);
    let (hot, cool) = (stage.keys_of(&["s0"]), stage.keys_of(&["s1", "s2"]));
    let schedule = Schedule::even(100, Duration::ZERO..end, &cool)
        .and(Schedule::even(50, Duration::ZERO..end, &hot))
        .and(Schedule::even(500, from..to, &hot));
    let mut load = stage.send(schedule.of_gets());
    load.until(ms(500));
    let begun = load.costs();
    load.until(from);
    load.fault(&["s0a", "s0b"]);
    let before = load.costs();
    load.until(to);
    let during = load.costs();
    let mut run = load.end();
    run.keyway().tells_cpu([begun, before], [before, during]);
    let peaks = ["s0a", "s0b"].map(|it| stage.node(it).tell("peak"));
    let keyway = run.keyway();
    let owners = keyway.owners.clone();
    let other = |key: usize| owners[key] != "s0";
    let median = |from: Duration, to: Duration| {
        let part = keyway.part(from, to).filter(|it| other(it.key));
        percentile(part.map(|it| it.took), 50)
    };
    let (before, during) = (median(Duration::ZERO, from), median(from, to));
    keyway.must_be_right();
    let harmed = keyway.count(|it| other(it.key) && !it.is_right());
    keyway.must(
        &format!("other shards lose nothing, found {harmed}"),
        harmed == 0,
    );
    keyway.must(
        &format!("other shards' median stays {before:?}, found {during:?}"),
        during <= before + ms(5) + keyway.late(),
    );
    let refused = keyway.count(|it| !it.is_right() && it.reason() != Some("overloaded"));
    keyway.must(
        &format!("what is too much is overloaded, found {refused} others"),
        refused == 0,
    );
    let held = peaks.iter().all(|it| it.parse::<usize>().unwrap() <= 8);
    keyway.must(&format!("no node has more than 8, found {peaks:?}"), held);
    run
}
