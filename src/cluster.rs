//! The live state: what was configured, what was observed, and the one writer of both.
//!
//! Desired state is immutable and swapped whole ([`State`]); observed state lives in [`Node`]s,
//! which are carried from state to state. Only the [`Writer`] makes a new state, and
//! [`reconcile()`] is all that decides whether it may.

pub mod counters;
pub mod desired;
mod history;
mod judge;
mod load;
mod node;
mod pick;
mod prober;
mod reconcile;
mod reloads;
mod rotation;
mod state;
mod writer;

pub use history::{Change, ChangeOutcome, History};
pub use judge::Judge;
pub use load::{HeldBytes, HeldShare, Load, Quantile, Turnstile, Waiting};
pub use node::{Evidence, Failed, Node, Waits};
pub use pick::{ATTEMPTS_MAX, Next, Pick, Reach, Target};
pub use prober::Prober;
pub use reconcile::{Circumstances, Moved, Reconciled, Rejected, reconcile};
pub use reloads::Reloads;
pub use state::{Cluster, Replica, RouteEntry, Shard, SharedState, State};
pub use writer::{Applied, Command, CommandError, Writer};

#[cfg(test)]
mod tests;
