//! The process's own log: text on a terminal, JSON otherwise, at a level that can be changed.
//!
//! Invariant: who has something to say never waits. Lines go to standard error by a thread of their own;
//! what its reader does not take is dropped and counted, and of lines that say the same again and
//! again most are left out, which is told.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{Event, Subscriber, info};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::line_log::{Bounds, DroppedLines, LineLog};

mod filter;
mod limiter;
mod outlet;

pub use filter::{FilterError, LogFilter};
use limiter::Limiter;
use outlet::Outlet;

/// How often it is looked whether lines were left out.
const LOOK: Duration = Duration::from_secs(1);

/// How long standard error may take for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON when something collects it.
    #[default]
    Auto,
    /// Readable lines.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the files say of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogParams {
    /// What is logged.
    pub level: LogFilter,
    /// How lines look.
    pub format: LogFormat,
}

/// The log of a process. Ending it has the last lines written.
#[derive(Debug)]
pub struct Log {
    control: LogControl,
    thread: LineLog,
}

/// The handle that changes what is logged, and how.
#[derive(Clone, Debug)]
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    shape: Arc<Shape>,
    outlet: Outlet,
    limiter: Limiter,
    output: DroppedLines,
    /// What the files said last: an operator's word holds until they say something else.
    followed: Arc<Mutex<Option<LogParams>>>,
}

/// The lines of the log that nobody saw.
#[derive(Clone, Debug)]
pub struct LogCounts {
    output: DroppedLines,
    limiter: Limiter,
}

/// How lines look at the moment.
#[derive(Debug)]
struct Shape {
    /// What the command line said, which the files do not change.
    told: LogFormat,
    is_json: AtomicBool,
}

/// Formats events as the shape says.
struct Shaped {
    shape: Arc<Shape>,
    text: Format<Full>,
    json: Format<Json>,
}

/// Starts logging to standard error in `format`, once a process.
///
/// # Errors
/// When the process logs already, or no thread can be had.
pub fn init(format: LogFormat) -> Result<Log, InitError> {
    let (thread, mut buffers) = LineLog::start("keyway-stderr", io::stderr(), 1, Bounds::FEW)?;
    let outlet = Outlet::new(buffers.pop());
    let (filter, handle) = reload::Layer::new(LogFilter::default().directives());
    let limiter = Limiter::new();
    let shape = Arc::new(Shape {
        told: format,
        is_json: AtomicBool::new(format.is_json()),
    });
    let shaped = Shaped {
        shape: Arc::clone(&shape),
        text: lines::format(),
        json: lines::format().json().flatten_event(true),
    };
    let layer = lines::layer()
        .with_ansi(io::stderr().is_terminal())
        .event_format(shaped)
        .with_writer(outlet.clone());
    tracing_subscriber::registry()
        .with(filter)
        .with(limiter.clone())
        .with(layer)
        .try_init()?;
    let control = LogControl {
        filter: handle,
        shape,
        outlet,
        limiter,
        output: thread.dropped(),
        followed: Arc::default(),
    };
    Ok(Log { control, thread })
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The process logs already.
    #[error("the process logs already")]
    Twice(#[from] TryInitError),
    /// Its thread cannot be started.
    #[error("the log's thread cannot be started")]
    Thread(#[from] io::Error),
}

// === impl Log ===

impl Log {
    /// What changes it.
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }
}

impl Drop for Log {
    /// Waits a moment for the last lines; a reader that stalls is not waited for.
    #[expect(
        clippy::disallowed_methods,
        reason = "the process ends, and no runtime is left"
    )]
    fn drop(&mut self) {
        self.control.outlet.close();
        let deadline = Instant::now() + LAST_LINES;
        while !self.thread.is_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

// === impl LogControl ===

impl LogControl {
    /// Logs what `filter` selects from now on.
    ///
    /// # Errors
    /// When `filter` is none, in words for whoever sent it.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let filter: LogFilter = filter.parse().map_err(|it: FilterError| it.to_string())?;
        let set = self.filter.reload(filter.directives());
        set.map_err(|error| error.to_string())
    }

    /// Logs as the files say, where they say something else than before.
    pub fn follow(&self, params: &LogParams) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if followed.as_ref() == Some(params) {
            return;
        }
        // It fails only once nothing is logged any more.
        let _ended = self.filter.reload(params.level.directives()).is_err();
        if self.shape.told == LogFormat::Auto {
            let is_json = params.format.is_json();
            self.shape.is_json.store(is_json, Relaxed);
        }
        *followed = Some(params.clone());
    }

    /// The lines that nobody saw.
    pub fn counts(&self) -> LogCounts {
        LogCounts {
            output: self.output.clone(),
            limiter: self.limiter.clone(),
        }
    }

    /// Says what was left out, as long as the process runs.
    pub async fn tell_repeats(self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            for left_out in self.limiter.tell() {
                let (repeated, lines) = (left_out.message, left_out.lines);
                info!(repeated, lines, "lines that say the same were left out");
            }
        }
    }
}

// === impl LogCounts ===

impl LogCounts {
    /// Those that standard error did not take.
    pub fn output(&self) -> u64 {
        self.output.count()
    }

    /// Those that said the same as others before them.
    pub fn repeats(&self) -> u64 {
        self.limiter.left_out()
    }
}

// === impl LogFormat ===

impl LogFormat {
    fn is_json(self) -> bool {
        match self {
            Self::Auto => !io::stderr().is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

// === impl Shaped ===

impl<S, N> FormatEvent<S, N> for Shaped
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.shape.is_json.load(Relaxed) {
            self.json.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}

/// The wall-clock time as the Date field has it (RFC 9110 5.6.7).
#[expect(clippy::disallowed_methods, reason = "Date is wall-clock time")]
pub fn http_date() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}
