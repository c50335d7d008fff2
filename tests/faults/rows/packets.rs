//! Networks that lose, swallow and refuse packets.

use super::{RATE, ms, secs};
use crate::network::Filter;
use crate::report::Run;
use crate::stage::Stage;
use crate::suite::{Reach, Setting, Suite};

/// Whatever is sent to a node is answered by a RST.
pub fn refuse(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "refuse", &Setting::BARE);
    let filter = Filter::new();
    let mut load = stage.load(RATE, secs(14));
    load.until(secs(2));
    load.fault(&["s0a"]);
    filter.reject(stage.node("s0a").address);
    load.until(secs(6));
    filter.clear();
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    keyway.must_be_over_within(secs(1));
    run
}

/// A node dies with its machine: nobody answers attempts to connect.
pub fn black_hole(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "black_hole", &Setting::BARE);
    let filter = Filter::new();
    let mut load = stage.load(RATE, suite.seconds(14, 7));
    load.until(suite.calm());
    load.fault(&["s0a"]);
    filter.swallow_connects(stage.node("s0a").address);
    stage.node("s0a").kill();
    load.until(suite.seconds(7, 3));
    stage.node("s0a").start();
    filter.clear();
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    keyway.must_be_over_within(secs(1));
    run
}

/// The open connections to a node carry nothing any more; new ones do.
pub fn half_open(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "half_open", &Setting::BARE);
    let filter = Filter::new();
    let mut load = stage.load(RATE, suite.seconds(14, 7));
    load.until(suite.calm());
    load.fault(&["s0a"]);
    filter.swallow_open(stage.node("s0a").address);
    load.until(suite.seconds(10, 5));
    filter.clear();
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["attempt_timeout"]);
    keyway.must_be_over_within(secs(1));
    run
}

/// One packet of ten is lost on the way to every node and back.
pub fn loss(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "loss", &Setting::BARE);
    let filter = Filter::new();
    let mut load = stage.load(100, secs(14));
    load.until(secs(2));
    let nodes: Vec<_> = stage.nodes.iter().map(|it| it.id.as_str()).collect();
    load.fault(&nodes);
    for node in &stage.nodes {
        filter.lose(node.address);
    }
    load.until(secs(9));
    filter.clear();
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    run
}

/// The cable to a node is pulled out, and put in again.
pub fn link_down(suite: &Suite) -> Run {
    let setting = Setting {
        reach: Reach::Cable("s0a"),
        ..Setting::BARE
    };
    let stage = Stage::set(suite, "link_down", &setting);
    let mut load = stage.load(RATE, secs(18));
    load.until(secs(2));
    load.fault(&["s0a"]);
    stage.cable().set(false);
    load.until(secs(9));
    stage.cable().set(true);
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["attempt_timeout", "upstream_reset"]);
    if suite.knows(&["probe"]) {
        keyway.must_be_over_within(secs(1));
    }
    let bound = secs(2) + ms(50) + keyway.late() * 2;
    let slowest = keyway.slowest();
    keyway.must(
        &format!("nobody waits longer than an attempt, found {slowest:?}"),
        slowest <= bound,
    );
    run
}
