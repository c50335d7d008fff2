//! From a request to the nodes that may serve it: route, key, shard.

use std::borrow::Cow;
use std::pin::pin;
use std::rc::Rc;

use tokio::time::{Instant, timeout_at};

use super::answer::Refusal;
use super::body::{Activity, Allowance, ClientBody, Exchange, Prefix, ResponseBody, Source};
use super::connection::{Asker, Connection};
use super::deadline::Patience;
use super::forward::{Call, Choice, Forwarded, forward};
use super::hold::{Placed, hold};
use super::outcome::{Line, Outcome};
use super::reply::{NodeReply, Reply, ReplyHead};
use super::request::Received;
use super::thread::Context;
use super::trace::Trace;
use super::view::View;
use crate::cluster::desired::{AccessLog, PathForm};
use crate::cluster::{Cluster, Pick, RouteEntry};
use crate::drain::Phase;
use crate::head::{Known, RequestHead, normal};
use crate::key::{BODY_KEY_MAX, Body, KeyError, Lookup};
use crate::limits::Limit;
use crate::net::clock;
use crate::reason::Reason;
use crate::retry::RepeatableMethods;
use crate::routing::{Captures, MissingKey, Route};
use crate::trace_context::{TraceId, TraceParent};
use crate::upstream::Protocol;

/// A request that found its route and its key.
struct Routed {
    route: usize,
    source: Option<Source>,
    upgrades: bool,
    deadline: Instant,
    patience: Option<Patience>,
    activity: Activity,
    pick: Pick,
    /// What it is placed by, where it may be held.
    placing: Option<Placed<'static>>,
}

/// Serves one request that came by `connection`, from `asker`.
pub(super) async fn serve(
    connection: &Rc<Connection>,
    asker: Asker<'_>,
    received: &mut Received,
    body: ClientBody,
) -> Reply {
    let started = clock::now();
    let thread = &connection.thread;
    let view = thread.view();
    let desired = &view.state.desired;
    let trace = Trace::of(&desired.traces, received.fields(), || thread.random());
    let id = || match trace.id() {
        None => TraceParent::of(received.fields()).map(|it| it.trace),
        id => id,
    };
    let logged = is_logged(&desired.access_log, thread, id);
    let line = (logged || trace.is_recorded()).then(|| {
        let mut line = Line::spare();
        fill(&mut line, received, connection);
        line.logged = logged;
        line
    });
    let method = Some(received.method());
    let (thread, view_of_outcome) = (Rc::clone(thread), Rc::clone(&view));
    let outcome = Outcome::begin(thread, view_of_outcome, method, started, line, trace);
    let grpc = received.is_grpc();
    match answer((connection, asker), &view, received, body, &outcome).await {
        Ok((head, exchange)) => {
            outcome.responded(head.head.status());
            Reply {
                head: ReplyHead::Node(head),
                body: Some(ResponseBody::node(exchange, outcome)),
            }
        }
        Err(refusal) => refuse(outcome, &refusal, grpc),
    }
}

/// The answer of a node.
///
/// # Errors
/// What keyway answers itself.
async fn answer(
    (connection, asker): (&Rc<Connection>, Asker<'_>),
    view: &Rc<View>,
    received: &mut Received,
    body: ClientBody,
    outcome: &Outcome,
) -> Result<(NodeReply, Exchange), Refusal> {
    let thread = &connection.thread;
    if let Some(limit) = received.exceeds(&thread.limits().head) {
        return Err(excess(thread, limit));
    }
    received.accept(&thread.pseudonym)?;
    if view.state.normalizes {
        settle_path(connection, view, received, outcome)?;
    }
    let received = &*received;
    let routed = route((connection, asker), view, received, body, outcome).await?;
    let entry = &view.state.routes[routed.route];
    let cluster = &view.state.clusters[entry.cluster];
    let is_websocket = received.tunnel().is_some();
    if is_websocket && cluster.params.protocol == Protocol::H2 {
        let detail = "a WebSocket goes to nodes by HTTP/1.1 only";
        return Err(Refusal::because(Reason::UnsupportedCoding, detail));
    }
    cluster.counters.of(thread.index).requests.increment();
    let call = Call {
        connection,
        asker,
        view,
        cluster: entry.cluster,
        received,
        // When keyway reads the body for its key, the client has had its 100.
        passes_expect: !entry.route.key.needs_body(),
        upgrades: routed.upgrades,
        grpc: received.is_grpc(),
        repeatable: repeatable(entry, received),
        source: routed.source,
        deadline: routed.deadline,
        patience: routed.patience,
        activity: routed.activity,
        choice: Choice::Any,
        outcome,
    };
    let pick = call.prepared(routed.pick);
    let Forwarded { reply, exchange } = match (cluster.params.hold, &routed.placing) {
        // Boxed: few clusters hold requests.
        (Some(params), Some(placing)) => Box::pin(hold(&call, pick, placing, params)).await?,
        _ => pin!(forward(&call, pick)).await?,
    };
    // To the client any 2xx would be the tunnel (RFC 8441 section 5).
    if is_websocket && reply.head.status().is_success() {
        exchange.discard();
        let detail = "the node did not switch to WebSocket";
        return Err(Refusal::because(Reason::UpstreamProtocol, detail));
    }
    Ok((reply, exchange))
}

/// Gives the request the normal form of its path, where its cluster's nodes are to see that.
///
/// The route says which cluster, and the normal form may take another route: then that one counts,
/// for it is what the node sees. If that one's cluster takes paths as they are, two readings of the
/// path lead to two places, and the request is refused.
fn settle_path(
    connection: &Connection,
    view: &View,
    received: &mut Received,
    outcome: &Outcome,
) -> Result<(), Refusal> {
    let normalizes = |received: &Received| {
        let client = connection.client(received.fields());
        let head = received.view(client, &connection.listener().name);
        let route = view.state.table.find(&head).map(|it| it.0)?;
        let cluster = &view.state.clusters[view.state.routes[route].cluster];
        Some(cluster.params.path == PathForm::Normalize)
    };
    // What takes no route is refused where routes are found.
    if normalizes(received) != Some(true) {
        return Ok(());
    }
    let bad = |detail: &str| Refusal::because(Reason::BadRequest, detail);
    let form = match normal(received.path()).map_err(|it| bad(&it.to_string()))? {
        Cow::Borrowed(_) => return Ok(()),
        Cow::Owned(form) => form,
    };
    received
        .set_path(&form)
        .ok_or_else(|| bad("the path's normal form is no path"))?;
    outcome.goes_on_as(received);
    match normalizes(received) {
        Some(false) => Err(bad("the path and its normal form lead to two clusters")),
        Some(true) | None => Ok(()),
    }
}

/// What is said to a head that exceeds `limit`.
fn excess(thread: &Context, limit: Limit) -> Refusal {
    thread.reached(limit);
    Refusal::from(match limit {
        Limit::TargetBytes => Reason::TargetTooLong,
        _ => Reason::HeadersTooLarge,
    })
}

/// Answers what is no request.
pub(super) fn serve_bad(connection: &Connection, refusal: &Refusal) -> Reply {
    let thread = &connection.thread;
    let view = thread.view();
    let line = is_logged(&view.state.desired.access_log, thread, || None).then(|| {
        let mut line = Line::spare();
        line.logged = true;
        (line.method, line.version) = (None, None);
        line.target.clear();
        line.authority.clear();
        line.client = connection.peer();
        line
    });
    let (thread, started) = (Rc::clone(thread), clock::now());
    let outcome = Outcome::begin(thread, view, None, started, line, Trace::Off);
    refuse(outcome, refusal, false)
}

/// keyway's own answer, counted and logged as such.
fn refuse(outcome: Outcome, refusal: &Refusal, grpc: bool) -> Reply {
    if refusal.reason == Reason::BodyTooLarge {
        outcome.thread().reached(Limit::BodyBytes);
    }
    outcome.refused(refusal.reason);
    let (head, body) = refusal.response(grpc).into_parts();
    outcome.responded(head.status);
    Reply {
        head: ReplyHead::Local(head),
        body: Some(ResponseBody::local(body, outcome)),
    }
}

/// Finds the request's route and key, or says why it goes nowhere.
async fn route(
    (connection, asker): (&Connection, Asker<'_>),
    view: &View,
    received: &Received,
    body: ClientBody,
    outcome: &Outcome,
) -> Result<Routed, Refusal> {
    if connection.thread.drain.phase() == Phase::Over {
        return Err(Reason::Draining.into());
    }
    if connection.thread.is_full() {
        connection.thread.reached(Limit::BufferedBytes);
        let detail = "as much is held of other requests as may be";
        return Err(Refusal::because(Reason::Overloaded, detail));
    }
    let client = connection.client(received.fields());
    let head = received.view(client, &connection.listener().name);
    let (route, captures) = view.state.table.find(&head).ok_or(Reason::NoRoute)?;
    outcome.takes(route);
    let entry = &view.state.routes[route];
    if let Some(name) = hidden(received, &entry.route) {
        let detail = format!("Connection names {name:?}, by which the route goes");
        return Err(Refusal::because(Reason::BadRequest, detail));
    }
    let cluster = &view.state.clusters[entry.cluster];
    // Of several requests on an HTTP/2 connection the last to begin sets it for all.
    connection
        .stream
        .set_write_timeout(entry.route.idle_timeout);
    let upgrades = connection.listener().upgrades && received.offers_upgrade();
    let both_ways = upgrades || !body.is_at_end();
    let activity = Activity::new(entry.route.idle_timeout, both_ways);
    outcome.follows(&activity);
    let limits = connection.thread.limits();
    let allowed = Allowance {
        bytes: limits.body_bytes,
        wait: Some(limits.body_wait),
        replay: cluster.params.retry.replay_max,
    };
    if allowed
        .bytes
        .is_some_and(|max| body.size_hint().lower() > max)
    {
        return Err(Reason::BodyTooLarge.into());
    }
    let thread = Rc::clone(&connection.thread);
    let source = Source::new(thread, body, allowed, activity.clone());
    let patience = patience(received, cluster)?;
    let wait = patience.as_ref().map_or(entry.route.timeout, |it| it.wait);
    let deadline = outcome.started() + wait.min(entry.route.timeout);
    let key = key(asker, entry, &head, &captures, source.as_ref(), deadline).await?;
    let placed = match key {
        Some(key) => Placed::Key(key),
        None => without_key(connection, entry, outcome)?,
    };
    let pick = placed.pick(cluster);
    let placing = cluster.params.hold.map(|_| placed.into_owned());
    Ok(Routed {
        route,
        source,
        upgrades,
        deadline,
        patience,
        activity,
        pick,
        placing,
    })
}

/// How long the client waits, where it says so.
fn patience(received: &Received, cluster: &Cluster) -> Result<Option<Patience>, Refusal> {
    let field = cluster.params.deadline_header.as_ref();
    if field.is_none() && !received.is_grpc() {
        return Ok(None);
    }
    let patience = Patience::of(received.fields(), received.is_grpc(), field);
    patience.map_err(|it| Refusal::because(Reason::BadRequest, it.to_string()))
}

/// The field by which the route goes and which Connection would take away: the node would not read
/// what keyway read.
fn hidden<'a>(received: &'a Received, route: &Route) -> Option<&'a str> {
    let fields = received.fields();
    if !fields.has(Known::Connection) {
        return None;
    }
    let mut named = fields.members(Known::Connection);
    named.find(|it| route.reads_header(it))
}

/// What a request that has no key is placed by, as the route would have it.
fn without_key<'a>(
    connection: &Connection,
    entry: &'a RouteEntry,
    outcome: &Outcome,
) -> Result<Placed<'a>, Refusal> {
    outcome.counters().missing_keys.increment();
    match &entry.route.on_missing_key {
        MissingKey::Reject => Err(Reason::MissingKey.into()),
        MissingKey::Spread => {
            let anywhere = connection.thread.random().to_le_bytes();
            Ok(Placed::Anywhere(anywhere))
        }
        MissingKey::Value(value) => Ok(Placed::Key(value.as_bytes().into())),
    }
}

/// The request's key; `None` when it is missing. Reads the body only when the key is nowhere else.
async fn key<'a>(
    asker: Asker<'_>,
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
    asker.says_continue();
    let Prefix { bytes, complete } = match source {
        None => Prefix {
            bytes: Vec::new(),
            complete: true,
        },
        Some(source) => timeout_at(deadline, source.read_ahead(BODY_KEY_MAX))
            .await
            .map_err(|_elapsed| Reason::RequestTimeout)?
            .map_err(|fault| Refusal::because(fault.reason(), fault.to_string()))?,
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

/// Whether a request's end is to be a line of the access log, as far as its beginning tells: a `trace`
/// is logged by all who see it or by none.
fn is_logged(log: &AccessLog, thread: &Context, trace: impl FnOnce() -> Option<TraceId>) -> bool {
    if log.format.is_none() || log.takes_all() {
        return log.format.is_some();
    }
    let bits = trace().map_or_else(|| thread.random(), TraceId::bits);
    log.sample.takes(bits)
}

/// Writes down what the access log and spans say of the request.
fn fill(line: &mut Line, received: &Received, connection: &Connection) {
    line.method = Some(received.method().clone());
    received.write_target(&mut line.target);
    line.version = Some(received.version());
    line.scheme = connection.listener().scheme();
    line.authority.clear();
    match received.authority() {
        "" => {
            let host = received.fields().known(Known::Host).next();
            let host = String::from_utf8_lossy(host.unwrap_or_default());
            line.authority.push_str(&host);
        }
        authority => line.authority.push_str(authority),
    }
    line.client = connection.client(received.fields());
}
