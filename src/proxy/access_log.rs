//! The access log: one line a request, on standard output.

use std::fmt::Write as _;
use std::io::Write as _;

use http::Version;
use serde_json::json;

use super::outcome::Record;
use crate::cluster::desired::AccessLog;
use crate::reason::Reason;
use crate::telemetry::timestamp;

/// Writes the line of `record` as `format` asks.
pub(super) fn write(format: AccessLog, record: &Record<'_>) {
    let line = match format {
        AccessLog::Off => return,
        AccessLog::Text => text(record),
        AccessLog::Json => json(record),
    };
    // A reader that went away must not end the proxy.
    let _gone = std::io::stdout().lock().write_all(line.as_bytes()).is_err();
}

/// `time client "GET /path HTTP/1.1" status bytes duration key=value ...`
fn text(record: &Record<'_>) -> String {
    let line = record.line;
    let mut text = String::with_capacity(256);
    let client = line
        .client
        .map_or_else(|| "-".to_owned(), |it| it.to_string());
    let status = record
        .status
        .map_or_else(|| "-".to_owned(), |it| it.to_string());
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        text,
        "{} {client} \"{} {} {}\" {status} {} {:.6} host={} route={} cluster={} shard={} node={} \
         attempts={} class={} reason={}",
        timestamp(),
        line.method,
        line.target.escape_default(),
        version(line.version),
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
    text
}

fn json(record: &Record<'_>) -> String {
    let line = record.line;
    let object = json!({
        "time": timestamp(),
        "client": line.client,
        "method": line.method.as_str(),
        "target": line.target,
        "version": version(line.version),
        "host": line.authority,
        "status": record.status,
        "bytes": record.bytes,
        "duration_seconds": record.duration.as_secs_f64(),
        "route": record.route,
        "cluster": record.cluster,
        "shard": record.shard,
        "node": record.node,
        "attempts": record.attempts,
        "class": record.class.as_str(),
        "reason": record.reason.map(Reason::as_str),
    });
    object.to_string() + "\n"
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
