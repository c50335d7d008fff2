//! Composition: from a configuration to running threads.
//!
//! | thread | runs | stalls may be noticed by |
//! |---|---|---|
//! | `keyway-data-N` | listeners, clients, pools, attempts | the requests of that thread |
//! | the main thread | file watch, writer, resolver, prober, admin, signals, export of traces | nobody's request |
//! | `keyway-log` | the access log's output | nobody's request; what it does not take in time is dropped |

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info};

use crate::cluster::{Command, Judge, Rejected, Reloads, SharedState, Writer};
use crate::config::Config;
use crate::drain::{self, DrainTrigger, DrainWatch, Phase};
use crate::names::LookupCounters;
use crate::net::{BindError, Inherited, SharedListener};
use crate::otlp::{self, Environment, Exporter, SpanCounts};
use crate::proxy::{DataThread, Entrance, Fleet, Pseudonym, Surroundings};
use crate::telemetry::{Bounds, LineBuffer, LineLog, LogOutput};

mod ending;
mod resolve;
mod systemd;
mod upgrade;

pub use ending::Farewell;
pub use systemd::{Supervisor, activated};
pub use upgrade::{Offer, Succession, Takeover, UpgradeError};

use resolve::Names;

/// A keyway that serves.
#[derive(Debug)]
pub struct App {
    /// The state.
    pub shared: Arc<SharedState>,
    /// The writer's mailbox.
    pub commands: mpsc::Sender<Command>,
    /// How reloads went.
    pub reloads: Arc<Reloads>,
    /// The data threads.
    pub fleet: Arc<Fleet>,
    /// The access log's way out.
    pub log: LineLog,
    /// What became of traces' spans.
    pub spans: SpanCounts,
    /// How lookups of names ended.
    pub lookups: Arc<LookupCounters>,
    /// How far it is in its life.
    pub drain: DrainWatch,
    /// When it began.
    pub started: Instant,
    /// Held for their sockets' files, and let go when nothing more is accepted.
    listeners: Arc<Vec<Entrance>>,
    trigger: DrainTrigger,
    threads: Vec<JoinHandle<()>>,
    /// Ends after the data threads, when their spans are sent.
    exporter: tokio::task::JoinHandle<()>,
}

/// Why keyway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The first state cannot be built.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The access log cannot be had.
    #[error("the access log's thread cannot be started")]
    Log(#[source] io::Error),
    /// A thread cannot be started.
    #[error("a data thread cannot be started")]
    Thread(#[source] io::Error),
}

impl App {
    /// Builds the first state, takes the listeners' sockets over or binds them, and starts the threads,
    /// the writer and the resolver. Must be called on a runtime, where the writer and the resolver live.
    ///
    /// # Errors
    /// When any of it fails; nothing is left running then.
    pub fn start(config: Config, inherited: &mut Inherited) -> Result<Self, StartError> {
        let started = Instant::now();
        let Config { process, desired } = config;
        let threads = process.threads.get();
        let reloads = Arc::new(Reloads::default());
        let (writer, commands) = Writer::start(desired, threads, Arc::clone(&reloads))?;
        let shared = writer.shared();
        let desired = &shared.load().desired;
        let mut bind = |it: &crate::config::Listener| {
            let socket = SharedListener::bind(&it.name, &it.address, inherited);
            socket.map(|socket| Entrance {
                socket,
                upgrades: it.websocket,
                tls: desired.listener_tls.get(&it.name).cloned(),
                proxies: it.proxies.clone(),
                forwarded: it.forwarded.clone(),
            })
        };
        let listeners = process
            .listeners
            .iter()
            .map(&mut bind)
            .collect::<Result<Vec<_>, _>>()?;
        let listeners = Arc::new(listeners);
        let (trigger, drain) = drain::channel();
        let (fleet, data) = Fleet::new(threads);
        let instance = random_bits();
        let (spans, queue, span_counts) = otlp::channel();
        let surroundings = Surroundings {
            fleet: Arc::clone(&fleet),
            shared: Arc::clone(&shared),
            listeners: Arc::clone(&listeners),
            pseudonym: Pseudonym::new(instance),
            spans,
            drain: drain.clone(),
            started,
        };
        let (log, buffers) = start_log(threads, Arc::clone(&shared)).map_err(StartError::Log)?;
        let spawn = |(index, (thread, log))| spawn(index, thread, surroundings.clone(), log);
        let threads = data
            .into_iter()
            .zip(buffers)
            .enumerate()
            .map(spawn)
            .collect::<io::Result<Vec<_>>>();
        let threads = threads.map_err(StartError::Thread)?;
        // What holds the queue of spans is the threads' alone: with the last of them it ends.
        drop(surroundings);
        let exporter = start_exporter(Arc::clone(&shared), queue, span_counts.clone(), instance);
        tokio::spawn(writer.run());
        tokio::spawn(Judge::default().run(Arc::clone(&shared), started));
        let lookups = Arc::new(LookupCounters::default());
        let names = Names::new(Arc::clone(&shared), Arc::clone(&lookups), started);
        tokio::spawn(names.run());
        for it in listeners.iter() {
            info!(listener = it.socket.name(), address = %it.socket.address(), "listening");
        }
        Ok(Self {
            shared,
            commands,
            reloads,
            fleet,
            log,
            spans: span_counts,
            lookups,
            drain,
            started,
            listeners,
            trigger,
            threads,
            exporter,
        })
    }

    /// The sockets that clients come by.
    pub fn sockets(&self) -> impl Iterator<Item = &SharedListener> {
        self.listeners.iter().map(|it| &it.socket)
    }

    /// Is ready from now on, and accepts.
    pub fn serve(&self) {
        if self.drain.phase() == Phase::Starting {
            self.trigger.advance(Phase::Serving);
            info!("ready");
        }
    }
}

/// Starts the access log, which goes where the newest state says.
fn start_log(threads: usize, shared: Arc<SharedState>) -> io::Result<(LineLog, Vec<LineBuffer>)> {
    let wanted = move || shared.load().desired.access_log.to.clone();
    LineLog::start("keyway-log", LogOutput::new(wanted), threads, Bounds::MANY)
}

/// Sends spans where the newest state says, as this process's, which `instance` tells from others.
fn start_exporter(
    shared: Arc<SharedState>,
    queue: mpsc::Receiver<Vec<otlp::Span>>,
    counts: SpanCounts,
    instance: u64,
) -> tokio::task::JoinHandle<()> {
    let variable = |name| std::env::var(name).ok();
    let environment = Environment {
        service_name: variable("OTEL_SERVICE_NAME"),
        resource_attributes: variable("OTEL_RESOURCE_ATTRIBUTES"),
        headers: variable("OTEL_EXPORTER_OTLP_HEADERS"),
    };
    let resource = otlp::resource(&environment, &format!("{instance:016x}"));
    let wanted = move || shared.load().desired.traces.otlp.clone();
    let exporter = Exporter::new(queue, counts, wanted, resource, &environment);
    tokio::spawn(exporter.run())
}

/// Runs one data thread to its end.
fn spawn(
    index: usize,
    thread: DataThread,
    surroundings: Surroundings,
    access_log: LineBuffer,
) -> io::Result<JoinHandle<()>> {
    let (started, starting) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        // A runtime of one thread to the core: its tasks need no `LocalSet`, through whose queue
        // each wake would pass.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let built = builder.enable_all().build_local(LocalOptions::default());
        let (runtime, built) = match built {
            Ok(runtime) => (Some(runtime), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Who starts the thread waits for this.
        let _waited_for = started.send(built).is_ok();
        let serving = runtime.map(|it| it.block_on(thread.run(surroundings, access_log)));
        if let Some(Err(error)) = serving {
            error!(%error, "a data thread cannot serve");
        }
    };
    let thread = std::thread::Builder::new()
        .name(format!("keyway-data-{index}"))
        .spawn(run)?;
    let ended = |_| io::Error::other("the thread ended at once");
    starting.recv().map_err(ended)??;
    Ok(thread)
}

/// Bits that differ between processes: the seed that the standard library's maps take from the
/// system.
fn random_bits() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
