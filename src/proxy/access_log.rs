//! The access log: one line a request, on standard output.
//!
//! A line is formatted straight into its thread's buffer; how it gets out from there is
//! [`telemetry`](crate::telemetry)'s.

use std::fmt::{self, Display};
use std::io::Write as _;
use std::net::IpAddr;

use http::Version;
use serde::Serialize;

use super::outcome::Record;
use crate::cluster::desired::AccessLog;
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

fn json(to: &mut Vec<u8>, time: &str, record: &Record<'_>) {
    let line = record.line;
    let object = JsonLine {
        time,
        client: line.client,
        method: line.method.as_str(),
        target: &line.target,
        version: version(line.version),
        host: &line.authority,
        status: record.status,
        bytes: record.bytes,
        duration_seconds: record.duration.as_secs_f64(),
        route: record.route,
        cluster: record.cluster,
        shard: record.shard,
        node: record.node,
        attempts: record.attempts,
        class: record.class.as_str(),
        reason: record.reason.map(Reason::as_str),
    };
    // Writing to a Vec cannot fail.
    let _infallible = serde_json::to_writer(to, &object).is_ok();
}

/// The fields of a line, in their order.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    client: Option<IpAddr>,
    method: &'a str,
    target: &'a str,
    version: &'a str,
    host: &'a str,
    status: Option<u16>,
    bytes: u64,
    duration_seconds: f64,
    route: &'a str,
    cluster: &'a str,
    shard: &'a str,
    node: &'a str,
    attempts: u32,
    class: &'a str,
    reason: Option<&'a str>,
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
