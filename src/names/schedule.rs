//! Pure: which name is looked up when.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::backoff::Backoff;

/// Lookups under way at once: a slow name delays nobody until so many are slow.
pub const LOOKUPS_MAX: usize = 16;

/// An answer is not asked for again sooner, whatever its time to live: zero and near it would ask
/// all the time.
const TTL_MIN: Duration = Duration::from_secs(1);

/// An answer is asked for again after so long: a day's time to live would hide a node that moved,
/// and a lookup in five minutes is no load.
const TTL_MAX: Duration = Duration::from_mins(5);

/// The waits after failures. With the jitter below, the first is 1 to 2 s, the last 15 to 30 s, about
/// the time to live that cluster DNS gives.
const RETRY: Backoff = Backoff {
    base: Duration::from_secs(2),
    max: Duration::from_secs(30),
};

/// The waits of a name that never had an answer, which keeps its node from serving at all: it may have
/// been written a moment before its record was. The first is 100 to 200 ms.
const FIRST_RETRY: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: RETRY.max,
};

/// When each of the names that are followed is looked up. Times are on any one clock.
#[derive(Debug)]
pub struct Schedule<N> {
    names: HashMap<N, Entry>,
    /// The names that are not under way, by when they are due.
    due: BTreeSet<(Duration, N)>,
    under_way: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When it is due; `None` while it is under way.
    due: Option<Duration>,
    /// Failures since the last answer.
    failures: u32,
    /// Whether there ever was one.
    is_known: bool,
    /// Whether it is to be looked up again after what is under way.
    is_followed: bool,
}

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer that holds so long.
    Answered(Duration),
    /// Without one.
    Failed,
}

impl<N> Default for Schedule<N> {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            due: BTreeSet::new(),
            under_way: 0,
        }
    }
}

impl<N: Clone + Ord + Hash> Schedule<N> {
    /// Follows these names from now on and no others; one that is new is due at once.
    pub fn follow(&mut self, names: impl Iterator<Item = N>, now: Duration) {
        for entry in self.names.values_mut() {
            entry.is_followed = false;
        }
        for name in names {
            let entry = self.names.entry(name.clone()).or_insert_with(|| {
                self.due.insert((now, name));
                Entry {
                    due: Some(now),
                    ..Entry::default()
                }
            });
            entry.is_followed = true;
        }
        // What is under way ends first.
        self.names
            .retain(|_, it| it.is_followed || it.due.is_none());
        self.due.retain(|(_, name)| self.names.contains_key(name));
    }

    /// Has every name that is not under way be due at once: others are asked from now on.
    pub fn renew(&mut self, now: Duration) {
        for (_, name) in std::mem::take(&mut self.due) {
            if let Some(entry) = self.names.get_mut(&name) {
                (entry.due, entry.failures) = (Some(now), 0);
                self.due.insert((now, name));
            }
        }
    }

    /// The name to look up now, which is under way until its [`end`](Self::end); `None` when none
    /// is due or as many as may be are under way.
    pub fn begin(&mut self, now: Duration) -> Option<N> {
        if self.under_way >= LOOKUPS_MAX || self.due.first()?.0 > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        self.names.get_mut(&name)?.due = None;
        self.under_way += 1;
        Some(name)
    }

    /// Takes note of how a lookup ended; `random` spreads the next one.
    pub fn end(&mut self, name: &N, ended: Ended, now: Duration, random: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        if !entry.is_followed {
            self.names.remove(name);
            return;
        }
        let wait = match ended {
            Ended::Answered(ttl) => {
                (entry.failures, entry.is_known) = (0, true);
                refresh(ttl, random)
            }
            Ended::Failed => {
                let failures = entry.failures;
                entry.failures = failures.saturating_add(1);
                let waits = if entry.is_known { RETRY } else { FIRST_RETRY };
                waits.equal_jitter(failures, random)
            }
        };
        entry.due = Some(now + wait);
        self.due.insert((now + wait, name.clone()));
    }
}

/// From an answer to the next question: its time to live, and up to a tenth of it more. Not less:
/// who keeps the answer for others would give what is left of it, with next to no time to live.
fn refresh(ttl: Duration, random: u64) -> Duration {
    let ttl = ttl.clamp(TTL_MIN, TTL_MAX);
    let spread = Backoff {
        base: ttl / 10,
        max: ttl / 10,
    };
    ttl + spread.full_jitter(0, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn following(names: &[&'static str]) -> Schedule<&'static str> {
        let mut schedule = Schedule::default();
        schedule.follow(names.iter().copied(), secs(0));
        schedule
    }

    /// Has a lookup that began at `now` end at once, and says when the next one is due.
    fn due_after(schedule: &mut Schedule<&'static str>, ended: Ended, now: Duration) -> Duration {
        let name = schedule.begin(now).unwrap();
        schedule.end(&name, ended, now, 0);
        schedule.due.first().unwrap().0
    }

    #[test]
    fn a_new_name_is_due_at_once_and_an_answered_one_after_its_time_to_live() {
        let mut schedule = following(&["a"]);
        let due = due_after(&mut schedule, Ended::Answered(secs(30)), secs(1));
        assert_eq!(due, secs(31));
        schedule.follow(["a", "b"].into_iter(), secs(2));
        assert_eq!(schedule.begin(secs(2)), Some("b"));
        assert_eq!(schedule.begin(secs(30)), None);
        assert_eq!(schedule.begin(secs(31)), Some("a"));
    }

    #[test]
    fn times_to_live_are_clamped_and_spread() {
        assert_eq!(refresh(secs(0), 0), TTL_MIN);
        assert_eq!(refresh(secs(86400), 0), TTL_MAX);
        assert_eq!(
            refresh(secs(10), 1 << 63),
            secs(10) + Duration::from_millis(500)
        );
        assert!(refresh(secs(10), u64::MAX) <= secs(11));
    }

    #[test]
    fn failures_back_off_until_an_answer() {
        let mut schedule = following(&["a"]);
        let mut now = due_after(&mut schedule, Ended::Answered(secs(5)), secs(0));
        let mut waits = Vec::new();
        for _ in 0..7 {
            let due = due_after(&mut schedule, Ended::Failed, now);
            waits.push(due.checked_sub(now).unwrap().as_secs());
            now = due;
        }
        assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15]);
        now = due_after(&mut schedule, Ended::Answered(secs(5)), now);
        let due = due_after(&mut schedule, Ended::Failed, now);
        assert_eq!(due, now + secs(1));
    }

    #[test]
    fn a_name_that_never_had_an_answer_is_asked_for_soon() {
        let mut schedule = following(&["a"]);
        let mut now = secs(0);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let due = due_after(&mut schedule, Ended::Failed, now);
            waits.push(due.checked_sub(now).unwrap().as_millis());
            now = due;
        }
        let doubled = [100, 200, 400, 800, 1600, 3200, 6400, 12_800];
        assert_eq!(waits[..8], doubled);
        assert_eq!(waits[8..], [15_000, 15_000]);
    }

    #[test]
    fn all_are_due_when_others_are_asked() {
        let mut schedule = following(&["a", "b"]);
        due_after(&mut schedule, Ended::Failed, secs(0));
        due_after(&mut schedule, Ended::Answered(secs(300)), secs(0));
        assert_eq!(schedule.begin(secs(0)), None);
        schedule.renew(secs(0));
        let due: Vec<_> = std::iter::from_fn(|| schedule.begin(secs(0))).collect();
        assert_eq!(due, ["a", "b"]);
        schedule.renew(secs(0));
        assert_eq!(schedule.begin(secs(0)), None);
        schedule.end(&"a", Ended::Failed, secs(0), 0);
        let soon = Duration::from_millis(100);
        assert_eq!(schedule.due.first(), Some(&(soon, "a")));
    }

    #[test]
    fn so_many_are_under_way_and_no_more() {
        let mut schedule = Schedule::default();
        schedule.follow(0..=LOOKUPS_MAX, secs(0));
        for _ in 0..LOOKUPS_MAX {
            assert!(schedule.begin(secs(0)).is_some());
        }
        assert_eq!(schedule.begin(secs(0)), None);
        schedule.end(&0, Ended::Failed, secs(0), 0);
        assert_eq!(schedule.begin(secs(0)), Some(LOOKUPS_MAX));
    }

    #[test]
    fn a_name_that_leaves_under_way_and_comes_back_is_looked_up_once() {
        let mut schedule = following(&["a"]);
        assert_eq!(schedule.begin(secs(0)), Some("a"));
        schedule.follow([].into_iter(), secs(0));
        schedule.follow(["a"].into_iter(), secs(0));
        assert_eq!(schedule.begin(secs(9)), None);
        schedule.follow([].into_iter(), secs(0));
        schedule.end(&"a", Ended::Failed, secs(1), 0);
        assert!(schedule.names.is_empty() && schedule.due.is_empty());
        assert_eq!(schedule.under_way, 0);
    }
}
