//! Leaves lines out that say the same again and again.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::telemetry::repeats::{LeftOut, Repeats};

/// The layer that leaves out, and its handle.
#[derive(Clone, Debug)]
pub(super) struct Limiter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    repeats: Mutex<Repeats>,
    started: Instant,
    left_out: AtomicU64,
}

/// What an event says, in words: its numbers may differ from one to the next.
#[derive(Default)]
struct Words {
    hasher: DefaultHasher,
    message: String,
}

impl Limiter {
    /// One that has seen nothing.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            repeats: Mutex::default(),
            started: Instant::now(),
            left_out: AtomicU64::new(0),
        }))
    }

    /// How many lines were left out.
    pub(super) fn left_out(&self) -> u64 {
        self.0.left_out.load(Relaxed)
    }

    /// What was left out and was not told yet.
    pub(super) fn tell(&self) -> Vec<LeftOut> {
        self.repeats().tell(self.0.started.elapsed())
    }

    fn repeats(&self) -> std::sync::MutexGuard<'_, Repeats> {
        self.0
            .repeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // Whoever asks for more than states wants all of it.
        if *event.metadata().level() > Level::INFO {
            return true;
        }
        let mut words = Words::default();
        event.metadata().callsite().hash(&mut words.hasher);
        event.record(&mut words);
        let Words { hasher, message } = words;
        let now = self.0.started.elapsed();
        let shows = self.repeats().shows(hasher.finish(), now, || message);
        if !shows {
            self.0.left_out.fetch_add(1, Relaxed);
        }
        shows
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        text.hash(&mut self.hasher);
        if field.name() == "message" {
            self.message = text;
        }
    }

    fn record_str(&mut self, _: &Field, value: &str) {
        value.hash(&mut self.hasher);
    }

    fn record_bool(&mut self, _: &Field, value: bool) {
        value.hash(&mut self.hasher);
    }

    fn record_f64(&mut self, _: &Field, _: f64) {}

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_u64(&mut self, _: &Field, _: u64) {}

    fn record_i128(&mut self, _: &Field, _: i128) {}

    fn record_u128(&mut self, _: &Field, _: u128) {}
}
