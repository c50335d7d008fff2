//! Connections that end at bad moments.

use std::time::Duration;

use super::{RATE, ms, secs};
use crate::chaos::{End, Mode};
use crate::load::{Ended, Schedule};
use crate::report::Run;
use crate::stage::Stage;
use crate::suite::{Reach, Setting, Suite};

/// Chaos in front of every node.
const CHAOS: Setting = Setting {
    reach: Reach::Chaos,
    ..Setting::BARE
};

const NODES: [&str; 6] = ["s0a", "s0b", "s1a", "s1b", "s2a", "s2b"];

/// A node's connections are reset as soon as they are accepted.
pub fn reset_on_accept(suite: &Suite) -> Run {
    let mut run = turned(suite, "reset_on_accept", Mode::Reset);
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    if suite.knows(&["probe"]) {
        keyway.must_be_over_within(secs(1));
    }
    run
}

/// A node's connections are reset when a request comes on them: it may have been read.
pub fn reset_on_request(suite: &Suite) -> Run {
    let mut run = turned(suite, "reset_on_request", Mode::ResetOnRequest);
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    if suite.knows(&["probe"]) {
        keyway.must_be_over_within(secs(1));
    }
    run
}

/// A node's connections are accepted, and nothing that is sent to it is read any more.
pub fn deaf(suite: &Suite) -> Run {
    let mut run = turned(suite, "deaf", Mode::Deaf);
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_leave_others_at_home();
    keyway.must_be_bitten();
    keyway.must_fail_posts_only_by(&["attempt_timeout"]);
    if suite.knows(&["probe"]) {
        keyway.must_be_over_within(secs(1));
    }
    run
}

/// `mode` at one node, for a while.
fn turned(suite: &Suite, row: &'static str, mode: Mode) -> Run {
    let stage = Stage::set(suite, row, &CHAOS);
    let mut load = stage.load(RATE, suite.seconds(14, 6));
    load.until(suite.calm());
    load.fault(&["s0a"]);
    stage.turn(&["s0a"], mode);
    load.until(suite.seconds(8, 4));
    stage.turn(&["s0a"], Mode::Pass);
    load.repaired();
    load.end()
}

/// Nodes close idle connections at random moments: some in the instant in which they are used.
pub fn dead_pooled(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "dead_pooled", &CHAOS);
    stage.turn(&NODES, Mode::CloseIdle);
    let rate = if suite.full { 200 } else { 400 };
    let load = stage.load(rate, secs(10_000) / rate);
    let mut run = load.end();
    let keyway = run.keyway();
    let sent = keyway.samples.len();
    keyway.must(&format!("10 000 requests, found {sent}"), sent == 10_000);
    keyway.must_hold();
    // A write that crossed the close cannot be told from one that the node took.
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    run
}

/// Nodes half-close connections after an answer, read on, and answer nothing more.
pub fn half_close(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "half_close", &CHAOS);
    let mut load = stage.load(RATE, secs(8));
    load.until(secs(1));
    load.fault(&NODES);
    stage.turn(&NODES, Mode::HalfClose);
    load.until(secs(6));
    stage.turn(&NODES, Mode::Pass);
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_hold();
    keyway.must_fail_posts_only_by(&["upstream_reset"]);
    run
}

/// A node's answers end in the middle of their bodies, some by a FIN, then some by a RST.
pub fn cut(suite: &Suite) -> Run {
    let stage = Stage::set(suite, "cut", &CHAOS);
    let schedule = Schedule::even(RATE, Duration::ZERO..secs(7), &stage.all_keys());
    let schedule = schedule.of_gets().to(|at| {
        let framing = if at % 2 == 0 { "body" } else { "chunked" };
        format!("{framing}/30000")
    });
    let mut load = stage.send(schedule);
    load.until(secs(1));
    load.fault(&["s0a"]);
    for (until, end) in [(secs(3), End::Close), (secs(5), End::Reset)] {
        stage.turn(&["s0a"], Mode::Cut { after: 9000, end });
        load.until(until);
    }
    stage.turn(&["s0a"], Mode::Pass);
    load.repaired();
    let mut run = load.end();
    let keyway = run.keyway();
    keyway.must_be_right();
    let cut = keyway.count(|it| it.ended == Ended::Cut);
    keyway.must(&format!("answers are cut, found {cut}"), cut > 0);
    let repeated = keyway.count(|it| it.ended == Ended::Cut && keyway.reached(it) != 1);
    keyway.must(
        &format!("what was cut reached one node once, found {repeated}"),
        repeated == 0,
    );
    let other = keyway.count(|it| !it.is_right() && it.ended != Ended::Cut);
    keyway.must(&format!("nothing else fails, found {other}"), other == 0);
    keyway.must_be_over_within(secs(4) + ms(100));
    keyway.must_leave_others_at_home();
    run
}
