//! Follows the names of nodes: no request waits for DNS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::random_bits;
use crate::cluster::{Node, SharedState};
use crate::names::{
    Ended, Failure, Found, Kept, Known, LookupCounters, Name, Resolver, Schedule, SystemFiles,
};

/// How often it is looked what is due, and whether the state is a new one.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is looked whether the system's files changed.
const SYSTEM_LOOK: Duration = Duration::from_secs(1);

/// The names of the nodes of the state in force.
#[derive(Debug)]
pub(super) struct Names {
    shared: Arc<SharedState>,
    counters: Arc<LookupCounters>,
    started: Instant,
    generation: u64,
    /// Made when there is a name to look up, of `nameservers`, or of what the system's files say.
    resolver: Option<Resolver>,
    nameservers: Vec<SocketAddr>,
    system: SystemFiles,
    system_seen: Instant,
    schedule: Schedule<Name>,
    followed: HashMap<Name, Followed>,
    lookups: JoinSet<Result<Found, Failure>>,
    /// What each lookup is of, for it may end without a word.
    under_way: HashMap<Id, Name>,
}

/// A name that nodes have.
#[derive(Debug, Default)]
struct Followed {
    nodes: Vec<Arc<Node>>,
    known: Known,
    /// When that was answered, on the process's clock.
    answered_at_ms: u64,
    /// Whether the last lookup failed, which was said once.
    is_failing: bool,
}

impl Names {
    /// Follows no name yet.
    pub(super) fn new(
        shared: Arc<SharedState>,
        counters: Arc<LookupCounters>,
        started: Instant,
    ) -> Self {
        Self {
            shared,
            counters,
            started,
            generation: 0,
            resolver: None,
            nameservers: Vec::new(),
            system: SystemFiles::now(),
            system_seen: started,
            schedule: Schedule::default(),
            followed: HashMap::new(),
            lookups: JoinSet::new(),
            under_way: HashMap::new(),
        }
    }

    /// Follows what the newest state names, for ever.
    pub(super) async fn run(mut self) {
        loop {
            self.take_up();
            self.begin();
            tokio::select! {
                Some(ended) = self.lookups.join_next_with_id() => match ended {
                    Ok((id, found)) => self.end(id, found),
                    Err(lost) => self.end(lost.id(), Err(Failure::Refused(lost.to_string()))),
                },
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Takes up a new state, if there is one, and what the system says by now.
    fn take_up(&mut self) {
        if self.generation != self.shared.generation() {
            self.follow();
        }
        if self.resolver.is_some() && self.system_seen.elapsed() >= SYSTEM_LOOK {
            self.system_seen = Instant::now();
            let system = SystemFiles::now();
            if system != self.system {
                info!("the system's files for names changed");
                self.system = system;
                self.ask_anew();
            }
        }
    }

    fn follow(&mut self) {
        let state = self.shared.load();
        self.generation = state.generation;
        if state.desired.nameservers != self.nameservers {
            self.nameservers.clone_from(&state.desired.nameservers);
            self.ask_anew();
        }
        let mut before = std::mem::take(&mut self.followed);
        for (_, _, replica) in state.replicas() {
            if let Some(name) = replica.node.endpoint().name() {
                let followed = self.followed.entry(name.clone());
                let followed = followed.or_insert_with(|| Followed {
                    nodes: Vec::new(),
                    ..before.remove(name).unwrap_or_default()
                });
                followed.nodes.push(Arc::clone(&replica.node));
            }
        }
        for followed in self.followed.values() {
            // A new node of a known name need not wait for the next answer.
            followed.place();
        }
        let names = self.followed.keys().cloned();
        self.schedule.follow(names, self.started.elapsed());
    }

    /// Has others asked from now on, of every name.
    fn ask_anew(&mut self) {
        self.resolver = None;
        self.schedule.renew(self.started.elapsed());
    }

    fn begin(&mut self) {
        while let Some(name) = self.schedule.begin(self.started.elapsed()) {
            let resolver = self.resolver.get_or_insert_with(|| {
                self.system = SystemFiles::now();
                Resolver::new(&self.nameservers)
            });
            let resolver = resolver.clone();
            let last = self.followed.get(&name).map(|it| it.known.clone());
            let looked_up = name.clone();
            let lookup = self.lookups.spawn(async move {
                let last = last.unwrap_or_default();
                resolver.look_up(&looked_up, &last).await
            });
            self.under_way.insert(lookup.id(), name);
        }
    }

    fn end(&mut self, id: Id, found: Result<Found, Failure>) {
        let Some(name) = self.under_way.remove(&id) else {
            return;
        };
        self.counters.count(&found);
        let ended = match &found {
            Ok(found) => Ended::Answered(found.ttl),
            Err(_) => Ended::Failed,
        };
        let now = self.started.elapsed();
        self.schedule.end(&name, ended, now, random_bits());
        let Some(followed) = self.followed.get_mut(&name) else {
            return;
        };
        match found {
            Ok(found) => {
                followed.answered_at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
                let kept = followed.answered(&name, found.known);
                self.counters.cut.add(kept.cut as u64);
            }
            Err(failure) => followed.failed(&name, &failure),
        }
    }
}

impl Followed {
    fn answered(&mut self, name: &Name, known: Known) -> Kept {
        let is_news = self.is_failing || self.known == Known::default();
        self.is_failing = false;
        let is_same = self.known == known;
        self.known = known;
        let kept = self.place();
        if is_news {
            info!(%name, addresses = kept.addresses.len(), cut = kept.cut, "the name resolves");
        } else if !is_same {
            debug!(%name, ?kept, "the name's addresses changed");
        }
        kept
    }

    fn failed(&mut self, name: &Name, failure: &Failure) {
        if self.is_failing {
            return;
        }
        self.is_failing = true;
        if self.known == Known::default() {
            warn!(%name, error = %failure, "the name does not resolve");
        } else {
            warn!(%name, error = %failure, "the name does not resolve: its last addresses stay");
        }
    }

    /// Tells the nodes of the name where they are; what the last one is told.
    fn place(&self) -> Kept {
        let mut last = Kept::default();
        for node in &self.nodes {
            last = self.known.addresses(node.endpoint().port());
            let addresses = last.addresses.clone();
            let moved = node.endpoint().resolve(addresses, self.answered_at_ms);
            if moved {
                info!(node = node.id(), addresses = ?last.addresses, "the node moved");
                // As with a new address in the topology: what was observed was another process.
                node.restore(self.answered_at_ms);
            }
        }
        last
    }
}
