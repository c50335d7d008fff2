//! Pure: when a node is probed, and what its probes come to.
//!
//! A node that answers requests is not probed: they say more than a probe does, and with many
//! sidecars probes alone are a storm. It is probed when it is idle; at once, and faster, when it is
//! suspect: it fails probes, it is out of rotation, or requests wait at it and none ends. So many
//! good or bad outcomes in a row change the verdict, in the order in which the probes began; an
//! outcome that is keyway's own fault is none.

use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::check::Check;
use super::{Millis, Probed};
use silence::Silence;

mod silence;

/// Probes that begin more often than this, in milliseconds, say nothing that the last one did not.
const PACE_MIN_MS: Millis = 25;

/// The pace of a node that is suspect, as a part of the interval.
const URGENT: Millis = 4;

/// How often it is looked whether a node is silent, as a part of the interval: twice within the
/// pace of a suspect one.
const LOOKS: Millis = 8;

/// Probes of one node at once while it is suspect: the second need not wait for the first to time
/// out. Else one.
const AT_ONCE_MAX: u8 = 2;

/// A cluster's rules of probing.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeParams {
    /// What is asked.
    pub check: Check,
    /// How often, while nothing speaks against the node.
    pub interval: Duration,
    /// How long a probe may take, its connection included.
    pub timeout: Duration,
    /// So many good ones in a row, and the node is up.
    pub rise: NonZeroU8,
    /// So many bad ones in a row, and it is down.
    pub fall: NonZeroU8,
    /// The port to ask at, where it is not the node's.
    pub port: Option<NonZeroU16>,
    /// Which nodes are probed.
    pub when: ProbeWhen,
}

/// Which nodes are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeWhen {
    /// Those of which requests say nothing good.
    #[default]
    IdleOrSuspect,
    /// All.
    Always,
    /// None.
    Off,
}

/// The course of one node's probes.
#[derive(Clone, Debug)]
pub struct Probing {
    probed: Probed,
    /// Whether the last outcome was a good one, and how many in a row were like it.
    ok: bool,
    run: u8,
    /// When the newest probe began that came out bad, and the newest that came out good.
    newest: [Millis; 2],
    begun: Option<Begun>,
    under_way: u8,
    due: Millis,
    /// What began before is of another check.
    renewed: Millis,
    /// Since when the node is out of rotation in a way that a probe can end.
    out: Option<Millis>,
    is_resting: bool,
    /// Whether a verdict was not carried out because the node is needed.
    is_kept: bool,
    silence: Silence,
    /// The good answers by when it was last decided whether to probe.
    good: u64,
}

/// The newest probe.
#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Millis,
    /// The attempts that the node had been sent by then.
    sent: u64,
}

/// What is seen of a node at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Attempts under way.
    pub in_flight: u32,
    /// How it stands by what requests met.
    pub stands: Stands,
    /// Whether requests that wait at it made it suspect.
    pub is_suspect: bool,
}

/// How a node stands by what requests met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It is in rotation.
    Serving,
    /// It refused connections.
    Resting,
    /// It failed otherwise.
    Ejected,
}

/// What a node's attempts came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Those that ended, however.
    pub ended: u64,
    /// Those of them that the node answered.
    pub answered: u64,
    /// Those of these that show it well: with another status than 5xx.
    pub good: u64,
}

/// What a look comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing is due.
    Wait,
    /// A probe was due, and requests made it needless.
    Needless,
    /// A probe is due.
    Due(Due),
}

/// A probe that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Since when.
    pub since: Millis,
    /// The attempts that the node was sent, and its good answers.
    sent: u64,
    good: u64,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is good.
    Good,
    /// It is not, or there is none.
    Bad,
    /// keyway itself was late, or had nothing to connect with: nothing is known.
    Void,
}

/// What an outcome changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node is up, and its probes vouch for it.
    Up,
    /// It is down.
    Down,
    /// It would be, if it were not needed. Said once until a probe is good again.
    Kept,
}

// === impl ProbeParams ===

impl ProbeParams {
    /// How often a node is probed that nothing speaks against, and one that is suspect.
    fn paces(&self) -> (Millis, Millis) {
        let interval = Millis::try_from(self.interval.as_millis()).unwrap_or(Millis::MAX);
        let at_least = |pace: Millis| pace.max(PACE_MIN_MS);
        (at_least(interval), at_least(interval / URGENT))
    }
}

impl Default for ProbeParams {
    fn default() -> Self {
        let two = NonZeroU8::MIN.saturating_add(1);
        Self {
            check: Check::default(),
            interval: Duration::from_secs(2),
            timeout: Duration::from_millis(500),
            rise: two,
            fall: two,
            port: None,
            when: ProbeWhen::default(),
        }
    }
}

// === impl Probing ===

impl Probing {
    /// The course of a node of which nothing is known, its first probe at a random time within the
    /// interval: sidecars that start together do not probe together.
    pub fn new(now: Millis, params: &ProbeParams, random: u64) -> Self {
        Self {
            probed: Probed::Unknown,
            ok: true,
            run: 0,
            newest: [now; 2],
            begun: None,
            under_way: 0,
            due: now + part(params.paces().0, random),
            renewed: now,
            out: None,
            is_resting: false,
            is_kept: false,
            silence: Silence::default(),
            good: 0,
        }
    }

    /// The same course by other rules: the verdict stays until probes by these say otherwise.
    pub fn renew(&mut self, now: Millis, params: &ProbeParams, random: u64) {
        let under_way = self.under_way;
        let probed = self.probed;
        *self = Self::new(now, params, random);
        (self.probed, self.under_way) = (probed, under_way);
    }

    /// Decides at `now` whether a probe is due. `attempts` is asked only when it matters.
    pub fn look(
        &mut self,
        now: Millis,
        seen: Seen,
        attempts: impl Fn() -> Attempts,
        params: &ProbeParams,
        random: u64,
    ) -> Look {
        let (interval, urgent) = params.paces();
        self.stands(now, seen.stands, params);
        self.silence.tell(seen.is_suspect);
        let waiting = u64::from(seen.in_flight);
        self.silence.look(now, waiting, &attempts, interval / LOOKS);
        if self.is_urgent() {
            let soonest = self.begun.map_or(now, |it| it.at + urgent);
            self.due = self.due.min(soonest);
        }
        if now < self.due {
            return Look::Wait;
        }
        let attempts = attempts();
        let is_proved = attempts.good > self.good;
        if is_proved && params.when == ProbeWhen::IdleOrSuspect && self.takes_proof() {
            self.good = attempts.good;
            self.due = now + jitter(interval, random);
            return Look::Needless;
        }
        let at_once = if self.is_urgent() { AT_ONCE_MAX } else { 1 };
        if self.under_way >= at_once {
            return Look::Wait;
        }
        Look::Due(Due {
            since: self.due,
            sent: attempts.ended + waiting,
            good: attempts.good,
        })
    }

    /// The probe that is due begins at `now`; [`ended`](Self::ended) must follow.
    pub fn begin(&mut self, now: Millis, due: Due, params: &ProbeParams, random: u64) {
        let (interval, urgent) = params.paces();
        let pace = if self.is_urgent() { urgent } else { interval };
        self.due = now + jitter(pace, random);
        self.under_way += 1;
        self.good = due.good;
        self.begun = Some(Begun {
            at: now,
            sent: due.sent,
        });
    }

    /// Takes the outcome of the probe that began at `began`, and tells what it changes. `spared` tells
    /// whether the node may go out of rotation.
    pub fn ended(
        &mut self,
        began: Millis,
        outcome: Outcome,
        params: &ProbeParams,
        spared: impl FnOnce() -> bool,
    ) -> Option<Change> {
        self.under_way = self.under_way.saturating_sub(1);
        let ok = match outcome {
            Outcome::Good => true,
            Outcome::Bad => false,
            Outcome::Void => return None,
        };
        if began < self.renewed {
            return None;
        }
        if began < self.newest[usize::from(!ok)] {
            // There is news to the contrary; but that was not so often in a row.
            self.run = self.run.min(1);
            return None;
        }
        if ok != self.ok {
            (self.ok, self.run) = (ok, 0);
        }
        // That a node answered before it went out does not bring it back.
        if !(ok && self.out.is_some_and(|since| began < since)) {
            self.run = self.run.saturating_add(1);
        }
        let newest = &mut self.newest[usize::from(ok)];
        *newest = (*newest).max(began);
        if ok {
            self.is_kept = false;
            if let Some(begun) = self.begun.filter(|it| it.at == began) {
                self.silence.explain(begun.sent);
            }
            self.rises(params)
        } else {
            self.falls(params, spared)
        }
    }

    fn rises(&mut self, params: &ProbeParams) -> Option<Change> {
        let is_news = self.probed != Probed::Up || self.out.is_some();
        let rises = self.run >= params.rise.get() && is_news;
        rises.then(|| {
            self.probed = Probed::Up;
            Change::Up
        })
    }

    fn falls(&mut self, params: &ProbeParams, spared: impl FnOnce() -> bool) -> Option<Change> {
        if self.run < params.fall.get() || self.probed == Probed::Down {
            return None;
        }
        if spared() {
            self.probed = Probed::Down;
            return Some(Change::Down);
        }
        // Asked again at each bad probe: it goes as soon as another can stand in.
        let was_kept = std::mem::replace(&mut self.is_kept, true);
        (!was_kept).then_some(Change::Kept)
    }

    /// Takes note of how the node stands: only probes that began since it is out can bring it back.
    fn stands(&mut self, now: Millis, stands: Stands, params: &ProbeParams) {
        self.is_resting = stands == Stands::Resting;
        let is_out = match stands {
            Stands::Serving => false,
            Stands::Resting => true,
            Stands::Ejected => params.check.reaches_application(),
        };
        if !is_out {
            self.out = None;
        } else if self.out.is_none() {
            self.out = Some(now);
            if self.ok {
                self.run = 0;
            }
        }
    }

    /// Whether probes hurry. Not because of an ejection: one that ended at once for a node that
    /// answers probes and fails requests would be none.
    fn is_urgent(&self) -> bool {
        let fails = !self.ok && self.run > 0;
        fails || self.probed == Probed::Down || self.is_resting || self.silence.is_suspect()
    }

    /// Whether good answers to requests stand for a good probe. They end a run of bad ones then.
    fn takes_proof(&mut self) -> bool {
        let takes = self.probed != Probed::Down && self.out.is_none() && !self.silence.is_suspect();
        if takes && !self.ok {
            (self.ok, self.run, self.is_kept) = (true, 0, false);
        }
        takes
    }
}

/// `pace`, a tenth more or less: what began together drifts apart.
fn jitter(pace: Millis, random: u64) -> Millis {
    (pace - pace / 10 + part(pace / 5, random)).max(PACE_MIN_MS)
}

/// `whole * random / 2^64`.
fn part(whole: Millis, random: u64) -> Millis {
    let scaled = (u128::from(whole) * u128::from(random)) >> 64;
    Millis::try_from(scaled).unwrap_or(whole)
}

#[cfg(test)]
mod tests;
