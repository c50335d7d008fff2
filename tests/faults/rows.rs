//! The rows: what goes wrong, and what keyway must show then.

mod connections;
mod deaths;
mod errors;
mod names;
mod packets;
mod pace;

use std::time::Duration;

use crate::report::Run;
use crate::suite::Suite;

/// The requests a second that most rows send.
const RATE: u32 = 200;

/// A fault, and the play that shows it.
pub struct Row {
    pub name: &'static str,
    /// Whether it is played with the tests.
    pub soon: bool,
    /// The keys of a cluster that keyway must know for it.
    pub keys: &'static [&'static str],
    /// Whether packets must be dropped for it.
    pub packets: bool,
    pub play: fn(&Suite) -> Run,
}

pub const ALL: &[Row] = &[
    Row::soon("kill", deaths::kill),
    Row::full("kill_http2", deaths::kill_http2),
    Row::soon("stop", pace::stop).by(&["eject"]),
    Row::full("stop_http2", pace::stop_http2).by(&["eject"]),
    Row::full("shard_hangs", pace::shard_hangs),
    Row::full("stop_hedged", pace::stop_hedged).by(&["hedge"]),
    Row::full("slow_choice", pace::slow_choice).by(&["least_loaded"]),
    Row::soon("slow_hedged", pace::slow_hedged).by(&["hedge"]),
    Row::soon("reset_on_accept", connections::reset_on_accept),
    Row::soon("reset_on_request", connections::reset_on_request),
    Row::full("refuse", packets::refuse).on_packets(),
    Row::soon("black_hole", packets::black_hole).on_packets(),
    Row::soon("half_open", packets::half_open).on_packets(),
    Row::full("loss", packets::loss).on_packets(),
    Row::full("link_down", packets::link_down).on_packets(),
    Row::soon("dead_pooled", connections::dead_pooled),
    Row::soon("cut", connections::cut),
    Row::full("deaf", connections::deaf),
    Row::full("half_close", connections::half_close),
    Row::full("errors_one", errors::one).by(&["eject"]),
    Row::full("errors_all", errors::all).by(&["eject"]),
    Row::full("errors_shard", errors::shard).by(&["eject"]),
    Row::soon("shard_down", deaths::shard_down),
    Row::full("shard_held", deaths::shard_held).by(&["hold"]),
    Row::soon("all_down", deaths::all_down),
    Row::soon("all_failing", deaths::all_failing),
    Row::soon("flapping", deaths::flapping),
    Row::soon("names", names::names)
        .by(&["resolver"])
        .on_packets(),
    Row::full("starved", pace::starved).by(&["eject"]),
    Row::soon("hot_shard", pace::hot_shard).by(&["caps"]),
];

impl Row {
    /// One that is played with the tests too.
    const fn soon(name: &'static str, play: fn(&Suite) -> Run) -> Self {
        Self {
            name,
            soon: true,
            keys: &[],
            packets: false,
            play,
        }
    }

    /// One of whole runs only.
    const fn full(name: &'static str, play: fn(&Suite) -> Run) -> Self {
        Self {
            soon: false,
            ..Self::soon(name, play)
        }
    }

    const fn by(mut self, keys: &'static [&'static str]) -> Self {
        self.keys = keys;
        self
    }

    const fn on_packets(mut self) -> Self {
        self.packets = true;
        self
    }

    /// Why it cannot be played, if it cannot.
    pub fn obstacle(&self, suite: &Suite) -> Option<String> {
        let unknown: Vec<_> = self.keys.iter().filter(|it| !suite.knows(&[it])).collect();
        if !unknown.is_empty() {
            return Some(format!("keyway knows no {unknown:?}"));
        }
        let packets = self.packets && !suite.isolated;
        packets.then(|| "no network namespace with nftables".to_owned())
    }
}

/// So many seconds.
const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
