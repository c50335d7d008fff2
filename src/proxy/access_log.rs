//! The access log: one line a request, on standard output.
//!
//! A line is formatted straight into its thread's buffer; how it gets out from there is
//! [`telemetry`](crate::telemetry)'s.

use std::fmt::{self, Display};
use std::io::Write as _;
use std::time::Duration;

use http::Version;

use super::outcome::Record;
use crate::cluster::desired::AccessLog;
use crate::forwarded::append_ip;
use crate::reason::Reason;
use crate::telemetry::{LineBuffer, LineClock};

/// One data thread's access log.
#[derive(Debug)]
pub(super) struct RequestLog {
    lines: LineBuffer,
    clock: LineClock,
}

impl RequestLog {
    /// A log that goes to `lines`.
    pub(super) fn new(lines: LineBuffer) -> Self {
        Self {
            lines,
            clock: LineClock::default(),
        }
    }

    /// Adds the line of `record` as `format` asks.
    pub(super) fn write(&mut self, format: AccessLog, record: &Record<'_>) {
        let write = match format {
            AccessLog::Off => return,
            AccessLog::Text => text,
            AccessLog::Json => json,
        };
        let time = self.clock.now();
        self.lines.line(|line| write(line, time, record));
    }

    /// Hands over what was added so far.
    pub(super) fn flush(&mut self) {
        self.lines.flush();
    }
}

/// `time client "GET /path HTTP/1.1" status bytes duration key=value ...`
fn text(to: &mut Vec<u8>, time: &str, record: &Record<'_>) {
    let line = record.line;
    // Writing to a Vec cannot fail.
    let _infallible = write!(
        to,
        "{time} {} \"{} {} {}\" {} {} {:.6} host={} route={} cluster={} shard={} node={} \
         attempts={} class={} reason={}",
        OrDash(line.client),
        line.method,
        Escaped(&line.target),
        version(line.version),
        OrDash(record.status),
        record.bytes,
        record.duration.as_secs_f64(),
        or_dash(&line.authority),
        or_dash(record.route),
        or_dash(record.cluster),
        or_dash(record.shard),
        or_dash(record.node),
        record.attempts,
        record.class.as_str(),
        record.reason.map_or("-", Reason::as_str),
    );
}

/// One object, written member by member: a serialiser looks at each byte of names and values, which
/// takes four times as long.
fn json(to: &mut Vec<u8>, time: &str, record: &Record<'_>) {
    let line = record.line;
    plain(to, "{\"time\":\"", time);
    match line.client {
        Some(client) => {
            to.extend_from_slice(b",\"client\":\"");
            append_ip(to, client);
            to.push(b'"');
        }
        None => to.extend_from_slice(b",\"client\":null"),
    }
    plain(to, ",\"method\":\"", line.method.as_str());
    text_member(to, ",\"target\":", &line.target);
    plain(to, ",\"version\":\"", version(line.version));
    text_member(to, ",\"host\":", &line.authority);
    to.extend_from_slice(b",\"status\":");
    match record.status {
        Some(status) => number(to, status.into()),
        None => to.extend_from_slice(b"null"),
    }
    to.extend_from_slice(b",\"bytes\":");
    number(to, record.bytes);
    to.extend_from_slice(b",\"duration_seconds\":");
    seconds(to, record.duration);
    text_member(to, ",\"route\":", record.route);
    text_member(to, ",\"cluster\":", record.cluster);
    text_member(to, ",\"shard\":", record.shard);
    text_member(to, ",\"node\":", record.node);
    to.extend_from_slice(b",\"attempts\":");
    number(to, record.attempts.into());
    plain(to, ",\"class\":\"", record.class.as_str());
    match record.reason {
        Some(reason) => plain(to, ",\"reason\":\"", reason.as_str()),
        None => to.extend_from_slice(b",\"reason\":null"),
    }
    to.push(b'}');
}

/// Writes a member whose value needs no escaping; `before` is all up to it.
fn plain(to: &mut Vec<u8>, before: &str, value: &str) {
    to.extend_from_slice(before.as_bytes());
    to.extend_from_slice(value.as_bytes());
    to.push(b'"');
}

/// Writes a member whose value may be any text; `name` is all up to it.
fn text_member(to: &mut Vec<u8>, name: &str, value: &str) {
    to.extend_from_slice(name.as_bytes());
    let is_plain = |it| it >= b' ' && it != b'"' && it != b'\\';
    // Without an early end, so that it is a few vector instructions.
    if value.bytes().fold(true, |all, it| all & is_plain(it)) {
        plain(to, "\"", value);
    } else {
        // Writing to a Vec cannot fail.
        let _infallible = serde_json::to_writer(to, value).is_ok();
    }
}

/// Writes a number digit by digit: formatting takes several times as long.
fn number(to: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let (mut left, mut at) = (value, digits.len());
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (left % 10).to_le_bytes()[0];
        left /= 10;
    }
    to.extend_from_slice(&digits[at..]);
}

/// Writes a duration in seconds, with all of its nine decimals.
fn seconds(to: &mut Vec<u8>, duration: Duration) {
    number(to, duration.as_secs());
    // A leading 1 keeps the zeros, and is then written over.
    let point = to.len();
    number(to, u64::from(duration.subsec_nanos()) + 1_000_000_000);
    to[point] = b'.';
}

/// What is there, or a dash.
struct OrDash<T>(Option<T>);

impl<T: Display> Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(it) => it.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// [`str::escape_default`], in one piece where nothing needs it: it writes char by char.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |it| matches!(it, b' '..=b'~') && !matches!(it, b'"' | b'\'' | b'\\');
        if self.0.bytes().all(is_plain) {
            f.write_str(self.0)
        } else {
            self.0.escape_default().fmt(f)
        }
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests;
