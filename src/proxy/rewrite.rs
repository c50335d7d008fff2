//! What changes in a message's head on its way: target, authority, and what is told of the routing.
//!
//! What goes on is the same in both protocols and is said here; the parts write it as bytes or
//! build it as a map.

use std::fmt;

use http::HeaderName;

use super::fields::EndToEnd;
use super::forward::{ATTEMPT, Call};
use super::reply::NodeReply;
use super::view::View;
use crate::cluster::desired::{Annotation, Authority};
use crate::cluster::{Cluster, Target};
use crate::forwarded::{Said, stays};
use crate::head::{FieldLine, Known};
use crate::net::clock;
use crate::topology::Address;

pub(super) mod http1;
pub(super) mod http2;

/// One attempt, as nodes and clients may be told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) view: &'a View,
    pub(super) cluster: &'a Cluster,
    pub(super) target: Target,
    /// The number of the attempt, from 1.
    pub(super) attempt: u32,
}

/// The value of an annotation.
enum Fact<'a> {
    Text(&'a str),
    Number(u64),
}

/// What the node sees as Host.
enum Host<'a> {
    Name(&'a [u8]),
    Node(&'a Address),
}

/// Gives `take` the lines of the request that the node sees, but for Host, which each protocol has a
/// place for.
fn each_request_line<'a>(call: &'a Call<'_>, told: Told<'a>, mut take: impl FnMut(FieldLine<'a>)) {
    let is_retry = told.attempt > 1;
    let told = &told.cluster.params.annotate.request;
    let mode = call.connection.forwarded_mode();
    let patience = call
        .patience
        .as_ref()
        .map(|it| it.field.as_str().as_bytes());
    let is = |line: &FieldLine<'_>, name: &[u8]| line.name().eq_ignore_ascii_case(name);
    EndToEnd::of(call.received.fields()).each(|line| {
        let goes_on = match line.known() {
            Known::Host => false,
            Known::Expect => call.passes_expect,
            Known::Traceparent | Known::Tracestate => call.outcome.passes(line.known()),
            Known::Other if replaces(told, line.name()) => false,
            Known::Other if patience.is_some_and(|it| is(&line, it)) => false,
            Known::Other if is_retry && is(&line, ATTEMPT.as_str().as_bytes()) => false,
            known => stays(mode, known, line.name()),
        };
        if goes_on {
            take(line);
        }
    });
}

/// What keyway says of the attempt to whoever tries it: what is left of the client's deadline, and
/// that it is a retry.
fn said_of_attempt<'a>(
    call: &'a Call<'_>,
    told: Told<'_>,
) -> impl Iterator<Item = (&'a HeaderName, Vec<u8>)> {
    let left = call.patience.as_ref().map(|patience| {
        let end = call.outcome.started() + patience.wait;
        let left = end.saturating_duration_since(clock::recent());
        (&patience.field, patience.left(left))
    });
    let retry = (told.attempt > 1).then(|| (&ATTEMPT, told.attempt.to_string().into_bytes()));
    left.into_iter().chain(retry)
}

/// What keyway says of where the request comes from.
fn forwarded<'a>(call: &'a Call<'_>) -> Said<'a> {
    let connection = call.connection;
    Said {
        fields: call.received.fields(),
        mode: connection.forwarded_mode(),
        peer: connection.peer(),
        scheme: connection.listener().scheme(),
        authority: call.received.authority_bytes(),
    }
}

/// Gives `take` the lines of the node's response that the client sees.
fn each_response_line<'a>(
    reply: &'a NodeReply,
    told: Told<'a>,
    mut take: impl FnMut(FieldLine<'a>),
) {
    let told = &told.cluster.params.annotate.response;
    // RFC 9110 8.6: no length where there can be no body.
    let lengthless = matches!(reply.head.status().as_u16(), 100..200 | 204);
    EndToEnd::of(reply.head.fields()).each(|line| {
        let goes_on = match line.known() {
            Known::ContentLength => !lengthless,
            Known::Other => !replaces(told, line.name()),
            _ => true,
        };
        if goes_on {
            take(line);
        }
    });
}

/// Whether one of these annotations takes the place of the field `name`.
fn replaces(annotations: &[Annotation], name: &[u8]) -> bool {
    let mut names = annotations.iter().map(|it| name_of(*it).as_bytes());
    names.any(|it| it.eq_ignore_ascii_case(name))
}

fn name_of(annotation: Annotation) -> &'static str {
    match annotation {
        Annotation::Shard => "x-keyway-shard",
        Annotation::Node => "x-keyway-node",
        Annotation::Attempts => "x-keyway-attempts",
        Annotation::Epoch => "x-keyway-epoch",
    }
}

impl<'a> Told<'a> {
    /// The facts asked for, as fields.
    fn facts(self, asked: &[Annotation]) -> impl Iterator<Item = (&'static str, Fact<'a>)> {
        asked.iter().filter_map(move |annotation| {
            let fact = match annotation {
                Annotation::Shard => Fact::Text(&self.cluster.shards[self.target.shard].name),
                Annotation::Node => Fact::Text(self.target.replica(self.cluster).node.id()),
                Annotation::Attempts => Fact::Number(self.attempt.into()),
                Annotation::Epoch => Fact::Number(self.view.state.desired.topology.epoch?),
            };
            Some((name_of(*annotation), fact))
        })
    }

    fn host(self, received: &'a [u8]) -> Host<'a> {
        match &self.cluster.params.authority {
            Authority::Preserve if !received.is_empty() => Host::Name(received),
            Authority::Name(name) => Host::Name(name.as_bytes()),
            Authority::Preserve | Authority::Node => {
                let node = &self.target.replica(self.cluster).node;
                Host::Node(node.endpoint().address())
            }
        }
    }
}

impl fmt::Display for Fact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(str::from_utf8(name).unwrap_or_default()),
            Self::Node(address @ Address::Tcp { .. }) => address.fmt(f),
            Self::Node(Address::Srv(name)) => f.write_str(name.domain()),
            Self::Node(Address::Unix(_)) => f.write_str("localhost"),
        }
    }
}
