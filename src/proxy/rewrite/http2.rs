//! Heads as HTTP/2 sends them, built of what was received.

use std::mem;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri, Version, uri};

use super::super::fields::{EndToEnd, Pseudonym};
use super::super::forward::Call;
use super::super::reply::{NodeHead, NodeReply, ReplyHead};
use super::{Host, Told, each_request_line, each_response_line, forwarded, said_of_attempt};
use crate::cluster::desired::Annotation;
use crate::head::Known;

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
    if let Some(parent) = call.outcome.traceparent(told.target) {
        let value = HeaderValue::from_bytes(&parent.text()).ok()?;
        fields.insert(Known::Traceparent.name(), value);
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

/// The head of the answer to an HTTP/2 client, for which the fields of `head` may be taken.
pub(in crate::proxy) fn response(head: &mut ReplyHead, pseudonym: &Pseudonym) -> Response<()> {
    match head {
        ReplyHead::Local(head) => {
            let mut response = Response::new(());
            *response.status_mut() = head.status;
            *response.headers_mut() = mem::take(&mut head.headers);
            response
        }
        ReplyHead::Node(reply) => {
            let fields = whole_map(reply).unwrap_or_else(|| fields(reply));
            node(reply, fields, pseudonym)
        }
    }
}

/// A node's 1xx response for an HTTP/2 client (RFC 9110 15.2).
pub(in crate::proxy) fn interim(reply: &NodeReply, pseudonym: &Pseudonym) -> Response<()> {
    node(reply, fields(reply), pseudonym)
}

fn node(reply: &NodeReply, fields: HeaderMap, pseudonym: &Pseudonym) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = reply.head.status();
    *response.headers_mut() = fields;
    let fields = response.headers_mut();
    let via = pseudonym.entry(reply.head.version());
    fields.append(header::VIA, via.clone());
    let told = reply.told();
    annotate(fields, told, &told.cluster.params.annotate.response);
    response
}

/// The very map that came, where all of its fields go on, as by HTTP/2 they nearly always do.
fn whole_map(reply: &mut NodeReply) -> Option<HeaderMap> {
    let NodeHead::Http2(head, _) = &reply.head else {
        return None;
    };
    let (mut lines, all) = (0, head.headers.len());
    each_response_line(reply, reply.told(), |_| lines += 1);
    match &mut reply.head {
        NodeHead::Http2(head, _) if lines == all => Some(mem::take(&mut head.headers)),
        _ => None,
    }
}

/// The fields of the node's response that the client sees.
fn fields(reply: &NodeReply) -> HeaderMap {
    let mut fields = HeaderMap::new();
    each_response_line(reply, reply.told(), |line| {
        // What either codec took for a field is one.
        let _taken = line.append_to(&mut fields).is_ok();
    });
    fields
}

fn annotate(fields: &mut HeaderMap, told: Told<'_>, asked: &[Annotation]) {
    for (name, fact) in told.facts(asked) {
        if let Ok(value) = HeaderValue::try_from(fact.to_string()) {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
}
