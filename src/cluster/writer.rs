//! The one writer: every new state is made here, one command after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{error, info};

use super::desired::Desired;
use super::reconcile::{Circumstances, Moved, Reconciled, Rejected, reconcile};
use super::reloads::Reloads;
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
        let generation = state.generation;
        let shared = Arc::new(SharedState::new(state));
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let started = Instant::now();
        reloads.applied(generation, &[]);
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
                self.reloads.rejected(&[rejected.to_string()]);
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
        self.reloads.applied(generation, &moved);
        self.reloads.changed.notify_one();
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
