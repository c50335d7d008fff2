//! From a request to the nodes that may serve it: route, key, shard.

use std::borrow::Cow;
use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::answer::Refusal;
use super::body::{Activity, ClientBody, Prefix, Source};
use super::connection::Connection;
use super::forward::{Call, forward, refuse};
use super::outcome::{Line, Outcome};
use super::reply::Reply;
use super::request::Received;
use super::thread::View;
use crate::cluster::{Cluster, Pick, RouteEntry};
use crate::drain::Phase;
use crate::head::{Known, RequestHead};
use crate::key::{BODY_KEY_MAX, Body, KeyError, Lookup};
use crate::net::clock;
use crate::reason::Reason;
use crate::retry::RepeatableMethods;
use crate::routing::{Captures, MissingKey};

/// A request that found its route and its key.
struct Routed {
    route: usize,
    source: Option<Source>,
    deadline: Instant,
    activity: Activity,
    pick: Pick,
}

/// Serves one request.
pub(super) async fn serve(
    connection: &Rc<Connection>,
    mut received: Received,
    body: ClientBody,
) -> Reply {
    let started = clock::now();
    let thread = &connection.thread;
    let view = thread.view();
    let line = view
        .state
        .logs_access()
        .then(|| line(&received, connection));
    let method = Some(received.method());
    let outcome = Outcome::begin(Rc::clone(thread), Rc::clone(&view), method, started, line);
    let grpc = received.is_grpc();
    let accepted = received.accept(&thread.pseudonym);
    let routed = match accepted {
        Ok(()) => route(connection, &view, &received, body, &outcome).await,
        Err(refusal) => Err(refusal),
    };
    let Routed {
        route,
        source,
        deadline,
        activity,
        pick,
    } = match routed {
        Ok(routed) => routed,
        Err(refusal) => return refuse(outcome, &refusal, grpc),
    };
    let entry = &view.state.routes[route];
    let cluster = &view.state.clusters[entry.cluster];
    cluster.counters.of(thread.index).requests.increment();
    let call = Call {
        cluster: entry.cluster,
        repeatable: repeatable(entry, &received),
        // When keyway reads the body for its key, the client has had its 100.
        passes_expect: !entry.route.key.needs_body(),
        received,
        connection: Rc::clone(connection),
        grpc,
        source,
        deadline,
        activity,
        outcome,
        view: Rc::clone(&view),
    };
    forward(call, pick).await
}

/// Answers what is no request.
pub(super) fn serve_bad(connection: &Rc<Connection>, refusal: &Refusal) -> Reply {
    let thread = Rc::clone(&connection.thread);
    let outcome = Outcome::begin(Rc::clone(&thread), thread.view(), None, clock::now(), None);
    refuse(outcome, refusal, false)
}

/// Finds the request's route and key, or says why it goes nowhere.
async fn route(
    connection: &Connection,
    view: &View,
    received: &Received,
    body: ClientBody,
    outcome: &Outcome,
) -> Result<Routed, Refusal> {
    if connection.thread.drain.phase() == Phase::Over {
        return Err(Reason::Draining.into());
    }
    let head = received.view(connection.client(), &connection.listener);
    let (route, captures) = view.state.table.find(&head).ok_or(Reason::NoRoute)?;
    outcome.takes(route);
    let entry = &view.state.routes[route];
    let cluster = &view.state.clusters[entry.cluster];
    // Of several requests on an HTTP/2 connection the last to begin sets it for all.
    connection
        .stream
        .set_write_timeout(entry.route.idle_timeout);
    let activity = Activity::new(entry.route.idle_timeout, !body.is_at_end());
    let source = Source::new(body, cluster.params.retry.replay_max, activity.clone());
    let deadline = outcome.started() + entry.route.timeout;
    let key = key(
        connection,
        entry,
        &head,
        &captures,
        source.as_ref(),
        deadline,
    )
    .await?;
    let pick = match &key {
        Some(key) => Pick::new(cluster, Some(key), cluster.placement.token(key)),
        None => without_key(connection, entry, cluster, outcome)?,
    };
    Ok(Routed {
        route,
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
    connection: &Connection,
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
    connection.says_continue();
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
fn repeatable(entry: &RouteEntry, received: &Received) -> RepeatableMethods {
    let promised =
        entry.route.honour_idempotency_key && received.fields().has(Known::IdempotencyKey);
    let class = RepeatableMethods::class_of(received.method());
    if promised {
        class.max(RepeatableMethods::Idempotent)
    } else {
        class
    }
}

fn line(received: &Received, connection: &Connection) -> Line {
    let mut hosts = received.fields().known(Known::Host);
    let host = hosts.next().map(String::from_utf8_lossy);
    let authority = match received.authority() {
        "" => host.unwrap_or_default().into_owned(),
        authority => authority.to_owned(),
    };
    Line {
        method: received.method().clone(),
        target: received.target(),
        version: received.version(),
        authority,
        client: connection.client(),
    }
}
