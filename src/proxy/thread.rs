//! One data thread: its view of the state, its pools, its share of the connections.

use std::cell::{Cell, Ref, RefCell};
use std::io;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::access_log::RequestLog;
use super::connection::{self, Parking, Staff};
use super::entrance::{Entrance, ListenerInfo};
use super::fields::Pseudonym;
use super::view::View;
use crate::cluster::SharedState;
use crate::drain::{DrainWatch, Phase};
use crate::health::Millis;
use crate::limits::{Limit, LimitCounters, Limits};
use crate::net::{AcceptPause, Detached, Listener, Stream, clock};
use crate::otlp::SpanQueue;
use crate::telemetry::{Gauge, LineBuffer, Striped, ThreadIndex, http_date};
use crate::upstream::{ConnectionCounters, Pool};

/// Connections on their way to a thread that has not taken them over yet; more stay where they
/// were accepted.
const INBOX: usize = 1024;

/// What is held is added up over all threads when it grew by more than this, in bytes.
const WEIGHED: usize = 16 << 10;

/// How long it is still accepted when the drain has begun: for who was let in and is on the way. It is
/// the round trip that a handshake may take.
const LAST_CALL: Duration = Duration::from_millis(50);

/// How long a connection that has brought no request yet may still bring one when the drain has begun:
/// who was let in last is about to send it.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// How often idle connections are looked at, a new state is taken up without a request, and the
/// access log's lines go out although they fill no buffer.
const SWEEP: Duration = Duration::from_secs(1);

/// What the data threads share: how many connections each has, and how to hand one over.
#[derive(Debug)]
pub struct Fleet {
    ports: Vec<ThreadPort>,
    /// How many times a thread accepts from a listener.
    accepting: AtomicUsize,
    /// What became of clients' connections.
    pub connections: Striped<ConnectionCounters>,
    /// How often clients reached which limit.
    pub limits: Striped<LimitCounters>,
    /// The bytes of bodies that are held.
    pub buffered: Striped<Gauge>,
    /// Whether they are as many as may be: written when that changes, so that reading it costs a
    /// request nothing.
    is_full: AtomicBool,
}

/// How a data thread is seen from the others.
#[derive(Debug)]
#[repr(align(128))]
pub struct ThreadPort {
    connections: AtomicUsize,
    /// Grows as long as the thread turns.
    beats: AtomicU32,
    inbox: mpsc::Sender<Handover>,
}

/// A connection for another thread.
#[derive(Debug)]
struct Handover {
    socket: Detached,
    listener: u32,
}

/// A client's place on a thread, counted from when it was accepted to its end.
#[derive(Debug)]
pub(super) struct Seat(Rc<Context>);

/// What the process gives each data thread.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The other threads.
    pub fleet: Arc<Fleet>,
    /// The state.
    pub shared: Arc<SharedState>,
    /// The listening sockets.
    pub listeners: Arc<Vec<Entrance>>,
    /// How this process names itself in Via: what finds a loop.
    pub pseudonym: Pseudonym,
    /// Where the spans of recorded requests go.
    pub spans: SpanQueue,
    /// The way down.
    pub drain: DrainWatch,
    /// When the process began.
    pub started: Instant,
}

/// One data thread before it runs.
#[derive(Debug)]
pub struct DataThread {
    index: ThreadIndex,
    inbox: mpsc::Receiver<Handover>,
}

/// What everything on a data thread needs.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) index: ThreadIndex,
    pub(super) fleet: Arc<Fleet>,
    pub(super) drain: DrainWatch,
    pub(super) pseudonym: Pseudonym,
    pub(super) access_log: RefCell<RequestLog>,
    pub(super) spans: SpanQueue,
    listeners: Vec<ListenerInfo>,
    shared: Arc<SharedState>,
    view: RefCell<Rc<View>>,
    limits: Cell<Limits>,
    pub(super) parking: Parking,
    /// Whether connections that have brought no request yet are idle like others.
    is_closing: Cell<bool>,
    pub(super) workers: Staff,
    started: Instant,
    random: Cell<u64>,
    /// The time of the last sweep, as Date has it.
    date: RefCell<String>,
}

// === impl Fleet ===

impl Fleet {
    /// `threads` data threads and what they share.
    pub fn new(threads: usize) -> (Arc<Self>, Vec<DataThread>) {
        let (ports, threads): (Vec<_>, Vec<_>) = (0..threads)
            .map(|index| {
                let (inbox, receiver) = mpsc::channel(INBOX);
                let port = ThreadPort {
                    connections: AtomicUsize::new(0),
                    beats: AtomicU32::new(0),
                    inbox,
                };
                (
                    port,
                    DataThread {
                        index: ThreadIndex(index),
                        inbox: receiver,
                    },
                )
            })
            .unzip();
        let count = ports.len();
        let fleet = Self {
            ports,
            accepting: AtomicUsize::new(0),
            connections: Striped::new(count),
            limits: Striped::new(count),
            buffered: Striped::new(count),
            is_full: AtomicBool::new(false),
        };
        (Arc::new(fleet), threads)
    }

    /// Clients' connections over all threads.
    pub fn open_connections(&self) -> usize {
        self.ports
            .iter()
            .map(|it| it.connections.load(Relaxed))
            .sum()
    }

    /// Whether no client's connection is left, and none can come.
    pub fn is_deserted(&self) -> bool {
        // In this order: what is accepted is counted before it is no longer accepted.
        self.accepting.load(Acquire) == 0 && self.open_connections() == 0
    }

    /// A count of each thread that grows about once a second, as long as it turns.
    pub fn beats(&self) -> impl Iterator<Item = u32> {
        self.ports.iter().map(|it| it.beats.load(Relaxed))
    }

    /// Clients' connections that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.connections.sum(|it| it.ok.value())
    }

    /// Looks whether `max` bytes are held.
    fn weigh(&self, max: usize) {
        let held = self.buffered.sum(Gauge::value);
        let is_full = usize::try_from(held).is_ok_and(|held| held >= max);
        if self.is_full.load(Relaxed) != is_full {
            self.is_full.store(is_full, Relaxed);
        }
    }

    /// The thread with the fewest connections; `own` when it is no worse.
    fn least_loaded(&self, own: ThreadIndex) -> ThreadIndex {
        let load = |index: usize| self.ports[index].connections.load(Relaxed);
        let fewest = (0..self.ports.len()).min_by_key(|&index| (load(index), index != own.0));
        fewest.map_or(own, ThreadIndex)
    }
}

// === impl Seat ===

impl Seat {
    /// A place for a connection that was counted among the thread's.
    fn take(thread: &Rc<Context>) -> Self {
        thread.fleet.connections.of(thread.index).open.add(1);
        Self(Rc::clone(thread))
    }
}

impl Deref for Seat {
    type Target = Rc<Context>;

    fn deref(&self) -> &Rc<Context> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let connections = self.fleet.connections.of(self.index);
        connections.open.add(-1);
        if self.phase() == Phase::Over {
            connections.cut.increment();
        }
        self.connection_ended();
    }
}

/// Counts one who accepts, as long as it is held.
struct Accepting(Arc<Fleet>);

impl Accepting {
    fn begin(fleet: &Arc<Fleet>) -> Self {
        fleet.accepting.fetch_add(1, Relaxed);
        Self(Arc::clone(fleet))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Release);
    }
}

// === impl DataThread ===

impl DataThread {
    /// Serves until the drain is over, with `access_log` for this thread's lines. Runs inside a
    /// local runtime of this thread.
    ///
    /// # Errors
    /// When a listener cannot be registered with the runtime.
    pub async fn run(self, surroundings: Surroundings, access_log: LineBuffer) -> io::Result<()> {
        let Surroundings {
            fleet,
            shared,
            listeners,
            pseudonym,
            spans,
            drain,
            started,
        } = surroundings;
        let view = View::new(shared.load(), None, self.index);
        let context = Rc::new(Context {
            index: self.index,
            fleet,
            drain,
            pseudonym,
            access_log: RefCell::new(RequestLog::new(access_log)),
            spans,
            listeners: listeners.iter().map(ListenerInfo::of).collect(),
            limits: Cell::new(view.state.desired.limits),
            view: RefCell::new(Rc::new(view)),
            shared,
            started,
            random: Cell::new(seed(self.index)),
            parking: Parking::default(),
            is_closing: Cell::new(false),
            workers: Staff::default(),
            date: RefCell::new(http_date()),
        });
        let mut tasks = JoinSet::new();
        for (at, listener) in (0..).zip(listeners.iter()) {
            tasks.spawn_local(accept(Rc::clone(&context), listener.socket.register()?, at));
        }
        drop(listeners);
        tasks.spawn_local(adopt(Rc::clone(&context), self.inbox));
        tasks.spawn_local(sweep(Rc::clone(&context)));
        let mut drain = context.drain.clone();
        drain.reached(Phase::Draining).await;
        context.parking.wake_all();
        let _over = timeout(FIRST_REQUEST, drain.reached(Phase::Over))
            .await
            .is_ok();
        context.is_closing.set(true);
        context.parking.wake_all();
        drain.reached(Phase::Over).await;
        Ok(())
    }
}

/// Accepts from when it is served until the drain begins, and keeps a connection or hands it to the
/// thread with the fewest.
async fn accept(context: Rc<Context>, socket: Listener, listener: u32) {
    let mut drain = context.drain.clone();
    drain.reached(Phase::Serving).await;
    let _accepting = Accepting::begin(&context.fleet);
    let mut pause = AcceptPause::default();
    let mut over = pin!(async {
        drain.reached(Phase::Draining).await;
        sleep(LAST_CALL).await;
    });
    loop {
        let accepted = tokio::select! {
            // Who waits in the queue is let in before it is left.
            biased;
            accepted = socket.accept() => accepted,
            () = over.as_mut() => return,
        };
        match accepted {
            Ok(stream) if context.has_place() => context.place(stream, listener),
            Ok(_refused) => {}
            Err(error) => {
                let counters = context.fleet.connections.of(context.index);
                counters.failed.increment();
                pause.after(&error, &context.listener(listener).name).await;
            }
        }
    }
}

/// Serves what other threads accepted.
async fn adopt(context: Rc<Context>, mut inbox: mpsc::Receiver<Handover>) {
    while let Some(Handover { socket, listener }) = inbox.recv().await {
        let stream = Stream::adopt(socket);
        connection::spawn(Seat::take(&context), stream, listener);
    }
}

/// Takes up a new state although no request came, closes idle connections in time, and has the
/// access log's lines seen soon.
async fn sweep(context: Rc<Context>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        context.fleet.ports[context.index.0]
            .beats
            .fetch_add(1, Relaxed);
        clock::now();
        context.parking.sweep();
        context.fleet.weigh(context.limits().buffered_bytes);
        context.date.replace(http_date());
        context.view().pools.iter().for_each(Pool::sweep);
        context.access_log.borrow_mut().flush();
    }
}

// === impl Context ===

impl Context {
    /// The newest state, for one request to keep to its end.
    pub(super) fn view(&self) -> Rc<View> {
        let current = self.view.borrow();
        if current.state.generation == self.shared.generation() {
            return Rc::clone(&current);
        }
        let newer = Rc::new(View::new(self.shared.load(), Some(&current), self.index));
        drop(current);
        let limits = newer.state.desired.limits;
        self.limits.set(limits);
        self.parking.hasten(limits.idle.max(limits.head_wait));
        self.listeners
            .iter()
            .for_each(|it| it.take_up(&newer.state));
        self.view.replace(Rc::clone(&newer));
        newer
    }

    /// What clients may ask, as of the newest state that was taken up.
    pub(super) fn limits(&self) -> Limits {
        self.limits.get()
    }

    /// Counts that a client reached `limit`.
    pub(super) fn reached(&self, limit: Limit) {
        self.fleet.limits.of(self.index).of(limit).increment();
    }

    /// Has `held`, which the thread counts as bytes that are held, be `bytes` from now on.
    ///
    /// The threads' counts are added up when one grows by much, so that small bodies cost a load and
    /// a store; the sweep sees to many of those.
    pub(super) fn holds(&self, held: &Cell<usize>, bytes: usize) {
        let before = held.replace(bytes);
        if before == bytes {
            return;
        }
        let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let fleet = &self.fleet;
        fleet
            .buffered
            .of(self.index)
            .add(signed(bytes) - signed(before));
        if bytes > before + WEIGHED || fleet.is_full.load(Relaxed) {
            fleet.weigh(self.limits().buffered_bytes);
        }
    }

    /// Whether so much is held that no new request may be taken.
    pub(super) fn is_full(&self) -> bool {
        self.fleet.is_full.load(Relaxed)
    }

    /// How far the process is on its way down.
    pub(super) fn phase(&self) -> Phase {
        self.drain.phase()
    }

    /// Whether a connection without a request is let go for the drain; `is_new`: it never had one.
    pub(super) fn lets_go(&self, is_new: bool) -> bool {
        self.phase() >= Phase::Draining && (!is_new || self.is_closing.get())
    }

    /// The time now, to the second, as Date has it.
    pub(super) fn date(&self) -> Ref<'_, str> {
        Ref::map(self.date.borrow(), String::as_str)
    }

    /// Milliseconds on this process's clock.
    pub(super) fn millis(&self, now: Instant) -> Millis {
        let since = now.saturating_duration_since(self.started);
        Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }

    /// The time since the process began.
    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The next number of this thread's generator, for jitter and for requests without a key.
    ///
    /// `SplitMix64` (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014).
    pub(super) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The listener at `place`.
    pub(super) fn listener(&self, place: u32) -> &ListenerInfo {
        &self.listeners[place as usize]
    }

    fn connection_ended(&self) {
        self.fleet.ports[self.index.0]
            .connections
            .fetch_sub(1, Relaxed);
    }

    /// Whether one more connection may be served.
    fn has_place(&self) -> bool {
        let has_place = self.fleet.open_connections() < self.limits().connections;
        if !has_place {
            self.fleet.connections.of(self.index).limit.increment();
            self.reached(Limit::Connections);
        }
        has_place
    }

    fn place(self: &Rc<Self>, stream: Stream, listener: u32) {
        self.fleet.connections.of(self.index).ok.increment();
        let chosen = self.fleet.least_loaded(self.index);
        let port = &self.fleet.ports[chosen.0];
        port.connections.fetch_add(1, Relaxed);
        if chosen == self.index {
            connection::spawn(Seat::take(self), stream, listener);
            return;
        }
        let Some(Ok(socket)) = stream.detach() else {
            port.connections.fetch_sub(1, Relaxed);
            return;
        };
        if let Err(full) = port.inbox.try_send(Handover { socket, listener }) {
            port.connections.fetch_sub(1, Relaxed);
            self.keep(full.into_inner());
        }
    }

    /// Serves a connection here that the chosen thread had no room for.
    fn keep(self: &Rc<Self>, Handover { socket, listener }: Handover) {
        let stream = Stream::adopt(socket);
        self.fleet.ports[self.index.0]
            .connections
            .fetch_add(1, Relaxed);
        connection::spawn(Seat::take(self), stream, listener);
    }
}

/// A seed that differs between processes and threads; jitter needs no more.
fn seed(index: ThreadIndex) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(index.0)
}
