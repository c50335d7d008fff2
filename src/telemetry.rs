//! Counters that cost nothing to bump, and logs that do not block.
//!
//! A counter on the data path is a plain word that one thread owns; the threads' words lie side by
//! side in a [`Striped`] and are added up when Prometheus asks. What is counted, and under which
//! names, belongs to the modules that count.

mod family;
mod line_clock;
mod line_log;
mod log;
mod log_output;
mod repeats;
mod stripe;

pub use family::Family;
pub use line_clock::LineClock;
pub use line_log::{Bounds, DroppedLines, LineBuffer, LineLog};
pub use log::{
    FilterError, InitError, Log, LogControl, LogCounts, LogFilter, LogFormat, LogParams, http_date,
    init as init_log,
};
pub use log_output::{Destination, LogOutput};
pub use stripe::{Counter, Gauge, Histogram, Striped, ThreadIndex};
