//! Probes the nodes of all clusters, on the control thread and for all data threads.
//!
//! [`crate::health::probe`] decides when a node is probed and what that comes to; here nodes are
//! looked at, probes run, and verdicts carried out.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use super::counters::{Class, EjectedFor, ProbeOutcome};
use super::node::Node;
use super::state::{Cluster, Replica, SharedState, State};
use crate::health::probe::{
    Attempts, Change, Due, Look, Outcome, ProbeWhen, Probing, Seen, Stands,
};
use crate::health::{Blame, Millis, Probed};
use report::{Report, probe};

mod report;

/// Probes under way at once, over all clusters: a thousand nodes at the default interval need as
/// many as answer within 130 ms; what is beyond waits its turn and is counted.
const AT_ONCE_MAX: usize = 64;

/// How often nodes are looked at: sixteen times within the shortest interval, within these bounds.
/// A look at a quiet node is a few loads.
const LOOKS: u32 = 16;
const LOOK_MIN: Duration = Duration::from_millis(25);
const LOOK_MAX: Duration = Duration::from_millis(100);

/// Probes nodes.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<SharedState>,
    /// Where the process's clock begins.
    started: Instant,
    state: Arc<State>,
    look_every: Duration,
    /// By node, so that a new process under an old id begins anew.
    watched: HashMap<usize, Watched>,
    /// The probes that wait for others to end, the one that is due for longest last.
    due: Vec<(Due, usize)>,
    probes: JoinSet<Report>,
    begun: HashMap<Id, Begun>,
    random: RandomState,
    drawn: u64,
}

/// A node that is probed.
#[derive(Debug)]
struct Watched {
    place: Place,
    probing: Probing,
    /// What was wrong last.
    cause: String,
    /// Whether its next probe waits for others to end.
    is_delayed: bool,
}

/// Where a node is in the state.
#[derive(Clone, Copy, Debug)]
struct Place {
    cluster: usize,
    shard: usize,
    replica: usize,
}

/// A probe under way.
#[derive(Debug)]
struct Begun {
    /// Held, so that no other node is taken for it.
    node: Arc<Node>,
    at: Millis,
    /// How late a look was at worst meanwhile: whether this thread runs when it should.
    lateness: Rc<Cell<Duration>>,
}

impl Prober {
    /// A prober of the nodes that `shared` holds; `started` is where the process's clock begins.
    pub fn new(shared: Arc<SharedState>, started: Instant) -> Self {
        let state = shared.load();
        let mut prober = Self {
            shared,
            started,
            state: Arc::clone(&state),
            look_every: LOOK_MAX,
            watched: HashMap::new(),
            due: Vec::new(),
            probes: JoinSet::new(),
            begun: HashMap::new(),
            random: RandomState::new(),
            drawn: 0,
        };
        prober.follow(&state);
        prober
    }

    /// Probes, for ever. Must run where local tasks can be spawned.
    pub async fn run(mut self) {
        let mut next = Instant::now() + self.look_every;
        loop {
            tokio::select! {
                Some(ended) = self.probes.join_next_with_id() => {
                    self.take(ended);
                    self.begin_due(self.now());
                }
                () = sleep_until(next) => {
                    let now = Instant::now();
                    self.note_lateness(now.saturating_duration_since(next));
                    if self.shared.generation() != self.state.generation {
                        self.follow(&self.shared.load());
                    }
                    self.look();
                    next = now + self.look_every;
                }
            }
        }
    }

    /// Every probe under way could have been as late as a look is.
    fn note_lateness(&self, late: Duration) {
        for Begun { lateness, .. } in self.begun.values() {
            lateness.set(lateness.get().max(late));
        }
    }

    /// Takes up a new state.
    fn follow(&mut self, state: &Arc<State>) {
        let now = self.now();
        let old = std::mem::replace(&mut self.state, Arc::clone(state));
        let mut before = std::mem::take(&mut self.watched);
        self.due.clear();
        for place in places(state) {
            let (cluster, replica) = place.of(state);
            let (node, params) = (&replica.node, &cluster.params.probe);
            if params.when == ProbeWhen::Off {
                node.set_probed(Probed::Unknown);
                continue;
            }
            let random = self.random();
            let watched = match before.remove(&key(node)) {
                None => Watched {
                    place,
                    probing: Probing::new(now, params, random),
                    cause: String::new(),
                    is_delayed: false,
                },
                Some(mut watched) => {
                    let ruled = old.cluster(&cluster.name).map(|it| &it.params.probe);
                    if ruled != Some(params) {
                        watched.probing.renew(now, params, random);
                    }
                    Watched { place, ..watched }
                }
            };
            self.watched.insert(key(node), watched);
        }
        let intervals = state.clusters.iter().map(|it| it.params.probe.interval);
        let shortest = intervals.min().unwrap_or(Duration::MAX);
        self.look_every = (shortest / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
    }

    /// Looks at every node, and begins the probes that are due: those first that are for longest.
    fn look(&mut self) {
        let (now, state) = (self.now(), Arc::clone(&self.state));
        self.due.clear();
        for (key, watched) in &mut self.watched {
            let (cluster, replica) = watched.place.of(&state);
            let node = &replica.node;
            if !node.endpoint().is_resolved() {
                continue;
            }
            self.drawn += 1;
            let random = self.random.hash_one(self.drawn);
            let params = &cluster.params.probe;
            let look = watched
                .probing
                .look(now, seen(node), || attempts(node), params, random);
            match look {
                Look::Wait => {}
                Look::Needless => cluster.probes.of(ProbeOutcome::Skipped).increment(),
                Look::Due(due) => self.due.push((due, *key)),
            }
        }
        self.due.sort_unstable_by_key(|it| Reverse(it.0.since));
        self.begin_due(now);
        self.count_delayed();
    }

    /// Begins as many of the probes that are due as may be under way.
    fn begin_due(&mut self, now: Millis) {
        while self.probes.len() < AT_ONCE_MAX
            && let Some((due, key)) = self.due.pop()
        {
            self.begin(key, due, now);
        }
    }

    fn begin(&mut self, key: usize, due: Due, now: Millis) {
        let random = self.random();
        let Some(watched) = self.watched.get_mut(&key) else {
            return;
        };
        watched.is_delayed = false;
        let (cluster, replica) = watched.place.of(&self.state);
        let params = &cluster.params.probe;
        watched.probing.begin(now, due, params, random);
        let begun = Begun {
            node: Arc::clone(&replica.node),
            at: now,
            lateness: Rc::default(),
        };
        let lateness = Rc::clone(&begun.lateness);
        let probe = probe(Arc::clone(&self.state), watched.place, lateness);
        self.begun
            .insert(self.probes.spawn_local(probe).id(), begun);
    }

    /// Counts the probes that wait, each once.
    fn count_delayed(&mut self) {
        for (_, key) in &self.due {
            if let Some(watched) = self.watched.get_mut(key)
                && !std::mem::replace(&mut watched.is_delayed, true)
            {
                let (cluster, _) = watched.place.of(&self.state);
                cluster.probes.delayed.increment();
            }
        }
    }

    /// Takes what a probe came to, and carries out what follows.
    fn take(&mut self, ended: Result<(Id, Report), JoinError>) {
        let (id, report) = match ended {
            Ok((id, report)) => (id, Some(report)),
            Err(error) => {
                error!(%error, "a probe broke off");
                (error.id(), None)
            }
        };
        let now = self.now();
        let Some(begun) = self.begun.remove(&id) else {
            return;
        };
        // Nobody watches a node that has left since.
        let Some(watched) = self.watched.get_mut(&key(&begun.node)) else {
            return;
        };
        let (cluster, replica) = watched.place.of(&self.state);
        let outcome = report.map_or(Outcome::Void, |it| {
            cluster.probes.of(it.outcome).increment();
            watched.note(&it);
            it.verdict()
        });
        let spared = || cluster.spares(watched.place.shard, replica.slot, now);
        let params = &cluster.params.probe;
        if outcome == Outcome::Good && params.check.reaches_application() {
            answers(cluster, &replica.node, now);
        }
        let change = watched.probing.ended(begun.at, outcome, params, spared);
        match change {
            None => {}
            Some(Change::Up) => up(cluster, &replica.node, now),
            Some(Change::Down) => down(cluster, &replica.node, &watched.cause),
            Some(Change::Kept) => cluster.ejections.kept(EjectedFor::Probe),
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Bits that differ between draws and between processes.
    fn random(&mut self) -> u64 {
        self.drawn += 1;
        self.random.hash_one(self.drawn)
    }
}

/// An answer to a probe that requests could have had, too: what waits at the node is slow, not lost.
fn answers(cluster: &Cluster, node: &Node, now: Millis) {
    if node.is_suspect() && node.heard(now) {
        cluster.load.hold.wake_all();
        let (cluster, node) = (&cluster.name, node.id());
        info!(cluster, node, "the node answers a probe");
    }
}

fn up(cluster: &Cluster, node: &Node, now: Millis) {
    let was_down = node.probed() == Probed::Down;
    if was_down {
        node.rejoin(now);
    } else {
        node.set_probed(Probed::Up);
    }
    // A connection that was taken tells as much as the one that was refused, and no more; an answer to
    // a probe tells that the node answers, not what it answers to requests.
    let standing = node.standing();
    let answers = cluster.params.probe.check.reaches_application();
    let vouches = standing.is_resting() || answers && standing.blame() == Blame::Silence;
    let restored = vouches && node.restore(now);
    if was_down || restored {
        cluster.load.hold.wake_all();
        let (cluster, node) = (&cluster.name, node.id());
        info!(cluster, node, "the node is up, by its probes");
    }
}

fn down(cluster: &Cluster, node: &Node, cause: &str) {
    node.set_probed(Probed::Down);
    cluster.ejections.made(EjectedFor::Probe);
    let (cluster, node) = (&cluster.name, node.id());
    info!(cluster, node, cause, "the node is down, by its probes");
}

/// What is seen of `node` at once.
fn seen(node: &Node) -> Seen {
    let standing = node.standing();
    let stands = match (standing.is_serving(), standing.is_resting()) {
        (true, _) => Stands::Serving,
        (false, true) => Stands::Resting,
        (false, false) => Stands::Ejected,
    };
    Seen {
        in_flight: node.in_flight(),
        stands,
        is_suspect: node.is_suspect(),
    }
}

fn attempts(node: &Node) -> Attempts {
    let sum = |counts: fn(&Class) -> bool| {
        node.counters.sum(|it| {
            let classes = Class::ALL.iter().filter(|it| counts(it));
            let ended = classes.map(|class| it.attempts[*class as usize].value());
            ended.sum::<u64>()
        })
    };
    let is_answer = |it: &Class| !matches!(it, Class::Error | Class::Aborted);
    let is_good = |it: &Class| !matches!(it, Class::ServerError | Class::Error | Class::Aborted);
    Attempts {
        ended: sum(|_| true),
        answered: sum(is_answer),
        good: sum(is_good),
    }
}

/// Every node's place.
fn places(state: &State) -> impl Iterator<Item = Place> {
    let clusters = state.clusters.iter().enumerate();
    clusters.flat_map(|(cluster, it)| {
        let shards = it.shards.iter().enumerate();
        shards.flat_map(move |(shard, it)| {
            let replicas = 0..it.replicas.len();
            replicas.map(move |replica| Place {
                cluster,
                shard,
                replica,
            })
        })
    })
}

fn key(node: &Arc<Node>) -> usize {
    Arc::as_ptr(node) as usize
}

// === impl Place ===

impl Place {
    fn of(self, state: &State) -> (&Cluster, &Replica) {
        let cluster = &state.clusters[self.cluster];
        (cluster, &cluster.shards[self.shard].replicas[self.replica])
    }
}

// === impl Watched ===

impl Watched {
    /// Remembers what was wrong.
    fn note(&mut self, report: &Report) {
        match (report.outcome, &report.cause) {
            (ProbeOutcome::Timeout, _) => "there is no answer in time".clone_into(&mut self.cause),
            (ProbeOutcome::Failed, Some(error)) => self.cause = error.chain(),
            _ => {}
        }
    }
}
