//! Heads as HTTP/1.1 sends them, written straight from what was received.

use std::fmt;
use std::io::Write as _;

use http::header::{COOKIE, HeaderValue};
use http::{Method, StatusCode, response};

use super::super::fields::{EndToEnd, Pseudonym, protocols};
use super::super::forward::Call;
use super::super::reply::{NodeReply, ReplyHead};
use super::{Host, Told, each_request_line, each_response_line, forwarded, said_of_attempt};
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
pub(in crate::proxy) fn request(out: &mut Vec<u8>, call: &Call<'_>, told: Told<'_>) -> Framing {
    let received = &call.received;
    let (fields, method) = (received.fields(), received.method());
    let (mark, query): (&[u8], _) = match received.query_bytes() {
        Some(query) => (b"?", query),
        None => (b"", &b""[..]),
    };
    let target = [received.path_bytes(), mark, query];
    request_line(out, method.as_str(), target);
    match told.host(received.authority_bytes()) {
        Host::Name(name) => field(out, b"host", name),
        node @ Host::Node(_) => line(out, "host", node),
    }
    each_request_line(call, told, |it| {
        // HTTP/2 may bring it in pieces, HTTP/1.1 has one line (RFC 9113 8.2.3).
        if !matches!(it, FieldLine::Typed(name, _) if *name == COOKIE) {
            field(out, it.name(), it.value());
        }
    });
    cookie(out, fields);
    if EndToEnd::of(fields).wants_trailers() {
        field(out, b"te", b"trailers");
    }
    if call.upgrades {
        upgrade(out, fields);
    }
    let via = call.thread().pseudonym.entry(received.version());
    field(out, b"via", via.as_bytes());
    forwarded(call).each(|name, value| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        value.append_to(out);
        out.extend_from_slice(b"\r\n");
    });
    for (name, value) in said_of_attempt(call, told) {
        field(out, name.as_str().as_bytes(), &value);
    }
    if let Some(parent) = call.outcome.traceparent(told.target) {
        field(out, b"traceparent", &parent.text());
    }
    for (name, fact) in told.facts(&told.cluster.params.annotate.request) {
        line(out, name, fact);
    }
    let framing = request_framing(out, call);
    out.extend_from_slice(b"\r\n");
    framing
}

/// Writes the pieces of a cookie that HTTP/2 may have brought as one.
fn cookie(out: &mut Vec<u8>, fields: Fields<'_>) {
    let Fields::Map(map, _) = fields else {
        return;
    };
    let crumbs = map.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<_> = crumbs.collect();
    if !crumbs.is_empty() {
        field(out, b"cookie", &crumbs.join(&b"; "[..]));
    }
}

/// How the request's body is framed, and the field that says so where none came with it.
fn request_framing(out: &mut Vec<u8>, call: &Call<'_>) -> Framing {
    let sized = call.received.fields().has(Known::ContentLength);
    match (&call.source, call.received.method()) {
        (Some(_), _) if !sized => {
            field(out, b"transfer-encoding", b"chunked");
            Framing::Chunked { trailers: true }
        }
        // What could have a body says that it has none (RFC 9110 8.6).
        (None, &(Method::POST | Method::PUT | Method::PATCH)) if !sized => {
            field(out, b"content-length", b"0");
            Framing::Plain
        }
        _ => Framing::Plain,
    }
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
    if let ReplyHead::Node(reply) = head
        && length == Length::Tunnel
    {
        upgrade(out, reply.head.fields());
        out.extend_from_slice(b"\r\n");
        return (Framing::Plain, Persistence::Close);
    }
    let mut persistence = client.persistence;
    let mut framing = Framing::Plain;
    if !sized && !is_bodiless(head.status(), client.method) {
        match length {
            Length::Empty => field(out, b"content-length", b"0"),
            Length::Exact(bytes) => line(out, "content-length", bytes),
            Length::Chunked | Length::UntilClose if client.is_http_11 => {
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

/// Offers, or takes, the protocols that `fields` offer or take.
fn upgrade(out: &mut Vec<u8>, fields: Fields<'_>) {
    field(out, b"connection", b"upgrade");
    let named: Vec<_> = protocols(fields).collect();
    field(out, b"upgrade", named.join(", ").as_bytes());
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
    let mut sized = false;
    each_response_line(reply, told, |it| {
        sized |= it.known() == Known::ContentLength;
        field(out, it.name(), it.value());
    });
    let via = client.pseudonym.entry(reply.head.version());
    field(out, b"via", via.as_bytes());
    for (name, fact) in told.facts(&told.cluster.params.annotate.response) {
        line(out, name, fact);
    }
    sized
}

/// Whether nothing follows, whatever the fields say (RFC 9112 6.3, 1): not so of 101, after which
/// another protocol does.
pub(in crate::proxy) fn is_bodiless(status: StatusCode, asked: &Method) -> bool {
    match status.as_u16() {
        101 => false,
        100..200 | 204 | 304 => true,
        _ => *asked == Method::HEAD,
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: impl fmt::Display) {
    // Writing to a Vec cannot fail.
    let _infallible = write!(out, "{name}: {value}\r\n");
}
