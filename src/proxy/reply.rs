//! What is answered: a node's response, or keyway's own.

use std::rc::Rc;

use http::{StatusCode, Version, header, response};

use super::body::ResponseBody;
use super::rewrite::Told;
use super::view::View;
use crate::cluster::Target;
use crate::head::{Fields, Known, KnownSet};
use crate::net::ResponseBytes;

/// An answer to a client, before its protocol writes it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: ReplyHead,
    /// `None` once it was sent.
    pub(super) body: Option<ResponseBody>,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) enum ReplyHead {
    /// keyway's own.
    Local(response::Parts),
    /// A node's, as it came.
    Node(NodeReply),
}

/// A node's answer, and what may be told of how it was got.
#[derive(Debug)]
pub(super) struct NodeReply {
    pub(super) head: NodeHead,
    pub(super) view: Rc<View>,
    /// The place of the cluster in the state.
    pub(super) cluster: usize,
    pub(super) target: Target,
    pub(super) attempt: u32,
}

/// The head of a node's response as its protocol brought it.
#[derive(Debug)]
pub(super) enum NodeHead {
    Http1(ResponseBytes),
    Http2(response::Parts, KnownSet),
}

impl ReplyHead {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Local(head) => head.status,
            Self::Node(reply) => reply.head.status(),
        }
    }

    pub(super) fn has_date(&self) -> bool {
        match self {
            Self::Local(head) => head.headers.contains_key(header::DATE),
            Self::Node(reply) => reply.head.fields().has(Known::Date),
        }
    }
}

impl NodeReply {
    pub(super) fn told(&self) -> Told<'_> {
        Told {
            view: &self.view,
            cluster: &self.view.state.clusters[self.cluster],
            target: self.target,
            attempt: self.attempt,
        }
    }
}

impl NodeHead {
    pub(super) fn http2(head: response::Parts) -> Self {
        let known = KnownSet::of(&head.headers);
        Self::Http2(head, known)
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Http1(head) => head.line.status,
            Self::Http2(head, _) => head.status,
        }
    }

    /// The reason phrase; empty where there is none.
    pub(super) fn reason(&self) -> &[u8] {
        match self {
            Self::Http1(head) => head.line.reason.of_bytes(&head.bytes),
            Self::Http2(..) => b"",
        }
    }

    pub(super) fn version(&self) -> Version {
        match self {
            Self::Http1(head) if head.line.is_http_11 => Version::HTTP_11,
            Self::Http1(_) => Version::HTTP_10,
            Self::Http2(..) => Version::HTTP_2,
        }
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        match self {
            Self::Http1(head) => Fields::Lines(&head.bytes, &head.table),
            Self::Http2(head, known) => Fields::Map(&head.headers, *known),
        }
    }

    /// The first value of the field `name`, as text.
    pub(super) fn text(&self, name: &'static str) -> Option<&str> {
        let name = http::HeaderName::from_static(name);
        str::from_utf8(self.fields().first(&name)?).ok()
    }
}
