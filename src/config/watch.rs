//! Follows the two files, and those that they name: whatever happens to them, the state changes whole or not at all.
//!
//! An event only ever means "look again": editors rename, a Kubernetes `ConfigMap` swaps a symlink
//! two levels up, an overflowing queue names no path at all. So folders are watched, never files;
//! no event is interpreted; and a slow poll looks anyway, for the file systems that send none. A
//! look reads both files until two reads 100 ms apart are equal, for a writer may be half-way.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use super::load::{LoadError, Loader, Snapshot};
use super::{Config, Process};
use crate::cluster::{Applied, Command, Reloads};
use crate::telemetry::LogControl;

/// Two reads this far apart must be equal: no half-written file is taken for a whole one unless
/// its writer pauses longer.
const SETTLE: Duration = Duration::from_millis(100);

/// How many reads may differ before a look gives up until the next event or poll: a writer that
/// never stops must not hold the watcher for ever.
const SETTLE_READS: usize = 20;

/// How long events gather before a look: at most 20 looks a second, however many events.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// How often the files are looked at although no event came.
const POLL: Duration = Duration::from_secs(2);

/// Requests for a reload that may wait.
const MAILBOX: usize = 4;

/// Asks for a look at the files now.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Result<Applied, ReloadError>>,
}

/// Why a reload changed nothing: a line for each problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ReloadError(pub Vec<String>);

impl From<LoadError> for ReloadError {
    fn from(error: LoadError) -> Self {
        Self(error.to_string().lines().map(str::to_owned).collect())
    }
}

/// Follows the files of a running keyway.
#[derive(Debug)]
pub struct Watcher {
    loader: Loader,
    running: Process,
    commands: mpsc::Sender<Command>,
    reloads: Arc<Reloads>,
    requests: mpsc::Receiver<ReloadRequest>,
    /// What was last taken up or refused: only something else is looked at.
    last: Snapshot,
    /// What was there when a route first named a cluster that the topology lacked.
    waiting: Option<Snapshot>,
    /// Whether the files did not come to rest when they were last looked at.
    restless: bool,
    /// What came of the last change.
    outcome: Outcome,
    /// What follows the files too; `None` where the process does not log.
    log: Option<LogControl>,
}

/// What a look found out.
type Outcome = Result<Applied, ReloadError>;

impl Watcher {
    /// Follows the files that `loader` reads; `last` is what the running state was made of, or what
    /// was wrong for the `problem` that is given.
    pub fn new(
        loader: Loader,
        last: Snapshot,
        problem: Option<ReloadError>,
        running: Process,
        commands: mpsc::Sender<Command>,
        reloads: Arc<Reloads>,
    ) -> (Self, mpsc::Sender<ReloadRequest>) {
        let (sender, requests) = mpsc::channel(MAILBOX);
        let watcher = Self {
            loader,
            running,
            commands,
            reloads,
            requests,
            last,
            waiting: None,
            restless: false,
            outcome: match problem {
                Some(problem) => Err(problem),
                None => Ok(Applied {
                    generation: 1,
                    moved: Vec::new(),
                }),
            },
            log: None,
        };
        (watcher, sender)
    }

    /// The same, with the process's log following the files as well.
    #[must_use]
    pub fn with_log(self, log: LogControl) -> Self {
        Self {
            log: Some(log),
            ..self
        }
    }

    /// Follows the files until the process ends.
    pub async fn run(mut self) {
        let events = Arc::new(Notify::new());
        let mut folders = Folders::watch(Arc::clone(&events));
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            folders.follow(self.loader.paths());
            let request = tokio::select! {
                () = events.notified() => None,
                _ = polls.tick() => None,
                request = self.requests.recv() => match request {
                    Some(request) => Some(request),
                    None => return,
                },
            };
            if request.is_none() {
                // Events come in bursts, and other files of the folder send theirs too.
                sleep(DEBOUNCE).await;
            }
            match request {
                // The caller may have gone: the reload is carried out all the same.
                Some(ReloadRequest { reply }) => drop(reply.send(self.reload().await)),
                None => self.look().await,
            }
        }
    }

    /// Looks because something may have happened: the same files as before are no news.
    async fn look(&mut self) {
        if self.loader.read() == self.last {
            return;
        }
        match self.settled().await {
            Some(snapshot) if snapshot == self.last => self.restless = false,
            Some(snapshot) => {
                self.restless = false;
                drop(self.take(snapshot).await);
            }
            // Once, however long that goes on.
            None if !self.restless => {
                self.restless = true;
                warn!("the files keep changing; the old state serves on");
            }
            None => {}
        }
    }

    /// Looks because somebody asked, and has an answer to give: when an event came first, what
    /// came of that.
    async fn reload(&mut self) -> Outcome {
        if self.loader.read() != self.last {
            let Some(snapshot) = self.settled().await else {
                let error = "expected files at rest, found them changing for 2 s".to_owned();
                return Err(self.refuse(vec![error]));
            };
            if snapshot != self.last {
                return self.take(snapshot).await;
            }
        }
        if self.outcome.is_ok() {
            self.reloads.unchanged();
        }
        self.outcome.clone()
    }

    /// Reads until two reads in a row are equal; `None` when they never are.
    async fn settled(&self) -> Option<Snapshot> {
        let mut before = self.loader.read();
        for _ in 0..SETTLE_READS {
            sleep(SETTLE).await;
            let now = self.loader.read();
            if now == before {
                return Some(now);
            }
            before = now;
        }
        None
    }

    /// Takes the files up, or says why not.
    async fn take(&mut self, mut snapshot: Snapshot) -> Outcome {
        let loaded = self.loader.load(&mut snapshot);
        let before = std::mem::replace(&mut self.last, snapshot);
        self.outcome = self.apply_loaded(loaded, before).await;
        self.outcome.clone()
    }

    async fn apply_loaded(
        &mut self,
        loaded: Result<Config, LoadError>,
        before: Snapshot,
    ) -> Outcome {
        match loaded {
            Ok(config) => {
                self.waiting = None;
                self.apply(config).await
            }
            Err(LoadError::Problems(problems)) => Err(self.refuse(problems)),
            Err(LoadError::Waiting(problems)) => {
                let lines: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
                let since = self.waiting.get_or_insert(before);
                if since.both_differ(&self.last) {
                    return Err(self.refuse(lines));
                }
                info!(%problems, "waiting for the other file; the old state serves on");
                Err(ReloadError(lines))
            }
        }
    }

    async fn apply(&mut self, config: Config) -> Outcome {
        let restart = config.process != self.running;
        if restart && !self.reloads.restart_required.load(Relaxed) {
            warn!(
                "a changed key is taken up only by a restart: listeners, admin, threads or topology"
            );
        }
        self.reloads.restart_required.store(restart, Relaxed);
        let (reply, outcome) = oneshot::channel();
        let params = config.desired.log.clone();
        let desired = Box::new(config.desired);
        let ended = || ReloadError(vec!["the writer has ended".to_owned()]);
        self.commands
            .send(Command::Apply { desired, reply })
            .await
            .map_err(|_| ended())?;
        let applied = outcome.await.map_err(|_| ended())?;
        if let (Ok(_), Some(log)) = (&applied, &self.log) {
            log.follow(&params);
        }
        applied.map_err(|rejected| ReloadError(vec![rejected.to_string()]))
    }

    /// One error for a change that is refused, however many problems it has.
    fn refuse(&self, problems: Vec<String>) -> ReloadError {
        self.reloads.rejected(&problems);
        let error = ReloadError(problems);
        error!(problems = %error, "the change was refused; the old state serves on");
        error
    }
}

/// The folders that are watched; none where the system offers no events.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Whether it was told that there are no events.
    told: bool,
}

impl Folders {
    fn watch(events: Arc<Notify>) -> Self {
        // Any event and any error alike: look again. The callback's thread must not wait.
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if !event.is_ok_and(|it| is_read(it.kind)) {
                events.notify_one();
            }
        });
        if let Err(error) = &watcher {
            warn_of(error);
        }
        Self {
            told: watcher.is_err(),
            watcher: watcher.ok(),
            watched: BTreeSet::new(),
        }
    }

    /// Watches the folders where `paths` are and where their symlinks lead now.
    fn follow<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted: BTreeSet<_> = paths.flat_map(folders_of).collect();
        for left in self.watched.difference(&wanted) {
            // A folder that was removed took its watch with it.
            let _gone = watcher.unwatch(left).is_err();
        }
        // A folder that was replaced keeps its name and lost its watch: watching again is cheap.
        self.watched.clear();
        for folder in wanted {
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder)),
                // The user's watches are spent. Of folders that are missing the files' errors tell.
                Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) && !self.told => {
                    self.told = true;
                    warn_of(&error);
                }
                Err(_missing) => {}
            }
        }
    }
}

fn warn_of(error: &notify::Error) {
    warn!(%error, poll = ?POLL, "no events of files can be had; they are polled");
}

/// Whether an event tells of a reader: looking would otherwise be the reason to look again.
fn is_read(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The folder that names `path`, and the one that its target is in.
fn folders_of(path: &Path) -> Vec<PathBuf> {
    let target = |path: &Path| -> io::Result<PathBuf> { path.canonicalize() };
    let mut folders = Vec::new();
    let named = path.parent().filter(|it| !it.as_os_str().is_empty());
    folders.push(named.unwrap_or_else(|| Path::new(".")).to_owned());
    if let Ok(target) = target(path) {
        folders.extend(target.parent().map(Path::to_owned));
    }
    folders
}
