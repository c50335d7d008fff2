//! Heads as HTTP/2 sends them, built of what was received.

use std::mem;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version, response, uri};

use super::super::fields::{EndToEnd, Pseudonym};
use super::super::forward::Call;
use super::super::reply::{NodeHead, NodeReply, ReplyHead};
use super::{Host, Told, each_request_line, each_response_line, forwarded, said_of_attempt};
use crate::cluster::desired::Annotation;

/// The request, whose body has `length` bytes if that is known, its authority in `:authority` only
/// (RFC 9113 8.3.1); `None` when its target is one that HTTP/2 cannot carry.
pub(in crate::proxy) fn request(
    call: &Call<'_>,
    told: Told<'_>,
    length: Option<u64>,
) -> Option<Request<()>> {
    let received = &call.received;
    let mut fields = HeaderMap::new();
    let mut are_fields = true;
    each_request_line(call, told, |line| {
        are_fields &= line.append_to(&mut fields).is_ok();
    });
    if !are_fields {
        return None;
    }
    if EndToEnd::of(received.fields()).wants_trailers() {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let via = call.thread().pseudonym.entry(received.version());
    fields.append(header::VIA, via.clone());
    let mut said = Vec::new();
    forwarded(call).each(|name, value| {
        said.clear();
        value.append_to(&mut said);
        // What was taken for fields makes one.
        if let Ok(said) = HeaderValue::from_bytes(&said) {
            fields.insert(HeaderName::from_static(name), said);
        }
    });
    for (name, value) in said_of_attempt(call, told) {
        fields.insert(name, HeaderValue::try_from(value).ok()?);
    }
    annotate(&mut fields, told, &told.cluster.params.annotate.request);
    let length = length.filter(|it| *it > 0 || means_body(received.method()));
    if let Some(length) = length
        && !fields.contains_key(header::CONTENT_LENGTH)
    {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }

    let mut target = uri::Parts::default();
    target.scheme = Some(match told.cluster.params.tls {
        None => uri::Scheme::HTTP,
        Some(_) => uri::Scheme::HTTPS,
    });
    target.authority = Some(match told.host(received.authority_bytes()) {
        Host::Name(name) => received.authority_as(name)?,
        node @ Host::Node(_) => uri::Authority::try_from(node.to_string()).ok()?,
    });
    target.path_and_query = Some(received.path_and_query()?);
    let mut request = Request::new(());
    *request.method_mut() = received.method().clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(target).ok()?;
    *request.headers_mut() = fields;
    Some(request)
}

/// Whether a request by `method` without a body had better say so (RFC 9110 8.6).
fn means_body(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::DELETE, Method::CONNECT].contains(method)
}

/// The head of the answer to an HTTP/2 client.
pub(in crate::proxy) fn response(head: ReplyHead, pseudonym: &Pseudonym) -> response::Parts {
    match head {
        ReplyHead::Local(head) => head,
        ReplyHead::Node(reply) => node(reply, pseudonym),
    }
}

fn node(mut reply: NodeReply, pseudonym: &Pseudonym) -> response::Parts {
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = reply.head.status();
    head.headers = response_fields(&mut reply);
    let via = pseudonym.entry(reply.head.version());
    head.headers.append(header::VIA, via.clone());
    let told = reply.told();
    annotate(
        &mut head.headers,
        told,
        &told.cluster.params.annotate.response,
    );
    head
}

/// The fields of the node's response that the client sees: the very map that came, where all of them
/// go on, as by HTTP/2 they nearly always do.
fn response_fields(reply: &mut NodeReply) -> HeaderMap {
    let (mut lines, mut all) = (0, HeaderMap::new());
    each_response_line(reply, reply.told(), |_| lines += 1);
    if let NodeHead::Http2(head, _) = &mut reply.head
        && head.headers.len() == lines
    {
        return mem::take(&mut head.headers);
    }
    each_response_line(reply, reply.told(), |line| {
        // What either codec took for a field is one.
        let _taken = line.append_to(&mut all).is_ok();
    });
    all
}

fn annotate(fields: &mut HeaderMap, told: Told<'_>, asked: &[Annotation]) {
    for (name, fact) in told.facts(asked) {
        if let Ok(value) = HeaderValue::try_from(fact.to_string()) {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
}
