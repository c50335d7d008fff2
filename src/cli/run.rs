//! `run`: the whole life of a keyway that serves.

use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tracing::{error, info};

use super::output::{Done, Failure};
use super::{LogFormatArg, RunArgs};
use crate::admin::{self, Admin, Metrics, Sources};
use crate::app::{self, App, Offer, StartError, Supervisor, Takeover};
use crate::cluster::Prober;
use crate::config::{Config, Loader, Overrides, Process, ReloadError, Snapshot, Watcher};
use crate::net::{Inherited, SharedListener};
use crate::telemetry::{self, Log, LogControl, LogFormat};

mod running;

use running::{End, Running};

/// The signals that a serving keyway answers to.
struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub(super) fn run(args: &RunArgs) -> Done {
    // Before there are threads.
    let inherited = app::activated()
        .map_err(|error| Failure::Error(format!("a socket that systemd passed on: {error}")))?;
    // Until the end: its last lines are waited for.
    let log = start_log(args.log_format)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error(&error))?;
    LocalSet::new().block_on(&runtime, serve(args, inherited, log.control()))
}

pub(super) fn start_log(format: LogFormatArg) -> Result<Log, Failure> {
    let format = match format {
        LogFormatArg::Auto => LogFormat::Auto,
        LogFormatArg::Text => LogFormat::Text,
        LogFormatArg::Json => LogFormat::Json,
    };
    telemetry::init_log(format).map_err(|error| Failure::from_error(&error))
}

/// The files that a keyway follows.
pub(super) struct Files {
    pub(super) loader: Loader,
    /// What they were when it started.
    pub(super) snapshot: Snapshot,
    /// Why there is no topology in them.
    pub(super) problem: Option<ReloadError>,
}

/// Serves until a signal, an operator, its own idleness or another process ends it.
async fn serve(args: &RunArgs, mut inherited: Inherited, log: LogControl) -> Done {
    // Before the listeners: a signal must find its handler from the first connection on.
    let mut signals = Signals::listen().map_err(|error| Failure::from_error(&error))?;
    let (config, files) = load(args)?;
    let policy = config.process.start;
    let (takeover, offer) = succession(&config.process, &mut inherited)?;
    let shutdown = Arc::new(Notify::new());
    let running = start(config, files, &mut inherited, &log, &shutdown)?;
    if let Some(takeover) = takeover {
        running.take_over(takeover, &inherited)?;
    }
    let supervisor = Rc::new(Supervisor::from_env());
    running.follow_hangups(signals.hangup, Rc::clone(&supervisor));
    let end = tokio::select! {
        end = running.live(policy, offer, &supervisor) => end,
        never = supervisor.watch(&running.app.fleet) => match never {},
        _ = signals.term.recv() => End::asked("SIGTERM"),
        _ = signals.interrupt.recv() => End::asked("SIGINT"),
        () = shutdown.notified() => End::asked("an operator"),
    };
    let fleet = Arc::clone(&running.app.fleet);
    let hurry = async {
        tokio::select! {
            never = supervisor.watch(&fleet) => match never {},
            _ = signals.term.recv() => info!("a second SIGTERM: ending now"),
            _ = signals.interrupt.recv() => info!("a second SIGINT: ending now"),
        }
    };
    let (app, farewell) = running.end(end, &supervisor);
    app.drain(farewell, hurry).await;
    Ok(())
}

/// The process that is taken over from, whose sockets are added to what is inherited, and the offer to
/// the next one.
fn succession(
    process: &Process,
    inherited: &mut Inherited,
) -> Result<(Option<Takeover>, Option<Offer>), Failure> {
    let Some(path) = &process.upgrade else {
        return Ok((None, None));
    };
    let failed = |error| Failure::from_error(&error);
    let takeover = Takeover::ask(path, inherited).map_err(failed)?;
    let offer = Offer::prepare(path).map_err(failed)?;
    Ok((takeover, Some(offer)))
}

/// The configuration of the files, with what follows them, or of the flags.
fn load(args: &RunArgs) -> Result<(Config, Option<Files>), Failure> {
    let overrides = Overrides {
        admin: args.admin.clone(),
        zone: args.zone.clone(),
    };
    if let Some(path) = &args.config {
        let opening = Loader::begin(path.clone(), overrides);
        let opening = opening.map_err(|error| Failure::problems(&error, path))?;
        let files = Files {
            loader: opening.loader,
            snapshot: opening.snapshot,
            problem: opening.problem.map(ReloadError::from),
        };
        return Ok((opening.config, Some(files)));
    }
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let flags = Config::from_flags(&args.listen, &args.key, &args.node, &overrides, cores);
    Ok((flags.map_err(|it| Failure::from_error(&it))?, None))
}

/// Starts everything that a configuration asks for, beside the data threads the watcher of `files`,
/// the prober and the admin server.
pub(super) fn start(
    config: Config,
    mut files: Option<Files>,
    inherited: &mut Inherited,
    log: &LogControl,
    shutdown: &Arc<Notify>,
) -> Result<Running, Failure> {
    log.follow(&config.desired.log);
    spawn_local(log.clone().tell_repeats());
    let process = config.process.clone();
    let listener = SharedListener::bind("admin", &process.admin, inherited);
    let listener = Arc::new(listener.map_err(|it| Failure::from_error(&it))?);
    let app = start_app(config, files.as_mut(), inherited);
    let app = app.map_err(|it| Failure::from_error(&it))?;
    check_left(inherited, &process)?;
    let problem = files.as_ref().and_then(|it| it.problem.clone());
    if let Some(problems) = &problem {
        app.reloads.rejected(&problems.0);
        error!(%problems, start = ?process.start, "there is no valid topology yet");
    }
    let has_topology = problem.is_none();
    let reload = files.map(|files| {
        let Files {
            loader, snapshot, ..
        } = files;
        let (commands, reloads) = (app.commands.clone(), Arc::clone(&app.reloads));
        let (watcher, reload) = Watcher::new(loader, snapshot, problem, process, commands, reloads);
        spawn_local(watcher.with_log(log.clone()).run());
        reload
    });
    spawn_local(Prober::new(Arc::clone(&app.shared), app.started).run());
    let sources = Sources {
        shared: Arc::clone(&app.shared),
        fleet: Arc::clone(&app.fleet),
        reloads: Arc::clone(&app.reloads),
        dropped_lines: app.log.dropped(),
        spans: app.spans.clone(),
        log: log.counts(),
        lookups: Arc::clone(&app.lookups),
        started: app.started,
    };
    let admin = Admin {
        metrics: Metrics::register(sources).map_err(|it| Failure::from_error(&it))?,
        shared: Arc::clone(&app.shared),
        reloads: Arc::clone(&app.reloads),
        commands: app.commands.clone(),
        reload: reload.clone(),
        drain: app.drain.clone(),
        shutdown: Arc::clone(shutdown),
        log_level: Some(log.clone()),
        started: app.started,
    };
    info!(address = %listener.address(), "the admin server listens");
    let serving = Arc::clone(&listener);
    let admin = spawn_local(async move {
        if let Err(error) = admin::serve(admin, serving).await {
            error!(%error, "the admin server ended");
        }
    });
    Ok(Running {
        app,
        admin,
        admin_socket: listener,
        reload,
        has_topology,
    })
}

/// Every socket that systemd passes on is a listener's: what nobody accepts from would be a trap.
fn check_left(inherited: &Inherited, process: &Process) -> Result<(), Failure> {
    let Some(name) = inherited.unknown() else {
        return Ok(());
    };
    let names: Vec<_> = process
        .listeners
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    Err(Failure::Error(format!(
        "systemd passed on the socket {name:?}: expected FileDescriptorName= to be admin or the name of a \
         listener ({})",
        names.join(", ")
    )))
}

/// Starts the data threads; without a topology where that of the files cannot be placed.
fn start_app(
    config: Config,
    files: Option<&mut Files>,
    inherited: &mut Inherited,
) -> Result<App, StartError> {
    let Some(files) = files else {
        return App::start(config, inherited);
    };
    match App::start(config.clone(), inherited) {
        Err(StartError::Rejected(rejected)) => {
            files.problem = Some(ReloadError(vec![rejected.to_string()]));
            let Config { process, desired } = config;
            let desired = desired.without_topology();
            App::start(Config { process, desired }, inherited)
        }
        started => started,
    }
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
