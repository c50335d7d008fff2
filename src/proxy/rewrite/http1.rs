//! Heads as HTTP/1.1 sends them, written straight from what was received.

use std::fmt;
use std::io::Write as _;

use http::header::{COOKIE, HeaderValue};
use http::{Method, StatusCode, response};

use super::super::fields::{EndToEnd, Pseudonym};
use super::super::forward::Call;
use super::super::reply::{NodeReply, ReplyHead};
use super::{Host, Told, request_lines, response_lines};
use crate::head::{FieldLine, Fields, Known};
use crate::http1::{Length, Persistence, end_head, field, request_line, status_line};

/// How a body is framed on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Framing {
    /// As it is: there is none, Content-Length tells, or the end of the connection.
    Plain,
    /// In chunks; trailers follow them if the receiver takes any.
    Chunked { trailers: bool },
}

/// What the client of a response is, and what is said to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Client<'a> {
    pub(in crate::proxy) method: &'a Method,
    pub(in crate::proxy) is_http_11: bool,
    /// Whether it said `TE: trailers` (RFC 9110 6.5.1).
    pub(in crate::proxy) takes_trailers: bool,
    /// What becomes of the connection, if the response lets it choose.
    pub(in crate::proxy) persistence: Persistence,
    pub(in crate::proxy) pseudonym: &'a Pseudonym,
    /// The time now, as Date has it.
    pub(in crate::proxy) date: &'a str,
}

/// Writes the request's head: the target in origin form, the authority in Host.
pub(in crate::proxy) fn request(out: &mut Vec<u8>, call: &Call, told: Told<'_>) -> Framing {
    let received = &call.received;
    let (fields, method) = (received.fields(), received.method());
    let (mark, query) = match received.query() {
        Some(query) => ("?", query),
        None => ("", ""),
    };
    let target = [received.path(), mark, query].map(str::as_bytes);
    request_line(out, method.as_str(), target);
    match told.host(received.authority()) {
        Host::Name(name) => field(out, b"host", name.as_bytes()),
        node @ Host::Node(_) => line(out, "host", node),
    }
    for it in request_lines(call, told) {
        // HTTP/2 may bring it in pieces, HTTP/1.1 has one line (RFC 9113 8.2.3).
        if matches!(it, FieldLine::Typed(name, _) if *name == COOKIE) {
            continue;
        }
        field(out, it.name(), it.value());
    }
    if let Fields::Map(map) = fields
        && map.contains_key(COOKIE)
    {
        let crumbs: Vec<_> = map
            .get_all(COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        field(out, b"cookie", &crumbs.join(&b"; "[..]));
    }
    if EndToEnd::of(fields).wants_trailers() {
        field(out, b"te", b"trailers");
    }
    let via = call.thread().pseudonym.entry(received.version());
    field(out, b"via", via.as_bytes());
    for (name, fact) in told.facts(&told.cluster.params.annotate.request) {
        line(out, name, fact);
    }
    let framing = match (&call.source, fields.has(Known::ContentLength)) {
        (Some(_), false) => {
            field(out, b"transfer-encoding", b"chunked");
            Framing::Chunked { trailers: true }
        }
        // What could have a body says that it has none (RFC 9110 8.6).
        (None, false) if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
            field(out, b"content-length", b"0");
            Framing::Plain
        }
        _ => Framing::Plain,
    };
    out.extend_from_slice(b"\r\n");
    framing
}

/// Writes the head of the answer to `client`, which a body of `length` follows: how that is framed,
/// and what becomes of the connection after it.
pub(in crate::proxy) fn response(
    out: &mut Vec<u8>,
    head: &ReplyHead,
    length: Length,
    client: Client<'_>,
) -> (Framing, Persistence) {
    let sized = match head {
        ReplyHead::Local(head) => local(out, head),
        ReplyHead::Node(reply) => node(out, reply, client),
    };
    let mut persistence = client.persistence;
    let mut framing = Framing::Plain;
    if !sized && !is_bodiless(head.status(), client.method) {
        match length {
            Length::Empty => field(out, b"content-length", b"0"),
            Length::Exact(bytes) => line(out, "content-length", bytes),
            Length::Chunked | Length::UntilClose | Length::Tunnel if client.is_http_11 => {
                field(out, b"transfer-encoding", b"chunked");
                let trailers = client.takes_trailers;
                framing = Framing::Chunked { trailers };
            }
            // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
            Length::Chunked | Length::UntilClose | Length::Tunnel => {
                persistence = Persistence::Close;
            }
        }
    }
    if !head.has_date() {
        field(out, b"date", client.date.as_bytes());
    }
    end_head(out, client.is_http_11, persistence);
    (framing, persistence)
}

/// Writes a node's 1xx response for an HTTP/1.1 client (RFC 9110 15.2).
pub(in crate::proxy) fn interim(out: &mut Vec<u8>, reply: &NodeReply, client: Client<'_>) {
    node(out, reply, client);
    out.extend_from_slice(b"\r\n");
}

/// keyway's own answer; whether Content-Length was among its fields.
fn local(out: &mut Vec<u8>, head: &response::Parts) -> bool {
    status_line(out, head.status, b"");
    for (name, value) in &head.headers {
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    head.headers.contains_key(http::header::CONTENT_LENGTH)
}

/// A node's answer; whether Content-Length was written.
fn node(out: &mut Vec<u8>, reply: &NodeReply, client: Client<'_>) -> bool {
    let told = reply.told();
    status_line(out, reply.head.status(), reply.head.reason());
    // RFC 9110 8.6: no length where there can be no body.
    let lengthless = matches!(reply.head.status().as_u16(), 100..200 | 204);
    let mut sized = false;
    for it in response_lines(reply.head.fields(), told) {
        if it.known() == Known::ContentLength {
            if lengthless {
                continue;
            }
            sized = true;
        }
        field(out, it.name(), it.value());
    }
    let via = client.pseudonym.entry(reply.head.version());
    field(out, b"via", via.as_bytes());
    for (name, fact) in told.facts(&told.cluster.params.annotate.response) {
        line(out, name, fact);
    }
    sized
}

/// Whether no body follows, whatever the fields say (RFC 9112 6.3, 1).
pub(in crate::proxy) fn is_bodiless(status: StatusCode, asked: &Method) -> bool {
    *asked == Method::HEAD || matches!(status.as_u16(), 100..200 | 204 | 304)
}

fn line(out: &mut Vec<u8>, name: &str, value: impl fmt::Display) {
    // Writing to a Vec cannot fail.
    let _infallible = write!(out, "{name}: {value}\r\n");
}
