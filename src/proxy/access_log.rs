//! The access log: one line a request.
//!
//! A line is formatted straight into its thread's buffer; how it gets out from there is
//! [`telemetry`](crate::telemetry)'s.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::Version;

use super::journey::Tried;
use super::outcome::Record;
use crate::cluster::counters::{RETRY_REASONS, retry_index};
use crate::cluster::desired::{Field, LineFormat, Piece, Template};
use crate::forwarded::append_ip;
use crate::retry::Failure;
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
    pub(super) fn write(&mut self, format: &LineFormat, record: &Record<'_>) {
        let time = self.clock.now();
        self.lines.line(|line| match format {
            LineFormat::Json => json(line, time, record),
            LineFormat::Template(template) => text(line, template, time, record),
        });
    }

    /// Hands over what was added so far.
    pub(super) fn flush(&mut self) {
        self.lines.flush();
    }
}

/// A field's value.
enum Value<'a> {
    /// It is not known.
    None,
    /// Text that needs no escaping: what keyway, or its files' checks, made.
    Plain(&'a str),
    /// Any text.
    Text(&'a str),
    Number(u64),
    Seconds(Duration),
    Address(IpAddr),
    Nodes(&'a [Tried]),
}

fn value<'a>(field: Field, time: &'a str, record: &Record<'a>) -> Value<'a> {
    let line = record.line;
    match field {
        Field::Time => Value::Plain(time),
        Field::Client => line.client.map_or(Value::None, Value::Address),
        Field::Method => line
            .method
            .as_ref()
            .map_or(Value::None, |it| Value::Plain(it.as_str())),
        Field::Target => Value::Text(&line.target),
        Field::Path => {
            let end = line.target.find('?').unwrap_or(line.target.len());
            Value::Text(&line.target[..end])
        }
        Field::Version => line
            .version
            .map_or(Value::None, |it| Value::Plain(version(it))),
        Field::Host => Value::Text(&line.authority),
        Field::Status => record
            .status
            .map_or(Value::None, |it| Value::Number(it.into())),
        Field::Bytes => Value::Number(record.bytes),
        Field::Duration => Value::Seconds(record.duration),
        Field::Route => Value::Text(record.route),
        Field::Cluster => Value::Text(record.cluster),
        Field::Shard => Value::Text(record.shard),
        Field::Node => Value::Text(record.node),
        Field::Attempts => Value::Number(record.attempts.into()),
        Field::Class => Value::Plain(record.class.as_str()),
        Field::Reason => record
            .reason
            .map_or(Value::None, |it| Value::Plain(it.as_str())),
        Field::Nodes => Value::Nodes(line.journey.tries()),
        Field::BytesReceived => Value::Number(record.received),
        Field::FirstByte => record.first_byte.map_or(Value::None, Value::Seconds),
        Field::Overhead => record.overhead.map_or(Value::None, Value::Seconds),
    }
}

/// The pieces of a template, a dash for what is not known.
fn text(to: &mut Vec<u8>, template: &Template, time: &str, record: &Record<'_>) {
    for piece in template.pieces() {
        match piece {
            Piece::Text(text) => to.extend_from_slice(text.as_bytes()),
            Piece::Field(field) => text_value(to, &value(*field, time, record)),
        }
    }
}

fn text_value(to: &mut Vec<u8>, value: &Value<'_>) {
    match *value {
        Value::None | Value::Plain("") | Value::Text("") | Value::Nodes([]) => to.push(b'-'),
        Value::Plain(text) => to.extend_from_slice(text.as_bytes()),
        Value::Text(text) => escaped(to, text),
        Value::Number(number) => digits(to, number),
        Value::Seconds(duration) => seconds(to, duration, Decimals::Six),
        Value::Address(address) => append_ip(to, address),
        Value::Nodes(tries) => {
            for (at, tried) in tries.iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                escaped(to, tried.node());
                if let Some(failure) = tried.failure {
                    to.push(b':');
                    failed(to, failure);
                }
            }
        }
    }
}

/// One object, written member by member: a serialiser looks at each byte of names and values, which
/// takes four times as long.
fn json(to: &mut Vec<u8>, time: &str, record: &Record<'_>) {
    let mut before = b"{\"";
    // The path is in the target.
    for field in Field::ALL.iter().filter(|it| **it != Field::Path) {
        to.extend_from_slice(before);
        before = b",\"";
        to.extend_from_slice(field.name().as_bytes());
        to.extend_from_slice(b"\":");
        json_value(to, &value(*field, time, record));
    }
    to.push(b'}');
}

fn json_value(to: &mut Vec<u8>, value: &Value<'_>) {
    match *value {
        Value::None => to.extend_from_slice(b"null"),
        Value::Plain(text) => quoted(to, |to| to.extend_from_slice(text.as_bytes())),
        Value::Text(text) => json_text(to, text),
        Value::Number(number) => digits(to, number),
        Value::Seconds(duration) => seconds(to, duration, Decimals::Nine),
        Value::Address(address) => quoted(to, |to| append_ip(to, address)),
        Value::Nodes(tries) => {
            to.push(b'[');
            for (at, tried) in tries.iter().enumerate() {
                to.extend_from_slice(if at > 0 {
                    b",{\"node\":"
                } else {
                    b"{\"node\":"
                });
                json_text(to, tried.node());
                to.extend_from_slice(b",\"failed\":");
                match tried.failure {
                    Some(failure) => quoted(to, |to| failed(to, failure)),
                    None => to.extend_from_slice(b"null"),
                }
                to.push(b'}');
            }
            to.push(b']');
        }
    }
}

/// What failed: as the metric of retries has it, but for the very status.
fn failed(to: &mut Vec<u8>, failure: Failure) {
    match failure {
        Failure::Status(status) => digits(to, status.into()),
        Failure::Grpc(code) => to.extend_from_slice(code.name().as_bytes()),
        other => to.extend_from_slice(RETRY_REASONS[retry_index(other)].as_bytes()),
    }
}

fn quoted(to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    to.push(b'"');
    write(to);
    to.push(b'"');
}

/// Any text as JSON.
fn json_text(to: &mut Vec<u8>, text: &str) {
    let is_plain = |it| it >= b' ' && it != b'"' && it != b'\\';
    // Without an early end, so that it is a few vector instructions.
    if text.bytes().fold(true, |all, it| all & is_plain(it)) {
        quoted(to, |to| to.extend_from_slice(text.as_bytes()));
    } else {
        // Writing to a Vec cannot fail.
        let _infallible = serde_json::to_writer(to, text).is_ok();
    }
}

/// [`str::escape_default`], in one piece where nothing needs it: it writes char by char.
fn escaped(to: &mut Vec<u8>, text: &str) {
    let is_plain = |it| matches!(it, b' '..=b'~') && !matches!(it, b'"' | b'\'' | b'\\');
    if text.bytes().all(is_plain) {
        to.extend_from_slice(text.as_bytes());
    } else {
        // Writing to a Vec cannot fail.
        let _infallible = write!(to, "{}", text.escape_default()).is_ok();
    }
}

/// Writes a number digit by digit: formatting takes several times as long.
fn digits(to: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let (mut left, mut at) = (value, digits.len());
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (left % 10).to_le_bytes()[0];
        left /= 10;
    }
    to.extend_from_slice(&digits[at..]);
}

/// How exactly a duration is written.
#[derive(Clone, Copy)]
enum Decimals {
    Six,
    Nine,
}

/// Writes a duration in seconds.
fn seconds(to: &mut Vec<u8>, duration: Duration, decimals: Decimals) {
    let (duration, unit) = match decimals {
        Decimals::Six => (duration + Duration::from_nanos(500), 1_000_000),
        Decimals::Nine => (duration, 1_000_000_000),
    };
    digits(to, duration.as_secs());
    // A leading 1 keeps the zeros, and is then written over.
    let point = to.len();
    let fraction = u64::from(duration.subsec_nanos()) / (1_000_000_000 / unit);
    digits(to, fraction + unit);
    to[point] = b'.';
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests;
