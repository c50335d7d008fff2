//! The life of the process: one signal that everything long-lived watches.
//!
//! The phases only ever advance. Who watches decides what a phase means for it: listeners begin and
//! stop accepting, connections finish what is in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tokio::sync::watch;

/// How far the process is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Unready and accepting nothing yet: who connects waits in the listening sockets' queues.
    #[default]
    Starting,
    /// Ready and serving.
    Serving,
    /// Unready, still accepting: the application may still have calls to make.
    PreDrain,
    /// Accepting nothing; what is in flight finishes.
    Draining,
    /// Out of time: what is left is cut.
    Over,
}

/// The end that advances the phase.
#[derive(Debug)]
pub struct DrainTrigger {
    advances: watch::Sender<Phase>,
    word: Arc<AtomicU8>,
}

/// The end that sees the phase advance.
#[derive(Clone, Debug)]
pub struct DrainWatch {
    advances: watch::Receiver<Phase>,
    /// The phase once more, without the channel's lock: each request asks for it several times.
    word: Arc<AtomicU8>,
}

/// A trigger and a watch of it.
pub fn channel() -> (DrainTrigger, DrainWatch) {
    let (sender, receiver) = watch::channel(Phase::default());
    let word = Arc::new(AtomicU8::new(Phase::default() as u8));
    let watch = DrainWatch {
        advances: receiver,
        word: Arc::clone(&word),
    };
    let advances = sender;
    (DrainTrigger { advances, word }, watch)
}

impl DrainTrigger {
    /// Goes on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        // Before anybody is woken by it.
        self.word.fetch_max(phase as u8, Relaxed);
        self.advances.send_if_modified(|now| {
            let further = phase > *now;
            *now = phase.max(*now);
            further
        });
    }
}

impl DrainWatch {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.word.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::PreDrain,
            3 => Phase::Draining,
            _ => Phase::Over,
        }
    }

    /// Waits until `phase` or a later one is reached; a lost trigger counts as the last phase.
    ///
    /// Cancel-safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger is gone, and with it the process.
        let _gone = self.advances.wait_for(|now| *now >= phase).await.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_advance() {
        let (trigger, mut watch) = channel();
        assert_eq!(watch.phase(), Phase::Starting);
        trigger.advance(Phase::Serving);
        assert_eq!(watch.phase(), Phase::Serving);
        trigger.advance(Phase::Draining);
        trigger.advance(Phase::PreDrain);
        assert_eq!(watch.phase(), Phase::Draining);
        watch.reached(Phase::PreDrain).await;
        drop(trigger);
        watch.reached(Phase::Over).await;
    }
}
