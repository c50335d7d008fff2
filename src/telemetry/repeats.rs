//! Pure: the log's lines that say the same again and again, of which most are left out.

use std::collections::HashMap;
use std::time::Duration;

/// So many lines of one kind are shown in a window.
pub(super) const SHOWN: u32 = 10;

/// How long a window is.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// How many kinds are told apart at once: some for each of a thousand nodes. Beyond it lines are shown as
/// they come, which the output's own bound is for.
const KINDS: usize = 4096;

/// What was said lately, by kind.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    kinds: HashMap<u64, Kind>,
}

/// Lines that say the same.
#[derive(Debug)]
struct Kind {
    message: String,
    since: Duration,
    shown: u32,
    left_out: u64,
}

/// Lines that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) message: String,
    pub(super) lines: u64,
}

impl Repeats {
    /// Whether a line of this kind is shown at `now`, since the process began; `message` is asked for when the kind is new.
    pub(super) fn shows(
        &mut self,
        kind: u64,
        now: Duration,
        message: impl FnOnce() -> String,
    ) -> bool {
        if let Some(known) = self.kinds.get_mut(&kind) {
            // Where lines were left out the window ends by being told.
            if known.is_over(now) && known.left_out == 0 {
                (known.since, known.shown) = (now, 0);
            }
            let shown = known.shown < SHOWN;
            known.shown += u32::from(shown);
            known.left_out += u64::from(!shown);
            return shown;
        }
        if self.kinds.len() >= KINDS {
            self.kinds
                .retain(|_, it| !it.is_over(now) || it.left_out > 0);
        }
        if self.kinds.len() < KINDS {
            let first = Kind {
                message: message(),
                since: now,
                shown: 1,
                left_out: 0,
            };
            self.kinds.insert(kind, first);
        }
        true
    }

    /// What was left out in windows that are over, which are forgotten.
    pub(super) fn tell(&mut self, now: Duration) -> Vec<LeftOut> {
        let over = self.kinds.extract_if(|_, it| it.is_over(now));
        let left_out = over.filter(|(_, it)| it.left_out > 0);
        let told = left_out.map(|(_, it)| LeftOut {
            message: it.message,
            lines: it.left_out,
        });
        told.collect()
    }
}

impl Kind {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(repeats: &mut Repeats, kind: u64, now: Duration, lines: u32) -> usize {
        let shows = (0..lines).filter(|_| repeats.shows(kind, now, || format!("kind {kind}")));
        shows.count()
    }

    #[test]
    fn repeats_are_left_out_and_told() {
        let (mut repeats, now) = (Repeats::default(), Duration::ZERO);
        assert_eq!(shown(&mut repeats, 1, now, 15), 10);
        assert_eq!(shown(&mut repeats, 2, now, 10), 10, "another kind");
        assert_eq!(repeats.tell(now + WINDOW / 2), []);
        let later = now + WINDOW;
        assert_eq!(shown(&mut repeats, 1, later, 1), 0, "until it is told");
        let told = LeftOut {
            message: "kind 1".to_owned(),
            lines: 6,
        };
        assert_eq!(repeats.tell(later), [told]);
        assert_eq!(repeats.tell(later), []);
        assert_eq!(shown(&mut repeats, 1, later, 11), 10, "a new window");
    }

    #[test]
    fn what_comes_seldom_is_always_shown() {
        let (mut repeats, now) = (Repeats::default(), Duration::ZERO);
        for at in 0..100 {
            assert_eq!(shown(&mut repeats, 1, now + at * WINDOW / 5, 1), 1);
        }
    }

    #[test]
    fn kinds_are_bounded_and_forgotten() {
        let (mut repeats, now) = (Repeats::default(), Duration::ZERO);
        for kind in 0..2 * KINDS as u64 {
            assert!(repeats.shows(kind, now, String::new));
        }
        assert_eq!(repeats.kinds.len(), KINDS);
        // One that was not noted is shown as often as it comes.
        assert_eq!(shown(&mut repeats, u64::MAX, now, 20), 20);
        assert_eq!(shown(&mut repeats, u64::MAX, now + WINDOW, 20), 10);
        assert_eq!(repeats.kinds.len(), 1);
    }
}
