//! `run`: the whole life of a keyway that serves.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};
use tracing::{error, info};

use super::output::{Done, Failure};
use super::{LogFormatArg, RunArgs};
use crate::admin::{self, Admin, Metrics, Sources};
use crate::app::{App, StartError};
use crate::cluster::Prober;
use crate::config::{
    Config, Loader, Overrides, ReloadError, ReloadRequest, Snapshot, Start, Watcher,
};
use crate::net::SharedListener;
use crate::telemetry::{self, LogFormat, LogLevel};

/// The signals that a serving keyway answers to.
struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub(super) fn run(args: &RunArgs) -> Done {
    let log_level = start_log(args.log_format)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error(&error))?;
    LocalSet::new().block_on(&runtime, serve(args, log_level))
}

pub(super) fn start_log(format: LogFormatArg) -> Result<LogLevel, Failure> {
    let format = match format {
        LogFormatArg::Auto => LogFormat::detect(),
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

/// Serves until a signal, an operator or its own idleness ends it.
async fn serve(args: &RunArgs, log_level: LogLevel) -> Done {
    // Before the listeners: a signal must find its handler from the first connection on.
    let mut signals = Signals::listen().map_err(|error| Failure::from_error(&error))?;
    let (config, files) = load(args)?;
    let policy = config.process.start;
    let shutdown = Arc::new(Notify::new());
    let Running {
        app,
        reload,
        has_topology,
    } = start(config, files, &log_level, &shutdown)?;
    let mut hangups = signals.hangup;
    if let Some(reload) = reload {
        spawn_local(async move {
            while hangups.recv().await.is_some() {
                reload_now(&reload).await;
            }
        });
    }
    let life = async {
        if !has_topology && policy == Start::Wait {
            app.reloads.changed.notified().await;
        }
        app.serve();
        app.deserted().await;
    };
    tokio::select! {
        () = life => {}
        _ = signals.term.recv() => info!("SIGTERM"),
        _ = signals.interrupt.recv() => info!("SIGINT"),
        () = shutdown.notified() => info!("an operator asks for the end"),
    }
    let hurry = async {
        tokio::select! {
            _ = signals.term.recv() => info!("a second SIGTERM: ending now"),
            _ = signals.interrupt.recv() => info!("a second SIGINT: ending now"),
        }
    };
    app.drain(hurry).await;
    Ok(())
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

/// What was started.
pub(super) struct Running {
    pub(super) app: App,
    /// Asks for a reload, where there are files.
    reload: Option<mpsc::Sender<ReloadRequest>>,
    has_topology: bool,
}

/// Starts everything that a configuration asks for, beside the data threads the watcher of `files`,
/// the prober and the admin server.
pub(super) fn start(
    config: Config,
    mut files: Option<Files>,
    log_level: &LogLevel,
    shutdown: &Arc<Notify>,
) -> Result<Running, Failure> {
    let process = config.process.clone();
    let listener = SharedListener::bind("admin", &process.admin);
    let listener = listener.map_err(|it| Failure::from_error(&it))?;
    let app = start_app(config, files.as_mut()).map_err(|it| Failure::from_error(&it))?;
    let problem = files.as_ref().and_then(|it| it.problem.clone());
    if let Some(problems) = &problem {
        app.reloads.rejected();
        error!(%problems, start = ?process.start, "there is no valid topology yet");
    }
    let has_topology = problem.is_none();
    let reload = files.map(|files| {
        let Files {
            loader, snapshot, ..
        } = files;
        let (commands, reloads) = (app.commands.clone(), Arc::clone(&app.reloads));
        let (watcher, reload) = Watcher::new(loader, snapshot, problem, process, commands, reloads);
        spawn_local(watcher.run());
        reload
    });
    spawn_local(Prober::new(Arc::clone(&app.shared), app.started).run());
    let sources = Sources {
        shared: Arc::clone(&app.shared),
        fleet: Arc::clone(&app.fleet),
        reloads: Arc::clone(&app.reloads),
        dropped_lines: app.log.dropped(),
        lookups: Arc::clone(&app.lookups),
        started: app.started,
    };
    let admin = Admin {
        metrics: Metrics::register(sources).map_err(|it| Failure::from_error(&it))?,
        shared: Arc::clone(&app.shared),
        commands: app.commands.clone(),
        reload: reload.clone(),
        drain: app.drain.clone(),
        shutdown: Arc::clone(shutdown),
        log_level: Some(log_level.clone()),
        started: app.started,
    };
    info!(address = %listener.address(), "the admin server listens");
    spawn_local(async move {
        if let Err(error) = admin::serve(admin, listener).await {
            error!(%error, "the admin server ended");
        }
    });
    Ok(Running {
        app,
        reload,
        has_topology,
    })
}

/// Starts the data threads; without a topology where that of the files cannot be placed.
fn start_app(config: Config, files: Option<&mut Files>) -> Result<App, StartError> {
    let Some(files) = files else {
        return App::start(config);
    };
    match App::start(config.clone()) {
        Err(StartError::Rejected(rejected)) => {
            files.problem = Some(ReloadError(vec![rejected.to_string()]));
            let Config { process, desired } = config;
            let desired = desired.without_topology();
            App::start(Config { process, desired })
        }
        started => started,
    }
}

/// A reload because of a signal: the outcome is logged by who carries it out.
async fn reload_now(reload: &mpsc::Sender<ReloadRequest>) {
    let (reply, outcome) = tokio::sync::oneshot::channel();
    if reload.send(ReloadRequest { reply }).await.is_ok() {
        info!(
            applied = matches!(outcome.await, Ok(Ok(_))),
            "SIGHUP: the files were looked at"
        );
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
