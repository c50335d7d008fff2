//! The process's own log: text on a terminal, JSON otherwise, at a level that can be changed.
//!
//! Invariant: who has something to say never waits. Lines go to standard error by a thread of their own;
//! what its reader does not take is dropped and counted, and of lines that say the same again and
//! again most are left out, which is told.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, info};
use tracing_subscriber::filter::Directive;
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::line_log::{Bounds, DroppedLines, LineBuffer, LineLog};
use super::repeats::Repeats;

/// What watches files is not to tell of each event: a log in a folder that is watched would be an event
/// itself, without end. The resolver's own lines would tell of each datagram that it does not
/// understand; what comes of a lookup is said once by who asked.
const QUIET: [&str; 3] = ["notify=info", "hickory_net=error", "hickory_proto=error"];

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

/// What is logged: a level, or directives such as `info,keyway::proxy=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// Why a text is no filter: what it should be, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a level (error, warn, info, debug, trace or off), or directives such as \
     info,keyway::proxy=debug, found {0:?}"
)]
pub struct FilterError(String);

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
    counts: LogCounts,
    repeats: Arc<Mutex<Repeats>>,
    started: Instant,
    /// What the files said last: an operator's word holds until they say something else.
    followed: Arc<Mutex<Option<LogParams>>>,
}

/// The lines of the log that nobody saw.
#[derive(Clone, Debug)]
pub struct LogCounts {
    output: DroppedLines,
    repeats: Arc<AtomicU64>,
}

/// How lines look at the moment.
#[derive(Debug)]
struct Shape {
    /// What the command line said, which the files do not change.
    told: LogFormat,
    is_json: AtomicBool,
}

/// Where lines go: `None` once the log has ended.
#[derive(Clone, Debug)]
struct Outlet(Arc<Mutex<Option<LineBuffer>>>);

/// A line on its way to the outlet.
struct Line<'a>(&'a Outlet);

/// Formats events as the shape says.
struct Shaped {
    shape: Arc<Shape>,
    text: Format<Full>,
    json: Format<Json>,
}

/// Leaves out what says the same again and again.
struct Limiter {
    repeats: Arc<Mutex<Repeats>>,
    started: Instant,
    counts: LogCounts,
}

/// What an event says, in words: its numbers may differ from one to the next.
#[derive(Default)]
struct Words {
    hasher: DefaultHasher,
    message: String,
}

/// Starts logging to standard error in `format`, once a process.
///
/// # Errors
/// When the process logs already, or no thread can be had.
pub fn init(format: LogFormat) -> Result<Log, InitError> {
    let (thread, mut buffers) = LineLog::start("keyway-stderr", io::stderr(), 1, Bounds::FEW)?;
    let outlet = Outlet(Arc::new(Mutex::new(buffers.pop())));
    let (filter, handle) = reload::Layer::new(LogFilter::default().directives());
    let counts = LogCounts {
        output: thread.dropped(),
        repeats: Arc::default(),
    };
    let shape = Arc::new(Shape {
        told: format,
        is_json: AtomicBool::new(format.is_json()),
    });
    let repeats: Arc<Mutex<Repeats>> = Arc::default();
    let started = Instant::now();
    let limiter = Limiter {
        repeats: Arc::clone(&repeats),
        started,
        counts: counts.clone(),
    };
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
        .with(limiter)
        .with(layer)
        .try_init()?;
    let control = LogControl {
        filter: handle,
        shape,
        outlet,
        counts,
        repeats,
        started,
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
        drop(self.control.outlet.lock().take());
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
        self.counts.clone()
    }

    /// Says what was left out, as long as the process runs.
    pub async fn tell_repeats(self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let told = {
                let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
                repeats.tell(self.started.elapsed())
            };
            for left_out in told {
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
        self.repeats.load(Relaxed)
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

// === impl LogFilter ===

impl LogFilter {
    fn directives(&self) -> EnvFilter {
        // Those of the filter come last: whoever names one of the quiet modules hears it.
        let all = QUIET.into_iter().chain(self.0.split(',').map(str::trim));
        let parsed = all.map(|it| Directive::from_str(it).expect("a filter must be checked"));
        parsed.fold(EnvFilter::default(), EnvFilter::add_directive)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let is_directive = |it: &str| {
            let level = it.rsplit_once('=').map_or(it, |it| it.1);
            let is_level = LEVELS.iter().any(|it| it.eq_ignore_ascii_case(level));
            // A word that is no level would be the name of a module.
            is_level && Directive::from_str(it).is_ok()
        };
        let text = text.trim();
        if text.split(',').all(|it| is_directive(it.trim())) {
            Ok(Self(text.to_owned()))
        } else {
            Err(FilterError(text.to_owned()))
        }
    }
}

// === layers ===

impl<S> Layer<S> for Limiter
where
    S: Subscriber,
{
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        // Whoever asks for more than states wants all of it.
        if *event.metadata().level() > Level::INFO {
            return true;
        }
        let mut words = Words::default();
        event.metadata().callsite().hash(&mut words.hasher);
        event.record(&mut words);
        let Words { hasher, message } = words;
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        let shows = repeats.shows(hasher.finish(), self.started.elapsed(), || message);
        if !shows {
            self.counts.repeats.fetch_add(1, Relaxed);
        }
        shows
    }
}

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

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

impl Outlet {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<LineBuffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Line<'_> {
    /// Takes a whole line, its end included, as the layer writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(buffer) = &mut *self.0.lock() {
            buffer.line(|to| to.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line)));
            buffer.flush();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

/// The wall-clock time as the Date field has it (RFC 9110 5.6.7).
#[expect(clippy::disallowed_methods, reason = "Date is wall-clock time")]
pub fn http_date() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_directives() {
        for text in ["info", "WARN", "off", "info,keyway::proxy=debug", " debug "] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text}");
        }
        for text in [
            "",
            "verbose",
            "info,",
            "no=such=level",
            "keyway",
            "keyway=loud",
        ] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }
}
