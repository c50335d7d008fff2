//! The way down, and when it begins by itself.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::App;
use crate::drain::Phase;

/// How often it is looked whether the drain has nothing left to wait for.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How long the data threads may take to end once their connections are cut.
const ENDING: Duration = Duration::from_millis(300);

/// How long the access log's output may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long the receiver of traces may take for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// How often it is looked whether a client is there, where that may end the process.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// Why it goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It was asked to, or is not needed any more.
    Asked,
    /// Another process serves in its place.
    Succeeded,
}

impl App {
    /// Ready when clients were connected, and then none for `exit_when_idle`; never where that is off.
    pub async fn deserted(&self) {
        let mut accepted = 0;
        let mut since = None;
        loop {
            sleep(IDLE_LOOK).await;
            let before = std::mem::replace(&mut accepted, self.fleet.accepted());
            if accepted == 0 || accepted != before || self.fleet.open_connections() > 0 {
                since = None;
                continue;
            }
            let idle = since.get_or_insert_with(Instant::now).elapsed();
            let most = self.shared.load().desired.exit_when_idle;
            if most.is_some_and(|most| idle >= most) {
                info!(?idle, "no client is connected any more");
                return;
            }
        }
    }

    /// Goes down: unready for `pre_drain`, then accepting nothing for `drain_timeout`, each ending
    /// early when no connection is left; then what is left is cut. `hurry` ends it at once. Where
    /// another process serves, no new connection is waited for.
    pub async fn drain(mut self, farewell: Farewell, hurry: impl Future<Output = ()>) {
        let (pre_drain, drain_timeout) = {
            let desired = &self.shared.load().desired;
            (desired.pre_drain, desired.drain_timeout)
        };
        let gently = async {
            if farewell == Farewell::Asked {
                info!(?pre_drain, "draining: unready, still accepting");
                self.trigger.advance(Phase::PreDrain);
                let connected = until(|| self.fleet.open_connections() == 0);
                let _early = timeout(pre_drain, connected).await.is_ok();
            }
            info!(?drain_timeout, "draining: accepting nothing more");
            self.listeners.iter().for_each(|it| it.socket.close_door());
            self.trigger.advance(Phase::Draining);
            self.listeners = Arc::default();
            let left = until(|| self.fleet.is_deserted());
            timeout(drain_timeout, left).await.is_ok()
        };
        let drained = tokio::select! {
            drained = gently => drained,
            () = hurry => false,
        };
        let (connections, requests) = (self.fleet.open_connections(), self.requests_in_flight());
        self.trigger.advance(Phase::Over);
        if drained {
            info!("drained: no connection is left");
        } else {
            warn!(connections, requests, "drained: what was left is cut");
        }
        self.join().await;
    }

    fn requests_in_flight(&self) -> i64 {
        let state = self.shared.load();
        let routes = state.routes.iter().map(|it| &it.counters);
        routes.map(|it| it.sum(|it| it.in_flight.value())).sum()
    }

    async fn join(self) {
        let ended = until(|| self.threads.iter().all(JoinHandle::is_finished));
        if timeout(ENDING, ended).await.is_err() {
            warn!("a data thread did not end");
        }
        // The threads' last lines and spans are on their way only now.
        let written = async {
            let written = until(|| self.log.is_ended());
            if timeout(LAST_LINES, written).await.is_err() {
                warn!("the access log's last lines were not taken");
            }
        };
        let sent = async {
            if timeout(LAST_SPANS, self.exporter).await.is_err() {
                warn!("the last spans of traces were not taken");
            }
        };
        tokio::join!(written, sent);
    }
}

/// Waits until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(DRAIN_LOOK / 4).await;
    }
}
