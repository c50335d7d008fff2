//! The way down: one signal that everything long-lived watches.
//!
//! The phases only ever advance. Who watches decides what a phase means for it: listeners stop
//! accepting, connections finish what is in flight.

use tokio::sync::watch;

/// How far the process is on its way down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Ready and serving.
    #[default]
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
pub struct DrainTrigger(watch::Sender<Phase>);

/// The end that sees the phase advance.
#[derive(Clone, Debug)]
pub struct DrainWatch(watch::Receiver<Phase>);

/// A trigger and a watch of it.
pub fn channel() -> (DrainTrigger, DrainWatch) {
    let (sender, receiver) = watch::channel(Phase::default());
    (DrainTrigger(sender), DrainWatch(receiver))
}

impl DrainTrigger {
    /// Goes on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let further = phase > *now;
            *now = phase.max(*now);
            further
        });
    }
}

impl DrainWatch {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` or a later one is reached; a lost trigger counts as the last phase.
    ///
    /// Cancel-safe.
    pub async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger is gone, and with it the process.
        let _gone = self.0.wait_for(|now| *now >= phase).await.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_advance() {
        let (trigger, mut watch) = channel();
        assert_eq!(watch.phase(), Phase::Serving);
        trigger.advance(Phase::Draining);
        trigger.advance(Phase::PreDrain);
        assert_eq!(watch.phase(), Phase::Draining);
        watch.reached(Phase::PreDrain).await;
        drop(trigger);
        watch.reached(Phase::Over).await;
    }
}
