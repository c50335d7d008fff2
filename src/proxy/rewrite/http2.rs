//! Heads as HTTP/2 sends them, built of what was received.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri, Version, response, uri};

use super::super::body::RequestBody;
use super::super::fields::{EndToEnd, Pseudonym};
use super::super::forward::Call;
use super::super::reply::{NodeReply, ReplyHead};
use super::{Told, request_lines, response_lines};
use crate::cluster::desired::Annotation;

/// The request, its authority in `:authority` only (RFC 9113 8.3.1); `None` when its target is one
/// that HTTP/2 cannot carry.
pub(in crate::proxy) fn request(call: &Call, told: Told<'_>) -> Option<Request<RequestBody>> {
    let received = &call.received;
    let mut fields = HeaderMap::new();
    for line in request_lines(call, told) {
        line.append_to(&mut fields).ok()?;
    }
    if EndToEnd::of(received.fields()).wants_trailers() {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let via = call.thread().pseudonym.entry(received.version());
    fields.append(header::VIA, via.clone());
    annotate(&mut fields, told, &told.cluster.params.annotate.request);

    let mut target = uri::Parts::default();
    target.scheme = Some(uri::Scheme::HTTP);
    let authority = told.host(received.authority()).to_string();
    target.authority = Some(uri::Authority::try_from(authority).ok()?);
    target.path_and_query = Some(received.path_and_query()?);
    let mut request = Request::new(RequestBody::of(call.source.as_ref()));
    *request.method_mut() = received.method().clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(target).ok()?;
    *request.headers_mut() = fields;
    Some(request)
}

/// The head of the answer to an HTTP/2 client.
pub(in crate::proxy) fn response(head: ReplyHead, pseudonym: &Pseudonym) -> response::Parts {
    match head {
        ReplyHead::Local(head) => head,
        ReplyHead::Node(reply) => node(&reply, pseudonym),
    }
}

fn node(reply: &NodeReply, pseudonym: &Pseudonym) -> response::Parts {
    let told = reply.told();
    let (mut head, ()) = http::Response::new(()).into_parts();
    head.status = reply.head.status();
    for line in response_lines(reply.head.fields(), told) {
        // What either codec took for a field is one.
        let _taken = line.append_to(&mut head.headers).is_ok();
    }
    let via = pseudonym.entry(reply.head.version());
    head.headers.append(header::VIA, via.clone());
    annotate(
        &mut head.headers,
        told,
        &told.cluster.params.annotate.response,
    );
    head
}

fn annotate(fields: &mut HeaderMap, told: Told<'_>, asked: &[Annotation]) {
    for (name, fact) in told.facts(asked) {
        if let Ok(value) = HeaderValue::try_from(fact.to_string()) {
            fields.insert(HeaderName::from_static(name), value);
        }
    }
}
