//! What changes in a message's head on its way: target, authority, and what is told of the routing.
//!
//! What goes on is the same in both protocols and is said here; the parts write it as bytes or
//! build it as a map.

use std::fmt;

use super::fields::EndToEnd;
use super::forward::Call;
use super::thread::View;
use crate::cluster::desired::{Annotation, Authority};
use crate::cluster::{Cluster, Target};
use crate::head::{FieldLine, Fields, Known};
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
    Name(&'a str),
    Node(&'a Address),
}

/// The lines of the request that the node sees, but for Host, which each protocol has a place for.
fn request_lines<'a>(call: &'a Call, told: Told<'a>) -> impl Iterator<Item = FieldLine<'a>> {
    let told = &told.cluster.params.annotate.request;
    let lines = EndToEnd::of(call.received.fields()).lines();
    lines.filter(move |line| match line.known() {
        Known::Host => false,
        Known::Expect => call.passes_expect,
        Known::Other => !replaces(told, line.name()),
        _ => true,
    })
}

/// The lines of the node's response that the client sees.
fn response_lines<'a>(fields: Fields<'a>, told: Told<'a>) -> impl Iterator<Item = FieldLine<'a>> {
    let told = &told.cluster.params.annotate.response;
    let lines = EndToEnd::of(fields).lines();
    lines.filter(move |line| line.known() != Known::Other || !replaces(told, line.name()))
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

    fn host(self, received: &'a str) -> Host<'a> {
        match &self.cluster.params.authority {
            Authority::Preserve if !received.is_empty() => Host::Name(received),
            Authority::Name(name) => Host::Name(name),
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
            Self::Name(name) => f.write_str(name),
            Self::Node(address @ Address::Tcp { .. }) => address.fmt(f),
            Self::Node(Address::Unix(_)) => f.write_str("localhost"),
        }
    }
}
