//! `run`: the whole life of a keyway that serves.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};
use tracing::{error, info};

use super::output::{Done, Failure};
use super::{LogFormatArg, RunArgs};
use crate::admin::{self, Admin, Metrics, Sources};
use crate::app::App;
use crate::cluster::Prober;
use crate::config::{Config, Loader, Overrides, ReloadRequest, Snapshot, Watcher};
use crate::net::SharedListener;
use crate::telemetry::{self, Log, LogControl, LogFormat};

/// The signals that a serving keyway answers to.
struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub(super) fn run(args: &RunArgs) -> Done {
    // Until the end: its last lines are waited for.
    let log = start_log(args.log_format)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::from_error(&error))?;
    LocalSet::new().block_on(&runtime, serve(args, log.control()))
}

pub(super) fn start_log(format: LogFormatArg) -> Result<Log, Failure> {
    let format = match format {
        LogFormatArg::Auto => LogFormat::Auto,
        LogFormatArg::Text => LogFormat::Text,
        LogFormatArg::Json => LogFormat::Json,
    };
    telemetry::init_log(format).map_err(|error| Failure::from_error(&error))
}

/// Serves until a signal or an operator ends it.
async fn serve(args: &RunArgs, log: LogControl) -> Done {
    // Before the listeners: a signal must find its handler from the first connection on.
    let mut signals = Signals::listen().map_err(|error| Failure::from_error(&error))?;
    let (config, files) = load(args)?;
    let shutdown = Arc::new(Notify::new());
    let (app, reload) = start(config, files, &log, &shutdown)?;
    let mut hangups = signals.hangup;
    if let Some(reload) = reload {
        spawn_local(async move {
            while hangups.recv().await.is_some() {
                reload_now(&reload).await;
            }
        });
    }
    tokio::select! {
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
fn load(args: &RunArgs) -> Result<(Config, Option<(Loader, Snapshot)>), Failure> {
    let overrides = Overrides {
        admin: args.admin.clone(),
        zone: args.zone.clone(),
    };
    if let Some(path) = &args.config {
        let opened = Loader::open(path.clone(), overrides);
        let (loader, config, snapshot) = opened.map_err(|it| Failure::from_error(&it))?;
        return Ok((config, Some((loader, snapshot))));
    }
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let flags = Config::from_flags(&args.listen, &args.key, &args.node, &overrides, cores);
    Ok((flags.map_err(|it| Failure::from_error(&it))?, None))
}

/// Starts everything that a configuration asks for, beside the data threads the watcher of `files`,
/// the prober and the admin server.
pub(super) fn start(
    config: Config,
    files: Option<(Loader, Snapshot)>,
    log: &LogControl,
    shutdown: &Arc<Notify>,
) -> Result<(App, Option<mpsc::Sender<ReloadRequest>>), Failure> {
    log.follow(&config.desired.log);
    spawn_local(log.clone().tell_repeats());
    let process = config.process.clone();
    let listener = SharedListener::bind("admin", &process.admin);
    let listener = listener.map_err(|it| Failure::from_error(&it))?;
    let app = App::start(config).map_err(|it| Failure::from_error(&it))?;
    let reload = files.map(|(loader, snapshot)| {
        let (commands, reloads) = (app.commands.clone(), Arc::clone(&app.reloads));
        let (watcher, reload) = Watcher::new(loader, snapshot, process, commands, reloads);
        spawn_local(watcher.with_log(log.clone()).run());
        reload
    });
    spawn_local(Prober::new(Arc::clone(&app.shared), app.started).run());
    let sources = Sources {
        shared: Arc::clone(&app.shared),
        fleet: Arc::clone(&app.fleet),
        reloads: Arc::clone(&app.reloads),
        dropped_lines: app.log.dropped(),
        log: log.counts(),
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
        log_level: Some(log.clone()),
        started: app.started,
    };
    info!(address = %listener.address(), "the admin server listens");
    spawn_local(async move {
        if let Err(error) = admin::serve(admin, listener).await {
            error!(%error, "the admin server ended");
        }
    });
    Ok((app, reload))
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
