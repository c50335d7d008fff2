//! The spans of a request that ended: one of its own and one of each attempt, named as OpenTelemetry's
//! semantic conventions for HTTP have them (1.x, stable).
//!
//! Deliberately not here: the query and the key, which may be secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, Version};
use tokio::time::Instant;

use super::journey::{Arrival, Tried};
use super::outcome::{Line, Record};
use super::trace::Recorded;
use crate::cluster::counters::{Class, RETRY_REASONS, retry_index};
use crate::otlp::span::SpanKind;
use crate::otlp::{KeyValue, Span, Status, number, status, text};
use crate::retry::Failure;
use crate::topology::Address;

/// The wall's time of instants, by reading both clocks once.
struct Wall {
    now: Instant,
    since_epoch: Duration,
}

/// The spans of the request that `record` is of, which began and ended at `times`.
pub(super) fn spans(
    record: &Record<'_>,
    recorded: &Recorded,
    times: (Instant, Instant),
) -> Vec<Span> {
    let wall = Wall::read(times.1);
    let tries = record.line.journey.tries();
    let mut spans = Vec::with_capacity(1 + tries.len());
    spans.push(server(record, recorded, times, &wall));
    let answering = tries
        .iter()
        .rposition(|it| Some(it.target()) == record.target);
    for (at, tried) in tries.iter().enumerate() {
        let answers = Some(at) == answering && record.reason.is_none();
        let before = at.checked_sub(1).map(|it| &tries[it]);
        spans.extend(client(record, recorded, tried, |span| {
            span.start_time_unix_nano = wall.nanos(tried.began);
            span.end_time_unix_nano = wall.nanos(ended(record, tried, answers, times.1));
            if let Some(before) = before {
                let resent = i64::try_from(at).unwrap_or(i64::MAX);
                span.attributes
                    .push(number("http.request.resend_count", resent));
                let why = retried_for(before, tried);
                span.attributes.push(text("keyway.retry.reason", why));
            }
        }));
    }
    spans
}

/// When an attempt ended: the one that answers with the request, one that was dropped for another when
/// that one's answer came.
fn ended(record: &Record<'_>, tried: &Tried, answers: bool, end: Instant) -> Instant {
    match tried.arrived {
        Some((_, Arrival::Head(..))) if answers => end,
        Some((at, _)) => at,
        None if answers || record.reason.is_some() => end,
        None => record.line.journey.last().unwrap_or(end).max(tried.began),
    }
}

/// Why there is another attempt after `before`.
fn retried_for(before: &Tried, tried: &Tried) -> String {
    match (before.failure, before.arrived) {
        (Some(failure), Some((at, _))) if at <= tried.began => said(failure),
        _ => "hedge".to_owned(),
    }
}

/// What failed, as the access log has it.
fn said(failure: Failure) -> String {
    match failure {
        Failure::Status(status) => status.to_string(),
        Failure::Grpc(code) => code.name().to_owned(),
        other => RETRY_REASONS[retry_index(other)].to_owned(),
    }
}

/// The request as keyway served it.
fn server(
    record: &Record<'_>,
    recorded: &Recorded,
    (started, ended): (Instant, Instant),
    wall: &Wall,
) -> Span {
    let line = record.line;
    let mut attributes = Vec::with_capacity(20);
    method(&mut attributes, line.method.as_ref());
    attributes.push(text("url.path", path(line)));
    attributes.push(text("url.scheme", line.scheme));
    let spoken = line.version.map(version);
    attributes.extend(spoken.map(|it| text("network.protocol.version", it)));
    authority(&mut attributes, &line.authority);
    if let Some(client) = line.client {
        attributes.push(text("client.address", client.to_string()));
    }
    let route = record.pattern.map(ToString::to_string);
    if let Some(route) = &route {
        attributes.push(text("http.route", route));
    }
    if let Some(status) = record.status {
        attributes.push(number("http.response.status_code", status));
    }
    for (key, value) in [
        ("keyway.route", record.route),
        ("keyway.cluster", record.cluster),
        ("keyway.shard", record.shard),
        ("keyway.node", record.node),
    ] {
        if !value.is_empty() {
            attributes.push(text(key, value));
        }
    }
    attributes.push(number("keyway.attempts", record.attempts));
    let broke = matches!(record.class, Class::Error | Class::Aborted);
    let failed = record.status.is_none_or(|it| it >= 500) || broke;
    let error = match (record.reason, record.status) {
        (Some(reason), _) => Some(reason.as_str().to_owned()),
        (None, _) if broke => Some(record.class.as_str().to_owned()),
        (None, Some(status)) if status >= 500 => Some(status.to_string()),
        (None, _) => None,
    };
    attributes.extend(error.map(|it| text("error.type", it)));
    Span {
        name: match route {
            Some(route) => format!("{} {route}", method_name(line.method.as_ref())),
            None => method_name(line.method.as_ref()).to_owned(),
        },
        kind: SpanKind::Server.into(),
        parent_span_id: recorded
            .parent
            .map_or_else(Vec::new, |it| it.bytes().into()),
        span_id: recorded.span.bytes().into(),
        start_time_unix_nano: wall.nanos(started),
        end_time_unix_nano: wall.nanos(ended),
        status: failed.then(error_status),
        attributes,
        ..of_trace(recorded)
    }
}

/// An attempt as keyway made it, which `more` completes.
fn client(
    record: &Record<'_>,
    recorded: &Recorded,
    tried: &Tried,
    more: impl FnOnce(&mut Span),
) -> Option<Span> {
    let line = record.line;
    let (cluster, shard, node) = tried.place();
    let mut attributes = Vec::with_capacity(16);
    method(&mut attributes, line.method.as_ref());
    let scheme = if tried.is_https() { "https" } else { "http" };
    let (host, port) = match node.endpoint().address() {
        Address::Tcp { host, port } => (host.clone(), Some(*port)),
        Address::Unix(path) => (path.display().to_string(), None),
        Address::Srv(name) => (name.domain().to_owned(), None),
    };
    let address = match node.endpoint().address() {
        address @ Address::Tcp { .. } => address.to_string(),
        Address::Srv(name) => name.domain().to_owned(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let url = format!("{scheme}://{address}{}", path(line));
    attributes.push(text("url.full", url));
    attributes.push(text("server.address", host));
    attributes.extend(port.map(|it| number("server.port", it)));
    for (key, value) in [
        ("keyway.cluster", cluster),
        ("keyway.shard", shard),
        ("keyway.node", node.id()),
    ] {
        attributes.push(text(key, value));
    }
    let error = match tried.arrived {
        Some((_, Arrival::Head(status, spoken))) => {
            let status = status.as_u16();
            attributes.push(number("http.response.status_code", status));
            attributes.push(text("network.protocol.version", version(spoken)));
            (status >= 400).then(|| status.to_string())
        }
        Some((_, Arrival::Failure(reason))) => Some(reason.as_str().to_owned()),
        None => {
            // It was given up for another's answer, or with the request.
            attributes.push(text("keyway.attempt.outcome", "dropped"));
            None
        }
    };
    let status = error.is_some().then(error_status);
    attributes.extend(error.map(|it| text("error.type", it)));
    let mut span = Span {
        name: method_name(line.method.as_ref()).to_owned(),
        kind: SpanKind::Client.into(),
        parent_span_id: recorded.span.bytes().into(),
        span_id: tried.span?.bytes().into(),
        status,
        attributes,
        ..of_trace(recorded)
    };
    more(&mut span);
    Some(span)
}

fn of_trace(recorded: &Recorded) -> Span {
    Span {
        trace_id: recorded.trace.bytes().into(),
        flags: recorded.flags.bits().into(),
        ..Span::default()
    }
}

fn error_status() -> Status {
    Status {
        code: status::StatusCode::Error.into(),
        message: String::new(),
    }
}

/// The methods that the conventions know: RFC 9110's and PATCH. Any other is `_OTHER`, so that clients
/// cannot make names.
fn is_known(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ]
    .contains(method)
}

/// A method in a span's name.
fn method_name(method: Option<&Method>) -> &str {
    let known = method.filter(|it| is_known(it));
    known.map_or("HTTP", Method::as_str)
}

fn method(to: &mut Vec<KeyValue>, method: Option<&Method>) {
    match method {
        Some(method) if is_known(method) => to.push(text("http.request.method", method.as_str())),
        other => {
            to.push(text("http.request.method", "_OTHER"));
            let original = other.map(|it| text("http.request.method_original", it.as_str()));
            to.extend(original);
        }
    }
}

/// The server as the client named it.
fn authority(to: &mut Vec<KeyValue>, authority: &str) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()),
        _ => (authority, None),
    };
    if !host.is_empty() {
        to.push(text("server.address", host.trim_matches(['[', ']'])));
        to.extend(port.map(|it| number("server.port", it)));
    }
}

fn path(line: &Line) -> &str {
    let end = line.target.find('?').unwrap_or(line.target.len());
    &line.target[..end]
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

impl Wall {
    #[expect(clippy::disallowed_methods, reason = "spans carry wall-clock times")]
    fn read(now: Instant) -> Self {
        // What passed since `now` was read.
        let late = Instant::now().saturating_duration_since(now);
        // A clock before 1970 is not set.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let since_epoch = since_epoch.unwrap_or_default().saturating_sub(late);
        Self { now, since_epoch }
    }

    /// Nanoseconds since the Unix epoch at `instant`, which is not after that of the reading.
    fn nanos(&self, instant: Instant) -> u64 {
        let before = self.now.saturating_duration_since(instant);
        let nanos = self.since_epoch.saturating_sub(before).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}
