//! How the changes of the files went: counts for the scraper, the last ones for the operator.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use super::history::{ChangeOutcome, History};
use super::reconcile::Moved;

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
    /// The last changes.
    pub history: History,
    moved: Mutex<Vec<(String, f64)>>,
}

impl Reloads {
    /// Counts a change that was refused for these problems.
    pub fn rejected(&self, problems: &[String]) {
        self.rejected.fetch_add(1, Relaxed);
        self.last_successful.store(false, Relaxed);
        let outcome = ChangeOutcome::rejected(problems);
        self.history.push(unix_seconds(), outcome);
    }

    /// Counts a look that found nothing new: what the files say is in force.
    pub fn unchanged(&self) {
        self.unchanged.fetch_add(1, Relaxed);
        self.last_successful.store(true, Relaxed);
    }

    /// Counts a change that serves, as this generation, and what it moved.
    pub(super) fn applied(&self, generation: u64, moved: &[Moved]) {
        let now = unix_seconds();
        self.applied.fetch_add(1, Relaxed);
        self.last_successful.store(true, Relaxed);
        self.last_success_seconds.store(now, Relaxed);
        let outcome = ChangeOutcome::applied(generation, moved);
        self.history.push(now, outcome);
        let shares = moved.iter().map(|it| (it.cluster.clone(), it.diff.moved));
        *self.moved.lock().expect("the shares must not be poisoned") = shares.collect();
    }

    /// The share of each cluster's key space that the last applied change moved.
    ///
    /// # Panics
    /// When the writer panicked while it told them.
    pub fn moved(&self) -> Vec<(String, f64)> {
        let moved = self.moved.lock();
        moved.expect("the shares must not be poisoned").clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "people read it beside a clock")]
fn unix_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |it| it.as_secs())
}
