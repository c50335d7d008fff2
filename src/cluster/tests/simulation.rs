//! Requests and nodes on a simulated clock: the pure machines as the data path drives them.
//!
//! Nodes turn well, refuse, hang or fail at random moments; requests come at a fixed rate, and every
//! one is followed to its end. What must hold whatever happens is asserted; the seed of a run that
//! fails is told, and `KEYWAY_SIMULATION_SEED` runs it alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::health::{Blame, Millis, Standing, Verdict};
use crate::retry::{Budget, Decision, Failure, Policy, RepeatableMethods, Situation};

const SEEDS: u64 = 40;
const REQUEST_EVERY_MS: Millis = 5;
const FAULTS_END_MS: Millis = 30_000;
const END_MS: Millis = 130_000;
const ATTEMPT_TIMEOUT_MS: Millis = 2000;
/// What is usual is far below what an attempt waits at least before that says something.
const PATIENCE: Duration = Duration::from_millis(75);
const PATIENCE_MS: Millis = 75;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Well,
    /// Some answers take long, and most do not.
    Mixed,
    Refuses,
    Hangs,
    Fails,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    request: usize,
    target: Target,
    seen: Standing,
    began: Millis,
    /// What its node does with it; decided when it begins.
    met: Behaviour,
}

/// What happens to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// It has waited beyond what is usual.
    Overdue,
    Ends,
}

#[derive(Debug)]
struct Request {
    pick: Pick,
    owner: usize,
    attempts: u32,
    visited: Vec<usize>,
    answered: Option<Target>,
    ended: bool,
}

struct Simulation {
    state: State,
    behaviours: Vec<Behaviour>,
    now: Millis,
    random: u64,
    budget: Budget,
    policy: Policy,
    requests: Vec<Request>,
    attempts: Vec<Option<Attempt>>,
    /// When what happens to an attempt, by its number.
    events: BinaryHeap<Reverse<(Millis, usize, Event)>>,
    /// How many attempts each node was sent.
    sent: [u32; 6],
    suspicions: u32,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let params = ClusterParams::default();
        let policy = params.retry.clone();
        Self {
            state: first(topology(&[2, 3, 1]), params),
            behaviours: vec![Behaviour::Well; 6],
            now: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            budget: Budget::new(policy.budget, 0, Duration::ZERO),
            policy,
            requests: Vec::new(),
            attempts: Vec::new(),
            events: BinaryHeap::new(),
            sent: [0; 6],
            suspicions: 0,
        }
    }

    /// Xorshift (Marsaglia, 2003).
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn run(&mut self) {
        while self.now < END_MS {
            if self.now < FAULTS_END_MS && self.draw(1500) == 0 {
                let behaviours = [
                    Behaviour::Well,
                    Behaviour::Mixed,
                    Behaviour::Refuses,
                    Behaviour::Hangs,
                    Behaviour::Fails,
                ];
                let (node, behaviour) = (self.draw(6), self.draw(5));
                self.behaviours[usize::try_from(node).unwrap()] =
                    behaviours[usize::try_from(behaviour).unwrap()];
            }
            if self.now == FAULTS_END_MS {
                self.behaviours.fill(Behaviour::Well);
            }
            self.step();
        }
    }

    /// A millisecond passes.
    fn step(&mut self) {
        self.now += 1;
        while let Some(Reverse((at, attempt, event))) = self.events.peek().copied()
            && at <= self.now
        {
            self.events.pop();
            match event {
                Event::Overdue => self.overdue(attempt),
                Event::Ends => {
                    if let Some(ended) = self.take(attempt) {
                        self.end(ended);
                    }
                }
            }
        }
        if self.now.is_multiple_of(REQUEST_EVERY_MS) {
            self.arrive();
        }
    }

    /// The attempt of this number, which is under way no more.
    fn take(&mut self, number: usize) -> Option<Attempt> {
        let attempt = self.attempts[number].take()?;
        let replica = attempt.target.replica(&self.state.clusters[0]);
        replica.node.end();
        Some(attempt)
    }

    fn arrive(&mut self) {
        let key = self.draw(500).to_le_bytes();
        let pick = pick(&self.state, &key);
        let owner = pick.shard(&self.state.clusters[0]);
        self.requests.push(Request {
            pick,
            owner,
            attempts: 0,
            visited: Vec::new(),
            answered: None,
            ended: false,
        });
        let request = self.requests.len() - 1;
        let next = self.requests[request]
            .pick
            .next(&self.state.clusters[0], self.now, || 0);
        self.begin(
            request,
            next.target()
                .expect("a cluster that tries all must have a node"),
        );
    }

    fn begin(&mut self, request: usize, target: Target) {
        let replica = target.replica(&self.state.clusters[0]);
        let it = &mut self.requests[request];
        assert_eq!(target.shard, it.owner, "a key must stay with its shard");
        it.attempts += 1;
        it.visited.push(replica.slot);
        let (slot, seen) = (replica.slot, replica.node.standing());
        let met = self.behaviours[slot];
        // Every fourth of a node's: others come between.
        self.sent[slot] += 1;
        let is_slow = self.sent[slot].is_multiple_of(4);
        let takes = match met {
            Behaviour::Mixed if is_slow => ATTEMPT_TIMEOUT_MS / 2,
            Behaviour::Well | Behaviour::Mixed | Behaviour::Fails => 2,
            Behaviour::Refuses => 0,
            Behaviour::Hangs => ATTEMPT_TIMEOUT_MS,
        };
        replica.node.begin();
        let number = self.attempts.len();
        let mut happens =
            |after, event| self.events.push(Reverse((self.now + after, number, event)));
        happens(takes, Event::Ends);
        if takes > PATIENCE_MS {
            happens(PATIENCE_MS, Event::Overdue);
        }
        self.attempts.push(Some(Attempt {
            request,
            target,
            seen,
            began: self.now,
            met,
        }));
    }

    fn end(&mut self, attempt: Attempt) {
        let cluster = &self.state.clusters[0];
        let replica = attempt.target.replica(cluster);
        let node = Arc::clone(&replica.node);
        let (slot, now) = (replica.slot, self.now);
        let random = self.draw(u64::MAX);
        let cluster = &self.state.clusters[0];
        let failure = match attempt.met {
            Behaviour::Well | Behaviour::Mixed => {
                node.heard(now);
                node.answered(attempt.seen, now);
                let it = &mut self.requests[attempt.request];
                (it.answered, it.ended) = (Some(attempt.target), true);
                return;
            }
            Behaviour::Refuses => {
                node.refused(attempt.seen, now, random);
                Failure::Connect
            }
            Behaviour::Hangs | Behaviour::Fails => {
                if attempt.met == Behaviour::Fails {
                    node.heard(now);
                }
                let evidence = Evidence {
                    seen: attempt.seen,
                    began: attempt.began,
                    blame: Blame::Silence,
                };
                let spared = || cluster.spares(attempt.target.shard, slot, now);
                let eject = &cluster.params.eject;
                let was_serving = node.standing().is_serving();
                if node.failed(evidence, now, eject, random, spared) == Failed::Ejected {
                    // A trial that fails takes nobody out.
                    if was_serving {
                        self.checks_floor(attempt.target.shard);
                    }
                    self.moves(slot);
                }
                match attempt.met {
                    Behaviour::Hangs => Failure::Timeout,
                    _ => Failure::Status(503),
                }
            }
        };
        self.follow(attempt, failure);
    }

    /// An attempt has waited beyond what is usual; who waits so leaves at its end.
    fn overdue(&mut self, number: usize) {
        let Some(attempt) = self.attempts[number] else {
            return;
        };
        let cluster = &self.state.clusters[0];
        let replica = attempt.target.replica(cluster);
        let (slot, node) = (replica.slot, Arc::clone(&replica.node));
        if node.is_suspect() {
            // It was to show whether the node answers again.
            let attempt = self.take(number).expect("it must wait");
            self.follow(attempt, Failure::Left);
            return;
        }
        let Some(waits) = node.waits(attempt.began) else {
            return;
        };
        let others = (attempt.target.shard, slot);
        let suspects = cluster.suspects(others, &waits, PATIENCE, self.now);
        if suspects && node.suspect(&waits, self.now) {
            let hangs = |it: &Attempt| it.target == attempt.target && it.met == Behaviour::Hangs;
            let lately = self.attempts.iter().rev().take(1000).flatten();
            assert!(
                lately.copied().any(|it| hangs(&it)),
                "who answers some must not be suspect"
            );
            self.suspicions += 1;
            self.checks_floor(attempt.target.shard);
            self.moves(slot);
        }
        // It counts until it ends: longer than any other here.
        std::mem::forget(waits);
    }

    /// What follows a failed attempt, as `forward` has it.
    fn follow(&mut self, attempt: Attempt, failure: Failure) {
        let cluster = &self.state.clusters[0];
        let it = &mut self.requests[attempt.request];
        let situation = Situation {
            repeatable: RepeatableMethods::Safe,
            body_replayable: true,
            attempts: it.attempts,
            time_left: true,
            next_node: it.pick.has_next(cluster, self.now),
            only_node: it.pick.is_only(cluster, attempt.target, self.now),
            asked_back: false,
            nested: false,
        };
        let decision = self.policy.decide(failure, &situation);
        let requests = self.requests.len() as u64;
        let free = matches!(failure, Failure::Connect | Failure::Left);
        let elapsed = Duration::from_millis(self.now);
        let granted = free || self.budget.withdraw(requests, elapsed);
        let it = &mut self.requests[attempt.request];
        let next = match decision {
            Decision::NextNode if granted => it.pick.next(cluster, self.now, || 0).target(),
            Decision::SameNode if granted => Some(attempt.target),
            _ => None,
        };
        match next {
            Some(target) => self.begin(attempt.request, target),
            None => it.ended = true,
        }
    }

    /// Who waits at a node that left goes to the next at once, where that may be.
    fn moves(&mut self, slot: usize) {
        let cluster = &self.state.clusters[0];
        let waits = |it: &Attempt| {
            it.target.replica(cluster).slot == slot
                && it.met == Behaviour::Hangs
                && it.seen.is_serving()
        };
        let waiting: Vec<_> = (0..self.attempts.len())
            .rev()
            .take(1000)
            .filter(|at| self.attempts[*at].as_ref().is_some_and(waits))
            .collect();
        for at in waiting {
            let attempt = self.take(at).expect("it must wait");
            self.follow(attempt, Failure::Left);
        }
    }

    fn checks_floor(&self, shard: usize) {
        let replicas = &self.state.clusters[0].shards[shard].replicas;
        let left = replicas
            .iter()
            .filter(|it| it.node.verdict(self.now) == Verdict::Healthy);
        assert!(left.count() >= 1, "a shard must keep a node");
    }

    /// What must hold of every request that has ended.
    fn checks(&self) {
        for it in &self.requests {
            let mut visited = it.visited.clone();
            visited.dedup();
            let distinct: HashSet<_> = visited.iter().collect();
            assert_eq!(
                distinct.len(),
                visited.len(),
                "no node may be visited twice: {:?}",
                it.visited
            );
            assert!(it.attempts <= self.policy.attempts);
        }
        let attempts: u32 = self.requests.iter().map(|it| it.attempts).sum();
        let requests = u32::try_from(self.requests.len()).unwrap();
        assert!(
            f64::from(attempts) <= 2.0 * f64::from(requests),
            "{attempts} of {requests}"
        );
        // All are well for long: every request is answered by its first node, at the first try.
        let last = &self.requests[self.requests.len() - 1000..];
        let rest = last.iter().filter(|it| it.ended);
        for it in rest {
            assert_eq!((it.attempts, it.answered.map(|it| it.rank)), (1, Some(0)));
        }
        for (.., replica) in self.state.replicas() {
            assert_eq!(replica.node.verdict(self.now), Verdict::Healthy);
        }
    }
}

#[test]
fn whatever_nodes_do_requests_go_where_they_may_and_all_comes_home() {
    let chosen = std::env::var("KEYWAY_SIMULATION_SEED").ok();
    let seeds = match chosen.map(|it| it.parse().expect("a seed must be a number")) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed);
            simulation.run();
            simulation.checks();
        });
        assert!(
            run.is_ok(),
            "the run of KEYWAY_SIMULATION_SEED={seed} failed"
        );
    }
}

/// A node stops: it is passed by long before an attempt's time is over, and what waited moved on.
#[test]
fn a_silent_node_is_passed_by_at_once() {
    let mut simulation = Simulation::new(7);
    while simulation.now < 2000 {
        simulation.step();
    }
    simulation.behaviours[0] = Behaviour::Hangs;
    while simulation.now < 2400 {
        simulation.step();
    }
    assert_eq!(simulation.suspicions, 1);
    let node = &simulation.state.clusters[0].shards[0].replicas[0].node;
    assert_eq!(node.verdict(simulation.now), Verdict::Silent);
    // Whoever waits now tries it anew.
    let waits = |it: &&Attempt| it.target.replica(&simulation.state.clusters[0]).slot == 0;
    let waiting = simulation.attempts.iter().flatten().filter(waits);
    assert_eq!(waiting.count(), 0);
    simulation.behaviours[0] = Behaviour::Well;
    while simulation.now < 4400 {
        simulation.step();
    }
    let node = &simulation.state.clusters[0].shards[0].replicas[0].node;
    assert_eq!(node.verdict(simulation.now), Verdict::Healthy);
}

/// All nodes hang, which is nobody's fault: none is suspect.
#[test]
fn where_all_are_silent_nobody_is_suspect() {
    let mut simulation = Simulation::new(3);
    while simulation.now < 2000 {
        simulation.step();
    }
    simulation.behaviours.fill(Behaviour::Hangs);
    while simulation.now < 3500 {
        simulation.step();
    }
    assert_eq!(simulation.suspicions, 0);
}

/// Everything fails for thirty seconds: attempts stay within the budget.
#[test]
fn a_whole_failure_is_not_amplified() {
    let mut simulation = Simulation::new(1);
    simulation.behaviours.fill(Behaviour::Fails);
    while simulation.now < 30_000 {
        simulation.step();
    }
    let attempts: u32 = simulation.requests.iter().map(|it| it.attempts).sum();
    let requests = u32::try_from(simulation.requests.len()).unwrap();
    // A fifth more, and ten a second with what they began with.
    let bound = requests + requests / 5 + 10 * 30 + 100;
    assert!(attempts <= bound, "{attempts} of {requests}");
}
