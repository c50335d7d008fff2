//! From a request to the nodes that may serve it: route, key, shard.

use std::borrow::Cow;
use std::rc::Rc;

use http::{HeaderMap, Request, Response, Version, header, request};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::answer::Refusal;
use super::body::{Activity, Prefix, ResponseBody, Source};
use super::connection::Connection;
use super::fields::strip_hop_by_hop;
use super::forward::{Call, forward, refuse};
use super::outcome::{Line, Outcome};
use super::request::{is_grpc, read, target};
use super::thread::View;
use crate::cluster::{Cluster, Pick, RouteEntry};
use crate::drain::Phase;
use crate::head::{Fields, RequestHead};
use crate::key::{BODY_KEY_MAX, Body, KeyError, Lookup};
use crate::reason::Reason;
use crate::retry::RepeatableMethods;
use crate::routing::{Captures, MissingKey};

/// A request that found its route and its key.
struct Routed {
    route: usize,
    authority: String,
    source: Option<Source>,
    deadline: Instant,
    activity: Activity,
    pick: Pick,
}

/// Serves one request.
pub(super) async fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let started = Instant::now();
    let view = connection.thread.view();
    let (parts, incoming) = request.into_parts();
    let line = view.state.logs_access().then(|| line(&parts, &connection));
    let thread = Rc::clone(&connection.thread);
    let outcome = Outcome::begin(thread, Rc::clone(&view), &parts.method, started, line);
    let grpc = is_grpc(&parts);
    match route(&connection, &view, &parts, incoming, &outcome).await {
        Ok(Routed {
            route,
            authority,
            source,
            deadline,
            activity,
            pick,
        }) => {
            let entry = &view.state.routes[route];
            let cluster = &view.state.clusters[entry.cluster];
            cluster
                .counters
                .of(connection.thread.index)
                .requests
                .increment();
            let call = Call {
                cluster: entry.cluster,
                target: target(&parts),
                version: parts.version,
                authority,
                repeatable: repeatable(entry, &parts),
                method: parts.method,
                fields: forwarded_fields(&connection, entry, parts.version, parts.headers),
                connection,
                grpc,
                source,
                deadline,
                activity,
                outcome,
                view,
            };
            forward(call, pick).await
        }
        Err(refusal) => refuse(outcome, &refusal, grpc),
    }
}

/// Finds the request's route and key, or says why it goes nowhere.
async fn route(
    connection: &Connection,
    view: &View,
    parts: &request::Parts,
    incoming: Incoming,
    outcome: &Outcome,
) -> Result<Routed, Refusal> {
    if connection.thread.drain.phase() == Phase::Over {
        return Err(Reason::Draining.into());
    }
    let authority = read(parts, &connection.thread.pseudonym)?;
    let head = RequestHead {
        method: &parts.method,
        authority: &authority,
        path: parts.uri.path(),
        query: parts.uri.query(),
        fields: Fields::from(&parts.headers),
        client: connection.client,
        listener: &connection.listener,
    };
    let (route, captures) = view.state.table.find(&head).ok_or(Reason::NoRoute)?;
    outcome.takes(route);
    let entry = &view.state.routes[route];
    let cluster = &view.state.clusters[entry.cluster];
    // Of several requests on an HTTP/2 connection the last to begin sets it for all.
    connection
        .stream
        .set_write_timeout(entry.route.idle_timeout);
    let activity = Activity::new(outcome.started(), entry.route.idle_timeout);
    let source = Source::new(incoming, cluster.params.retry.replay_max, activity.clone());
    let deadline = outcome.started() + entry.route.timeout;
    let key = key(entry, &head, &captures, source.as_ref(), deadline).await?;
    let pick = match &key {
        Some(key) => Pick::new(cluster, Some(key), cluster.placement.token(key)),
        None => without_key(connection, entry, cluster, outcome)?,
    };
    Ok(Routed {
        route,
        authority,
        source,
        deadline,
        activity,
        pick,
    })
}

/// What the route does with a request that has no key.
fn without_key(
    connection: &Connection,
    entry: &RouteEntry,
    cluster: &Cluster,
    outcome: &Outcome,
) -> Result<Pick, Refusal> {
    outcome.counters().missing_keys.increment();
    let placed = |key: &[u8]| cluster.placement.token(key);
    match &entry.route.on_missing_key {
        MissingKey::Reject => Err(Reason::MissingKey.into()),
        MissingKey::Spread => {
            let anywhere = connection.thread.random().to_le_bytes();
            Ok(Pick::new(cluster, None, placed(&anywhere)))
        }
        MissingKey::Value(value) => {
            let key = value.as_bytes();
            Ok(Pick::new(cluster, Some(key), placed(key)))
        }
    }
}

/// The request's key; `None` when it is missing. Reads the body only when the key is nowhere else.
async fn key<'a>(
    entry: &RouteEntry,
    head: &RequestHead<'a>,
    captures: &Captures<'a>,
    source: Option<&Source>,
    deadline: Instant,
) -> Result<Option<Cow<'a, [u8]>>, Refusal> {
    let spec = &entry.route.key;
    match spec
        .lookup(head, captures, Body::Unread)
        .map_err(ambiguous)?
    {
        Lookup::Key(key) => return Ok(Some(key)),
        Lookup::Missing => return Ok(None),
        Lookup::NeedsBody => {}
    }
    let Prefix { bytes, complete } = match source {
        None => Prefix {
            bytes: Vec::new(),
            complete: true,
        },
        Some(source) => timeout_at(deadline, source.read_ahead(BODY_KEY_MAX))
            .await
            .map_err(|_elapsed| Reason::RequestTimeout)?
            .map_err(|fault| Refusal::because(Reason::BadRequest, fault.to_string()))?,
    };
    let body = Body::Read {
        bytes: &bytes,
        complete,
    };
    match spec.lookup(head, captures, body).map_err(ambiguous)? {
        Lookup::Key(key) => Ok(Some(Cow::Owned(key.into_owned()))),
        Lookup::Missing | Lookup::NeedsBody => Ok(None),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn ambiguous(error: KeyError) -> Refusal {
    Refusal::because(Reason::BadRequest, error.to_string())
}

/// What of the method's safety and the client's promises allows a repeat after bytes were sent.
fn repeatable(entry: &RouteEntry, parts: &request::Parts) -> RepeatableMethods {
    let promised =
        entry.route.honour_idempotency_key && parts.headers.contains_key("idempotency-key");
    let class = RepeatableMethods::class_of(&parts.method);
    if promised {
        class.max(RepeatableMethods::Idempotent)
    } else {
        class
    }
}

/// The fields that go to the node, but for what an attempt adds.
fn forwarded_fields(
    connection: &Connection,
    entry: &RouteEntry,
    version: Version,
    mut fields: HeaderMap,
) -> HeaderMap {
    strip_hop_by_hop(&mut fields);
    connection.thread.pseudonym.add_to(&mut fields, version);
    if entry.route.key.needs_body() {
        // keyway read the body, so the client has had its 100.
        fields.remove(header::EXPECT);
    }
    fields
}

fn line(parts: &request::Parts, connection: &Connection) -> Line {
    let host = || parts.headers.get(header::HOST)?.to_str().ok();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    Line {
        method: parts.method.clone(),
        target: target(parts).to_string(),
        version: parts.version,
        authority: authority.or_else(host).unwrap_or_default().to_owned(),
        client: connection.client,
    }
}
