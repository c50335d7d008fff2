//! The last changes of the files, and what became of each: what an operator asks for first.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::reconcile::Moved;

/// How many changes are kept: a rollout and what went wrong before it.
const CHANGES: usize = 16;

/// How many problems of a refused change are kept; who broke a file sees the first ones first.
const PROBLEMS: usize = 8;

/// One change of the files.
#[derive(Clone, Debug)]
pub struct Change {
    /// When, in seconds since the Unix epoch.
    pub at_seconds: u64,
    /// What became of it.
    pub outcome: ChangeOutcome,
}

/// What became of a change.
#[derive(Clone, Debug)]
pub enum ChangeOutcome {
    /// It serves.
    Applied {
        /// The generation that it made.
        generation: u64,
        /// The share of each cluster's key space that it moved, of those where it moved any.
        moved: Vec<(String, f64)>,
    },
    /// It was refused.
    Rejected {
        /// What is wrong: the first of the problems.
        problems: Vec<String>,
        /// How many more there are.
        more: usize,
    },
}

/// The last changes, the newest first.
///
/// Locked by the writer for a moment a change and by who shows it; no request comes near.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Change>>);

impl ChangeOutcome {
    /// A change that serves.
    pub fn applied(generation: u64, moved: &[Moved]) -> Self {
        let shares = moved.iter().map(|it| (it.cluster.clone(), it.diff.moved));
        Self::Applied {
            generation,
            moved: shares.collect(),
        }
    }

    /// A change that was refused for these problems.
    pub fn rejected(problems: &[String]) -> Self {
        Self::Rejected {
            problems: problems.iter().take(PROBLEMS).cloned().collect(),
            more: problems.len().saturating_sub(PROBLEMS),
        }
    }
}

impl History {
    /// Takes note of a change; the oldest is forgotten when there are as many as are kept.
    pub(super) fn push(&self, at_seconds: u64, outcome: ChangeOutcome) {
        let mut changes = self.0.lock().expect("the history must not be poisoned");
        changes.truncate(CHANGES - 1);
        changes.push_front(Change {
            at_seconds,
            outcome,
        });
    }

    /// The last changes, the newest first.
    ///
    /// # Panics
    /// When the writer panicked while it took note of one.
    pub fn changes(&self) -> Vec<Change> {
        let changes = self.0.lock().expect("the history must not be poisoned");
        changes.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_change_comes_first_and_the_oldest_goes() {
        let history = History::default();
        for at in 0..20 {
            history.push(at, ChangeOutcome::applied(at + 1, &[]));
        }
        let times: Vec<_> = history.changes().iter().map(|it| it.at_seconds).collect();
        assert_eq!(times, (4..20).rev().collect::<Vec<_>>());
    }

    #[test]
    fn of_many_problems_the_first_are_kept_and_the_rest_counted() {
        let problems: Vec<_> = (0..11).map(|it| it.to_string()).collect();
        let ChangeOutcome::Rejected { problems, more } = ChangeOutcome::rejected(&problems) else {
            panic!("a refused change must be told as such");
        };
        assert_eq!((problems.len(), problems[0].as_str(), more), (8, "0", 3));
    }
}
