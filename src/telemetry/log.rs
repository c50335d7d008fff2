//! The process's own log: text on a terminal, JSON otherwise, at a level that can be changed.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What watches files is not to tell of each event: a log in a folder that is watched would be an event
/// itself, without end.
const WATCHER: &str = "notify=info";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable lines.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Text when standard error is a terminal, JSON when something collects it.
    pub fn detect() -> Self {
        if io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// The handle that changes what is logged.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Logs what `filter` selects from now on: a level, or directives such as `info,keyway::proxy=debug`.
    ///
    /// # Errors
    /// When `filter` is not one, in words for whoever sent it.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(filter.trim()).map_err(|error| {
            format!("expected a level or directives, found {filter:?}: {error}")
        })?;
        let quiet = WATCHER.parse().map_err(|error| format!("{error}"))?;
        let filter = filter.add_directive(quiet);
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// What is logged until somebody says otherwise. The resolver's own lines would tell of each datagram
/// that it does not understand; what comes of a lookup is said once by who asked.
const FILTER: &str = "info,hickory_net=error,hickory_proto=error";

/// Starts logging to standard error, once a process.
///
/// # Errors
/// When the process logs already.
pub fn init(format: LogFormat) -> Result<LogLevel, TryInitError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => registry.with(layer).try_init()?,
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
    }
    Ok(LogLevel(handle))
}

/// The wall-clock time as the Date field has it (RFC 9110 5.6.7).
#[expect(clippy::disallowed_methods, reason = "Date is wall-clock time")]
pub fn http_date() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}
