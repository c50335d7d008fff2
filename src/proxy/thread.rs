//! One data thread: its view of the state, its pools, its share of the connections.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::warn;

use super::access_log::RequestLog;
use super::body::RequestBody;
use super::connection::{self, Connection, Parking, Staff};
use super::fields::Pseudonym;
use crate::cluster::{SharedState, State};
use crate::drain::{DrainWatch, Phase};
use crate::health::Millis;
use crate::net::{Detached, Listener, SharedListener, Stream, clock};
use crate::telemetry::{LineBuffer, Striped, ThreadIndex, http_date};
use crate::upstream::{ConnectionCounters, Pool};

/// Connections on their way to a thread that has not taken them over yet; more stay where they
/// were accepted.
const INBOX: usize = 1024;

/// How long a thread accepts nothing after it could not: out of file descriptors, it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often idle connections are looked at, a new state is taken up without a request, and the
/// access log's lines go out although they fill no buffer.
const SWEEP: Duration = Duration::from_secs(1);

/// What the data threads share: how many connections each has, and how to hand one over.
#[derive(Debug)]
pub struct Fleet {
    ports: Vec<ThreadPort>,
    /// What became of clients' connections.
    pub connections: Striped<ConnectionCounters>,
}

/// How a data thread is seen from the others.
#[derive(Debug)]
#[repr(align(128))]
pub struct ThreadPort {
    connections: AtomicUsize,
    inbox: mpsc::Sender<Handover>,
}

/// A connection for another thread.
#[derive(Debug)]
struct Handover {
    socket: Detached,
    listener: usize,
}

/// What the process gives each data thread.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The other threads.
    pub fleet: Arc<Fleet>,
    /// The state.
    pub shared: Arc<SharedState>,
    /// The listening sockets.
    pub listeners: Arc<Vec<SharedListener>>,
    /// How this process names itself in Via: what finds a loop.
    pub pseudonym: Pseudonym,
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
    listeners: Vec<Rc<str>>,
    shared: Arc<SharedState>,
    view: RefCell<Rc<View>>,
    pub(super) parking: Parking,
    pub(super) workers: Staff,
    started: Instant,
    random: Cell<u64>,
    /// The time of the last sweep, as Date has it.
    date: RefCell<String>,
}

/// The state as this thread sees it, with this thread's pools.
#[derive(Debug)]
pub(super) struct View {
    pub(super) state: Arc<State>,
    /// By the nodes' slots.
    pub(super) pools: Vec<Pool<RequestBody>>,
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
        let connections = Striped::new(ports.len());
        (Arc::new(Self { ports, connections }), threads)
    }

    /// Clients' connections over all threads.
    pub fn open_connections(&self) -> usize {
        self.ports
            .iter()
            .map(|it| it.connections.load(Relaxed))
            .sum()
    }

    /// The thread with the fewest connections; `own` when it is no worse.
    fn least_loaded(&self, own: ThreadIndex) -> ThreadIndex {
        let load = |index: usize| self.ports[index].connections.load(Relaxed);
        let fewest = (0..self.ports.len()).min_by_key(|&index| (load(index), index != own.0));
        fewest.map_or(own, ThreadIndex)
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
            listeners: listeners.iter().map(|it| Rc::from(it.name())).collect(),
            view: RefCell::new(Rc::new(view)),
            shared,
            started,
            random: Cell::new(seed(self.index)),
            parking: Parking::default(),
            workers: Staff::default(),
            date: RefCell::new(http_date()),
        });
        let mut tasks = JoinSet::new();
        for (at, listener) in listeners.iter().enumerate() {
            tasks.spawn_local(accept(Rc::clone(&context), listener.register()?, at));
        }
        drop(listeners);
        tasks.spawn_local(adopt(Rc::clone(&context), self.inbox));
        tasks.spawn_local(sweep(Rc::clone(&context)));
        let mut drain = context.drain.clone();
        drain.reached(Phase::Draining).await;
        context.parking.wake_all();
        drain.reached(Phase::Over).await;
        Ok(())
    }
}

/// Accepts until the drain begins, and keeps a connection or hands it to the thread with the fewest.
async fn accept(context: Rc<Context>, socket: Listener, listener: usize) {
    let mut drain = context.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = drain.reached(Phase::Draining) => return,
        };
        match accepted {
            Ok(stream) => context.place(stream, listener),
            Err(error) => {
                warn!(%error, listener = %context.listeners[listener], "nothing can be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves what other threads accepted.
async fn adopt(context: Rc<Context>, mut inbox: mpsc::Receiver<Handover>) {
    while let Some(Handover { socket, listener }) = inbox.recv().await {
        match Stream::adopt(socket) {
            Ok(stream) => spawn_local(connection::serve(context.connection(stream, listener))),
            Err(error) => {
                warn!(%error, "a connection was lost between threads");
                context.connection_ended();
                continue;
            }
        };
    }
}

/// Takes up a new state although no request came, closes idle connections in time, and has the
/// access log's lines seen soon.
async fn sweep(context: Rc<Context>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        clock::now();
        context.parking.sweep();
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
        self.view.replace(Rc::clone(&newer));
        newer
    }

    /// How far the process is on its way down.
    pub(super) fn phase(&self) -> Phase {
        self.drain.phase()
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

    /// Counts a connection as served here, until [`connection_ended`](Self::connection_ended).
    fn connection(self: &Rc<Self>, stream: Stream, listener: usize) -> Rc<Connection> {
        let listener = Rc::clone(&self.listeners[listener]);
        Rc::new(Connection::new(Rc::clone(self), stream, listener))
    }

    pub(super) fn connection_ended(&self) {
        self.fleet.ports[self.index.0]
            .connections
            .fetch_sub(1, Relaxed);
    }

    fn place(self: &Rc<Self>, stream: Stream, listener: usize) {
        self.fleet.connections.of(self.index).ok.increment();
        let chosen = self.fleet.least_loaded(self.index);
        let port = &self.fleet.ports[chosen.0];
        port.connections.fetch_add(1, Relaxed);
        if chosen == self.index {
            spawn_local(connection::serve(self.connection(stream, listener)));
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
        match Stream::adopt(socket) {
            Ok(stream) => {
                self.fleet.ports[self.index.0]
                    .connections
                    .fetch_add(1, Relaxed);
                spawn_local(connection::serve(self.connection(stream, listener)));
            }
            Err(error) => warn!(%error, "a connection was lost between threads"),
        }
    }
}

/// A seed that differs between processes and threads; jitter needs no more.
fn seed(index: ThreadIndex) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(index.0)
}

// === impl View ===

impl View {
    /// The view of `state`, with the pools of the nodes that `old` shares with it.
    fn new(state: Arc<State>, old: Option<&Self>, thread: ThreadIndex) -> Self {
        let mut before: HashMap<_, _> = old
            .into_iter()
            .flat_map(|it| &it.pools)
            .map(|pool| (Arc::as_ptr(pool.endpoint()), pool))
            .collect();
        let pools = state
            .replicas()
            .map(|(cluster, _, replica)| {
                let (params, timeout) = (cluster.params.pool, cluster.params.connect_timeout);
                let endpoint = replica.node.endpoint();
                if let Some(pool) = before.remove(&Arc::as_ptr(endpoint)) {
                    return pool.reconfigured(params, timeout);
                }
                let counters = Arc::clone(&cluster.connections);
                Pool::new(Arc::clone(endpoint), counters, thread, params, timeout)
            })
            .collect();
        for left in before.into_values() {
            left.retire();
        }
        Self { state, pools }
    }
}
