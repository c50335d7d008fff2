//! How a request ended: the one place where it is counted, logged and put into spans.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::body::Activity;
use super::journey::{Arrival, Journey};
use super::request::Received;
use super::spans;
use super::thread::Context;
use super::trace::Trace;
use super::view::View;
use crate::cluster::Target;
use crate::cluster::counters::{Class, METHODS, RouteCounters, method_index};
use crate::cluster::desired::Only;
use crate::head::{Known, PathPattern};
use crate::net::clock;
use crate::reason::Reason;
use crate::retry::Failure;
use crate::spares::Spares;
use crate::trace_context::TraceParent;

/// A request under way. Dropping it ends the request: it is counted as what was last known of it,
/// as aborted when nobody said that it was complete.
#[derive(Debug)]
pub(super) struct Outcome {
    thread: Rc<Context>,
    view: Rc<View>,
    route: Cell<Option<usize>>,
    started: Instant,
    method: usize,
    status: Cell<Option<StatusCode>>,
    /// The time as it was last read, as long as nothing had to be waited for since.
    now: Cell<Option<Instant>>,
    ended: Cell<Ended>,
    reason: Cell<Option<Reason>>,
    sent: Cell<u64>,
    /// What is held of the response, in bytes.
    held: Cell<usize>,
    attempts: Cell<u32>,
    target: Cell<Option<Target>>,
    /// The view by which a held request went on, and its cluster there.
    goes_on_by: RefCell<Option<(Rc<View>, usize)>>,
    trace: Trace,
    /// What only the access log and spans need, kept only for requests that they take.
    line: RefCell<Option<Box<Line>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Open,
    Complete,
    Broken,
}

/// Written lines that a thread keeps for later requests: as many as it has at once in a sidecar;
/// more, or those of longer targets, are given back to the allocator.
const SPARES: usize = 256;
const SPARE_MAX: usize = 1 << 10;

thread_local! {
    static SPARE: Spares<Box<Line>> = const { Spares::new(SPARES) };
}

/// What the access log and spans say of a request beside its outcome.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Whether the access log takes it.
    pub(super) logged: bool,
    /// `http` or `https`, by which it came.
    pub(super) scheme: &'static str,
    /// `None` of what could not be read as a request.
    pub(super) method: Option<Method>,
    pub(super) target: String,
    pub(super) version: Option<Version>,
    pub(super) authority: String,
    pub(super) client: Option<IpAddr>,
    pub(super) journey: Journey,
}

/// A request's end, for the access log and spans.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) line: &'a Line,
    pub(super) route: &'a str,
    pub(super) pattern: Option<&'a PathPattern>,
    pub(super) cluster: &'a str,
    pub(super) shard: &'a str,
    pub(super) node: &'a str,
    pub(super) target: Option<Target>,
    pub(super) status: Option<u16>,
    pub(super) class: Class,
    pub(super) reason: Option<Reason>,
    pub(super) attempts: u32,
    pub(super) bytes: u64,
    pub(super) received: u64,
    pub(super) duration: Duration,
    pub(super) first_byte: Option<Duration>,
    pub(super) overhead: Option<Duration>,
}

impl Line {
    /// One to be filled, with the memory of one that was written.
    pub(super) fn spare() -> Box<Self> {
        Spares::take(&SPARE).unwrap_or_default()
    }

    fn keep(mut self: Box<Self>) {
        self.journey.clear();
        if self.target.capacity().max(self.authority.capacity()) <= SPARE_MAX {
            Spares::keep(&SPARE, self);
        }
    }
}

impl Outcome {
    /// A request that began at `started`; `line` when it is logged or recorded. Without a method it is one that
    /// could not be read.
    pub(super) fn begin(
        thread: Rc<Context>,
        view: Rc<View>,
        method: Option<&Method>,
        started: Instant,
        line: Option<Box<Line>>,
        trace: Trace,
    ) -> Self {
        let outcome = Self {
            thread,
            view,
            route: Cell::new(None),
            started,
            method: method.map_or(METHODS.len() - 1, method_index),
            status: Cell::new(None),
            now: Cell::new(None),
            ended: Cell::new(Ended::Open),
            reason: Cell::new(None),
            sent: Cell::new(0),
            held: Cell::new(0),
            attempts: Cell::new(0),
            target: Cell::new(None),
            goes_on_by: RefCell::new(None),
            trace,
            line: RefCell::new(line),
        };
        outcome.counters().in_flight.add(1);
        outcome
    }

    /// The thread that serves the request.
    pub(super) fn thread(&self) -> &Context {
        &self.thread
    }

    /// When the request began.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The request takes `route`.
    pub(super) fn takes(&self, route: usize) {
        self.counters().in_flight.add(-1);
        self.route.set(Some(route));
        self.counters().in_flight.add(1);
    }

    /// The counters of its route, or of requests without one.
    pub(super) fn counters(&self) -> &RouteCounters {
        let stripes = match self.route.get() {
            Some(route) => &self.view.state.routes[route].counters,
            None => &self.view.state.unrouted,
        };
        stripes.of(self.thread.index)
    }

    /// The request goes on with the target of `received`, which it did not come with.
    pub(super) fn goes_on_as(&self, received: &Received) {
        if let Some(line) = &mut *self.line.borrow_mut() {
            received.write_target(&mut line.target);
        }
    }

    /// The request was held, and goes on in the cluster that is at `cluster` in `view`.
    pub(super) fn goes_on_by(&self, view: &Rc<View>, cluster: usize) {
        self.goes_on_by.replace(Some((Rc::clone(view), cluster)));
    }

    /// An attempt at `target` begins.
    pub(super) fn attempted(&self, target: Target) {
        self.attempts.set(self.attempts.get() + 1);
        self.target.set(Some(target));
        if let Some(line) = &mut *self.line.borrow_mut() {
            let held = self.goes_on_by.borrow();
            let held = held.as_ref().map(|(view, at)| (view, *at));
            let route = self.route.get().map(|it| &self.view.state.routes[it]);
            let place = held.or_else(|| route.map(|it| (&self.view, it.cluster)));
            if let Some((view, cluster)) = place {
                let span = self.trace.attempt(|| self.thread.random());
                let now = clock::now();
                line.journey.begins((view, cluster), target, span, now);
            }
        }
    }

    /// The attempt that began last was none: its place was taken.
    pub(super) fn takes_back(&self) {
        self.attempts.set(self.attempts.get().saturating_sub(1));
        self.with_journey(Journey::takes_back);
    }

    /// An attempt came to the head of its answer, or failed.
    pub(super) fn arrived(&self, target: Target, now: Instant, arrival: Arrival) {
        self.with_journey(|it| it.arrives(target, now, arrival));
    }

    /// Whether what the client sent as this field of trace context goes on.
    pub(super) fn passes(&self, field: Known) -> bool {
        self.trace.passes(field)
    }

    /// What keyway says of the trace to the node at `target`, where it says anything.
    pub(super) fn traceparent(&self, target: Target) -> Option<TraceParent> {
        self.trace
            .parent(|| self.line.borrow().as_ref()?.journey.span(target))
    }

    /// What failed of the attempt at `target`.
    pub(super) fn failed(&self, target: Target, failure: Failure) {
        self.with_journey(|it| it.failed(target, failure));
    }

    /// What the client sends is counted by `activity`.
    pub(super) fn follows(&self, activity: &Activity) {
        self.with_journey(|it| it.follows(activity));
    }

    fn with_journey(&self, note: impl FnOnce(&mut Journey)) {
        if let Some(line) = &mut *self.line.borrow_mut() {
            note(&mut line.journey);
        }
    }

    /// Of several attempts at once the one at `target` answers.
    pub(super) fn answers(&self, target: Target) {
        self.target.set(Some(target));
    }

    /// The response's head goes out.
    pub(super) fn responded(&self, status: StatusCode) {
        self.status.set(Some(status));
        let logged = self.line.borrow().is_some();
        // Only a line has use for the time since the node's answer came.
        let now = if logged {
            clock::now()
        } else {
            clock::recent()
        };
        self.now.set(Some(now));
        self.with_journey(|it| it.responds(now));
    }

    /// Something has to be waited for: the time goes on.
    pub(super) fn waits(&self) {
        self.now.set(None);
    }

    /// keyway answers itself.
    pub(super) fn refused(&self, reason: Reason) {
        self.reason.set(Some(reason));
        self.counters().errors[reason.index()].increment();
    }

    /// Bytes of the response's body went out.
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// So many bytes of the response are held for the client.
    pub(super) fn holds(&self, bytes: usize) {
        self.thread.holds(&self.held, bytes);
    }

    /// So many more.
    pub(super) fn holds_more(&self, bytes: usize) {
        self.holds(self.held.get() + bytes);
    }

    /// The whole response went out.
    pub(super) fn complete(&self) {
        if self.ended.get() == Ended::Open {
            self.ended.set(Ended::Complete);
        }
    }

    /// The response broke off.
    pub(super) fn broke(&self) {
        self.ended.set(Ended::Broken);
    }

    /// What was thought to be complete did not reach the client.
    pub(super) fn abandoned(&self) {
        self.ended.set(Ended::Open);
    }

    fn class(&self) -> Class {
        match (self.ended.get(), self.status.get()) {
            (Ended::Complete, Some(status)) => Class::of(status),
            (Ended::Broken, _) => Class::Error,
            (Ended::Open | Ended::Complete, _) => Class::Aborted,
        }
    }

    /// Tells the access log and the queue of spans.
    fn tell(&self, line: &Line, now: Instant, duration: Duration) {
        let state = &self.view.state;
        let (class, reason) = (self.class(), self.reason.get());
        let only = state.desired.access_log.only;
        let logged = line.logged && is_wanted(only, class, reason, duration);
        if !logged && !self.trace.is_recorded() {
            return;
        }
        let route = self.route.get().map(|it| &state.routes[it]);
        let held = self.goes_on_by.borrow();
        let held = held.as_ref().map(|(view, at)| &view.state.clusters[*at]);
        let cluster = held.or_else(|| route.map(|it| &state.clusters[it.cluster]));
        let target = cluster.zip(self.target.get());
        let record = Record {
            line,
            route: route.map_or("", |it| &it.route.name),
            pattern: route.and_then(|it| it.route.matcher.path.as_ref()),
            cluster: cluster.map_or("", |it| &it.name),
            shard: target.map_or("", |(cluster, it)| &cluster.shards[it.shard].name),
            node: target.map_or("", |(cluster, it)| it.replica(cluster).node.id()),
            target: self.target.get(),
            status: self.status.get().map(|it| it.as_u16()),
            class,
            reason,
            attempts: self.attempts.get(),
            bytes: self.sent.get(),
            received: line.journey.received(),
            duration,
            first_byte: line.journey.first_byte(self.started),
            overhead: line.journey.overhead(self.started),
        };
        if let Trace::Recorded(recorded) = self.trace {
            let attempts = line.journey.tries().len();
            let times = (self.started, now);
            let make = || spans::spans(&record, &recorded, times);
            self.thread.spans.put(1 + attempts, make);
        }
        if logged && let Some(format) = &state.desired.access_log.format {
            let mut log = self.thread.access_log.borrow_mut();
            log.write(format, &record);
        }
    }
}

/// Whether a request that ended so is worth a line.
fn is_wanted(only: Only, class: Class, reason: Option<Reason>, duration: Duration) -> bool {
    match only {
        Only::All => true,
        Only::Errors => {
            reason.is_some() || matches!(class, Class::ServerError | Class::Error | Class::Aborted)
        }
        Only::Slow(at_least) => duration >= at_least,
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.holds(0);
        let now = self.now.get().unwrap_or_else(clock::now);
        let duration = now.saturating_duration_since(self.started);
        let counters = self.counters();
        counters.in_flight.add(-1);
        counters.requests[self.method][self.class() as usize].increment();
        counters.duration.observe(duration);
        if let Some(line) = self.line.take() {
            self.tell(&line, now, duration);
            line.keep();
        }
    }
}
