//! What changes in a message's head on its way: target, authority, and what is told of the routing.

use http::{Request, Uri, Version, header, response, uri};

use super::body::RequestBody;
use super::fields::strip_hop_by_hop;
use super::forward::Call;
use crate::cluster::Target;
use crate::cluster::desired::{Annotation, Authority};
use crate::topology::Address;

/// The request as HTTP/1.1 sends it: the target in origin form, the authority in Host.
pub(super) fn http1_request(call: &Call, target: Target, number: u32) -> Request<RequestBody> {
    let mut request = request(call, target, number);
    *request.uri_mut() = Uri::from(call.target.clone());
    let authority = authority(call, target);
    if let Ok(host) = header::HeaderValue::from_str(&authority) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// The request as HTTP/2 sends it: the authority in `:authority` only (RFC 9113 8.3.1).
pub(super) fn http2_request(call: &Call, target: Target, number: u32) -> Request<RequestBody> {
    let mut request = request(call, target, number);
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(header::HOST);
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = uri::Authority::try_from(authority(call, target)).ok();
    parts.path_and_query = Some(call.target.clone());
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

fn request(call: &Call, target: Target, number: u32) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::of(call.source.as_ref()));
    *request.method_mut() = call.method.clone();
    // A copy for each attempt: hyper does not give a sent head back.
    *request.headers_mut() = call.fields.clone();
    let cluster = call.cluster();
    annotate(
        request.headers_mut(),
        call,
        target,
        number,
        &cluster.params.annotate.request,
    );
    request
}

/// What the node sees as Host.
fn authority(call: &Call, target: Target) -> String {
    let cluster = call.cluster();
    match &cluster.params.authority {
        Authority::Preserve if !call.authority.is_empty() => call.authority.clone(),
        Authority::Name(name) => name.clone(),
        Authority::Preserve | Authority::Node => {
            match target.replica(cluster).node.endpoint().address() {
                address @ Address::Tcp { .. } => address.to_string(),
                Address::Unix(_) => "localhost".to_owned(),
            }
        }
    }
}

/// Tells the facts asked for in `x-keyway-*` fields, in place of what was there.
fn annotate(
    headers: &mut header::HeaderMap,
    call: &Call,
    target: Target,
    attempts: u32,
    facts: &[Annotation],
) {
    let cluster = call.cluster();
    for fact in facts {
        let (name, value) = match fact {
            Annotation::Shard => ("x-keyway-shard", cluster.shards[target.shard].name.clone()),
            Annotation::Node => (
                "x-keyway-node",
                target.replica(cluster).node.id().to_owned(),
            ),
            Annotation::Attempts => ("x-keyway-attempts", attempts.to_string()),
            Annotation::Epoch => match call.view.state.desired.topology.epoch {
                Some(epoch) => ("x-keyway-epoch", epoch.to_string()),
                None => continue,
            },
        };
        if let Ok(value) = header::HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// Makes a node's response head ready for the client.
pub(super) fn finish_head(head: &mut response::Parts, call: &Call, target: Target, attempts: u32) {
    strip_hop_by_hop(&mut head.headers);
    call.thread()
        .pseudonym
        .add_to(&mut head.headers, head.version);
    let facts = &call.cluster().params.annotate.response;
    annotate(&mut head.headers, call, target, attempts, facts);
    // hyper writes the version of the client's connection.
    head.version = Version::HTTP_11;
}
