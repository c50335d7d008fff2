//! The one writer: every new state is made here, one command after the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info};

use super::desired::Desired;
use super::reconcile::{Circumstances, Moved, Reconciled, Rejected, reconcile};
use super::state::{SharedState, State};

/// How many commands may wait: reloads come one at a time, and operators are few.
const MAILBOX: usize = 16;

/// What the writer can be told to do: the only way to a new state.
#[derive(Debug)]
pub enum Command {
    /// Serve this from now on.
    Apply {
        /// What the files ask for.
        desired: Box<Desired>,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Applied, Rejected>>,
    },
    /// Take a node out of service, or back.
    SetDrained {
        /// The node's id.
        node: String,
        /// Whether it is out.
        drained: bool,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
}

/// What an applied change did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The generation that serves now.
    pub generation: u64,
    /// The clusters whose key space moved.
    pub moved: Vec<Moved>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such node.
    #[error("expected the id of a node, found {0:?}")]
    UnknownNode(String),
}

/// How reloads went: read at scrape.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Changes applied.
    pub applied: AtomicU64,
    /// Files that were looked at and say what is in force.
    pub unchanged: AtomicU64,
    /// Changes refused.
    pub rejected: AtomicU64,
    /// Whether the last change was applied.
    pub last_successful: AtomicBool,
    /// When a change was last applied, in seconds since the Unix epoch.
    pub last_success_seconds: AtomicU64,
    /// Whether a change waits for a restart.
    pub restart_required: AtomicBool,
    /// Told when a change was applied.
    pub changed: Notify,
    moved: Mutex<Vec<(String, f64)>>,
}

/// The writer with its mailbox.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<SharedState>,
    reloads: Arc<Reloads>,
    threads: usize,
    started: Instant,
    mailbox: mpsc::Receiver<Command>,
}

impl Writer {
    /// Builds the first state and the writer of the following ones.
    ///
    /// # Errors
    /// When the first state cannot be built.
    pub fn start(
        desired: Desired,
        threads: usize,
        reloads: Arc<Reloads>,
    ) -> Result<(Self, mpsc::Sender<Command>), Rejected> {
        let circumstances = Circumstances {
            threads,
            now: Duration::ZERO,
        };
        let Reconciled { state, .. } = reconcile(None, desired, circumstances)?;
        let shared = Arc::new(SharedState::new(state));
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let started = Instant::now();
        reloads.applied();
        Ok((
            Self {
                shared,
                reloads,
                threads,
                started,
                mailbox,
            },
            sender,
        ))
    }

    /// The place where it swaps the state.
    pub fn shared(&self) -> Arc<SharedState> {
        Arc::clone(&self.shared)
    }

    /// Carries out commands until no one can send any more.
    pub async fn run(mut self) {
        while let Some(command) = self.mailbox.recv().await {
            // A caller that no longer waits for the outcome is no reason to undo it.
            match command {
                Command::Apply { desired, reply } => drop(reply.send(self.apply(*desired))),
                Command::SetDrained {
                    node,
                    drained,
                    reply,
                } => {
                    drop(reply.send(set_drained(&self.shared.load(), node, drained)));
                }
            }
        }
    }

    fn apply(&self, desired: Desired) -> Result<Applied, Rejected> {
        let old = self.shared.load();
        let circumstances = Circumstances {
            threads: self.threads,
            now: self.started.elapsed(),
        };
        let Reconciled { state, moved } = match reconcile(Some(&old), desired, circumstances) {
            Ok(reconciled) => reconciled,
            Err(rejected) => {
                self.reloads.rejected();
                error!(error = %rejected, "the change was refused; the old state serves on");
                return Err(rejected);
            }
        };
        let generation = state.generation;
        let loads: Vec<_> = state
            .clusters
            .iter()
            .map(|it| Arc::clone(&it.load))
            .collect();
        self.shared.store(state);
        // Who waits for a node may have got one.
        for load in loads {
            load.hold.wake_all();
        }
        self.reloads.applied();
        self.reloads.changed.notify_one();
        self.reloads.set_moved(&moved);
        for Moved { cluster, diff } in &moved {
            info!(cluster, moved = diff.moved, generation, "keys moved");
        }
        info!(generation, "the change serves");
        Ok(Applied { generation, moved })
    }
}

fn set_drained(state: &State, node: String, drained: bool) -> Result<(), CommandError> {
    let mut named = state
        .replicas()
        .map(|(_, _, it)| &it.node)
        .filter(|it| it.id() == node);
    let Some(found) = named.next() else {
        return Err(CommandError::UnknownNode(node));
    };
    found.set_drained(drained);
    info!(node, drained, "an operator drains a node or takes it back");
    Ok(())
}

impl Reloads {
    /// Counts a change that was refused.
    pub fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
        self.last_successful.store(false, Relaxed);
    }

    /// Counts a look that found nothing new: what the files say is in force.
    pub fn unchanged(&self) {
        self.unchanged.fetch_add(1, Relaxed);
        self.last_successful.store(true, Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "the metric is a wall-clock time")]
    fn applied(&self) {
        self.applied.fetch_add(1, Relaxed);
        self.last_successful.store(true, Relaxed);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = now.map_or(0, |it| it.as_secs());
        self.last_success_seconds.store(seconds, Relaxed);
    }

    /// The share of each cluster's key space that the last applied change moved.
    ///
    /// # Panics
    /// When the writer panicked while it told them.
    pub fn moved(&self) -> Vec<(String, f64)> {
        self.moved
            .lock()
            .expect("the shares must not be poisoned")
            .clone()
    }

    fn set_moved(&self, moved: &[Moved]) {
        let shares = moved
            .iter()
            .map(|it| (it.cluster.clone(), it.diff.moved))
            .collect();
        *self.moved.lock().expect("the shares must not be poisoned") = shares;
    }
}
