//! Pure: whether requests wait at a node in vain.

use super::Attempts;
use crate::health::Millis;

/// Whether requests wait at a node and it answers none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silence {
    /// When it was last looked while requests waited, and the answers by then.
    glance: Option<(Millis, u64)>,
    /// Whether there was no answer since the look before, nor a good probe that explains it.
    is_suspect: bool,
    /// Whether those who wait say so.
    is_told: bool,
    /// The attempts that the node had been sent before its last good probe: they are slow, not lost.
    explained: u64,
}

impl Silence {
    /// Looks at a node at which `waiting` attempts are under way, every `step`.
    pub(super) fn look(
        &mut self,
        now: Millis,
        waiting: u64,
        attempts: &impl Fn() -> Attempts,
        step: Millis,
    ) {
        if waiting == 0 {
            (self.glance, self.is_suspect) = (None, false);
            return;
        }
        if self
            .glance
            .is_some_and(|it| now.saturating_sub(it.0) < step)
        {
            return;
        }
        let Attempts {
            ended, answered, ..
        } = attempts();
        let is_silent = self.glance.is_some_and(|it| it.1 == answered);
        self.is_suspect = is_silent && ended + waiting != self.explained;
        self.glance = Some((now, answered));
    }

    /// What those who wait make of it.
    pub(super) fn tell(&mut self, is_suspect: bool) {
        self.is_told = is_suspect;
    }

    /// Whether the node is to be suspected for it.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect || self.is_told
    }

    /// A good probe explains why the `sent` attempts have no answer that the node was sent before it.
    pub(super) fn explain(&mut self, sent: u64) {
        (self.explained, self.is_suspect) = (sent, false);
    }
}
