//! The wall clock of log lines, formatted once a millisecond.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of log lines: RFC 3339 in UTC with milliseconds.
#[derive(Debug, Default)]
pub struct LineClock {
    millis: u128,
    text: String,
}

impl LineClock {
    /// The time now.
    #[expect(
        clippy::disallowed_methods,
        reason = "log lines carry wall-clock times"
    )]
    pub fn now(&mut self) -> &str {
        // A clock before 1970 is not set.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        self.at(since.unwrap_or_default())
    }

    /// The time so long after the Unix epoch.
    fn at(&mut self, since: Duration) -> &str {
        if self.millis != since.as_millis() || self.text.is_empty() {
            self.millis = since.as_millis();
            self.text.clear();
            let time = humantime::format_rfc3339_millis(UNIX_EPOCH + since);
            // It fails after the year 9999.
            let _unshown = write!(self.text, "{time}").is_err();
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_shown_anew_each_millisecond() {
        let mut clock = LineClock::default();
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (999_999, "1970-01-01T00:00:00.000Z"),
            (1_000_000, "1970-01-01T00:00:00.001Z"),
            (1_751_328_000_042_000_000, "2025-07-01T00:00:00.042Z"),
            (1_751_328_000_042_999_999, "2025-07-01T00:00:00.042Z"),
            (1_751_328_000_000_000_000, "2025-07-01T00:00:00.000Z"),
        ] {
            assert_eq!(clock.at(Duration::from_nanos(nanos)), expected, "{nanos}");
        }
    }
}
