//! The server: one connection a task, one small handler a path.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder, service_fn};
use tracing::debug;

use super::guard;
use super::metrics::Metrics;
use super::{page, view};
use crate::cluster::{Cluster, Command, Reloads, SharedState};
use crate::config::{ReloadError, ReloadRequest};
use crate::drain::{DrainWatch, Phase};
use crate::net::{AcceptPause, BindError, SharedListener, Stream};
use crate::telemetry::LogControl;

/// Connections at once: probes, a scraper and an operator.
const CONNECTIONS: usize = 64;

/// How long one answer may take; a reload reads its files twice.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a head may take.
const HEAD: Duration = Duration::from_secs(10);

/// The largest request body, in bytes: a log filter.
const BODY: usize = 4 << 10;

/// What the admin server shows and passes on to.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// The state.
    pub shared: Arc<SharedState>,
    /// How reloads went.
    pub reloads: Arc<Reloads>,
    /// The writer's mailbox.
    pub commands: mpsc::Sender<Command>,
    /// The watcher's mailbox; `None` when there are no files.
    pub reload: Option<mpsc::Sender<ReloadRequest>>,
    /// How far the process is on its way down.
    pub drain: DrainWatch,
    /// Told when an operator asks for the end.
    pub shutdown: Arc<Notify>,
    /// What is logged; `None` where the process does not log.
    pub log_level: Option<LogControl>,
    /// When the process began.
    pub started: Instant,
}

/// Why there is no admin server.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Its address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its socket cannot be registered with the runtime.
    #[error("the admin listener cannot be used")]
    Register(#[source] std::io::Error),
}

/// Serves on `listener` until it is no longer polled. What was accepted is served to the process's end. Runs inside a `LocalSet`.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(admin: Admin, listener: Arc<SharedListener>) -> Result<(), AdminError> {
    let socket = listener.register().map_err(AdminError::Register)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut pause = AcceptPause::default();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return Ok(());
        };
        match socket.accept().await {
            Ok(stream) => {
                let admin = admin.clone();
                spawn_local(async move {
                    let _place = place;
                    connection(admin, stream).await;
                });
            }
            Err(error) => pause.after(&error, "admin").await,
        }
    }
}

async fn connection(admin: Admin, stream: Stream) {
    let peer = stream.peer_ip();
    let mut drain = admin.drain.clone();
    // tower's timeout serves as it is: an answer that hangs must not hold one of the places.
    let answer = ServiceBuilder::new()
        .timeout(ANSWER)
        .service(service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(route(&admin, peer, request).await) }
        }));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let answered: Result<_, BoxError> = tower::ServiceExt::oneshot(answer, request).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|_elapsed| {
                problem(StatusCode::GATEWAY_TIMEOUT, "the answer took too long")
            }))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = drain.reached(Phase::Over) => Ok(()),
    };
    if let Err(error) = ended {
        debug!(%error, "an admin connection broke");
    }
}

type Answer = Response<Full<Bytes>>;

async fn route(admin: &Admin, peer: Option<IpAddr>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let file = match *segments.as_slice() {
        [name] => page::file(name),
        _ => None,
    };
    let expected = match *segments.as_slice() {
        ["livez" | "readyz" | "metrics"] | ["v1", "state" | "ring" | "explain" | "config"] => {
            Method::GET
        }
        _ if file.is_some() => Method::GET,
        ["v1", "reload" | "shutdown"] | ["v1", "nodes", _, "drain" | "undrain"] => Method::POST,
        ["v1", "log-level"] => Method::PUT,
        _ => return problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
    };
    if *request.method() != expected {
        return method_not_allowed(&expected);
    }
    if expected != Method::GET
        && let Err(forbidden) = guard::check(peer, request.headers())
    {
        return problem(StatusCode::FORBIDDEN, &forbidden.to_string());
    }
    if let Some(file) = file {
        return file.response();
    }
    match *segments.as_slice() {
        ["livez"] => text(StatusCode::OK, "ok\n"),
        ["readyz"] => readyz(admin),
        ["metrics"] => metrics(admin),
        ["v1", "state"] => state(admin),
        ["v1", "ring"] => ring(admin, request.uri().query().unwrap_or_default()),
        ["v1", "explain"] => explain(admin, request.uri().query().unwrap_or_default()),
        ["v1", "config"] => config(&admin.shared.load().desired.shown),
        ["v1", "reload"] => reload(admin).await,
        ["v1", "shutdown"] => {
            admin.shutdown.notify_one();
            json_answer(StatusCode::ACCEPTED, &json!({ "draining": true }))
        }
        ["v1", "nodes", id, verb] => set_drained(admin, id, verb == "drain").await,
        _ => log_level(admin, request).await,
    }
}

fn readyz(admin: &Admin) -> Answer {
    match admin.drain.phase() {
        Phase::Starting => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "waiting for a valid topology\n",
        ),
        Phase::Serving => text(StatusCode::OK, "ready\n"),
        Phase::PreDrain | Phase::Draining | Phase::Over => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
    }
}

fn metrics(admin: &Admin) -> Answer {
    match admin.metrics.encode() {
        Ok(exposition) => answer(
            StatusCode::OK,
            "text/plain; version=0.0.4",
            exposition.into(),
        ),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn state(admin: &Admin) -> Answer {
    let shown = view::Shown {
        state: &admin.shared.load(),
        reloads: &admin.reloads,
        phase: admin.drain.phase(),
        now: admin.now(),
    };
    json_answer(StatusCode::OK, &shown.to_json())
}

fn ring(admin: &Admin, query: &str) -> Answer {
    on_cluster(admin, query, "cluster=NAME", |cluster| {
        json_answer(StatusCode::OK, &view::ring(cluster))
    })
}

fn explain(admin: &Admin, query: &str) -> Answer {
    let expected = "cluster=NAME&key=KEY";
    on_cluster(admin, query, expected, |cluster| {
        match parameter(query, "key") {
            Some(key) => json_answer(StatusCode::OK, &view::explain(cluster, &key, admin.now())),
            None => missing(expected, "key"),
        }
    })
}

/// What is said of the cluster that a query asks about; `expected` is what the whole query should
/// look like.
fn on_cluster(
    admin: &Admin,
    query: &str,
    expected: &str,
    say: impl FnOnce(&Cluster) -> Answer,
) -> Answer {
    let Some(name) = parameter(query, "cluster") else {
        return missing(expected, "cluster");
    };
    let state = admin.shared.load();
    let named = state.clusters.iter().find(|it| it.name.as_bytes() == name);
    named.map_or_else(
        || problem(StatusCode::NOT_FOUND, "expected the name of a cluster"),
        say,
    )
}

fn missing(expected: &str, name: &str) -> Answer {
    let detail = format!("expected ?{expected}, found no {name}");
    problem(StatusCode::BAD_REQUEST, &detail)
}

/// The decoded bytes of a query's parameter.
fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let mut pairs = query.split('&').filter_map(|it| it.split_once('='));
    let (_, value) = pairs.find(|(found, _)| *found == name)?;
    Some(percent_encoding::percent_decode_str(value).collect())
}

async fn reload(admin: &Admin) -> Answer {
    let Some(watcher) = &admin.reload else {
        return problem(StatusCode::CONFLICT, "there are no files to reload");
    };
    let (reply, outcome) = oneshot::channel();
    if watcher.send(ReloadRequest { reply }).await.is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "the watcher has ended");
    }
    match outcome.await {
        Ok(Ok(applied)) => json_answer(
            StatusCode::OK,
            &json!({ "generation": applied.generation, "moved": view::moved(&applied.moved) }),
        ),
        Ok(Err(ReloadError(errors))) => json_answer(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({ "errors": errors }),
        ),
        Err(_ended) => problem(StatusCode::SERVICE_UNAVAILABLE, "the watcher has ended"),
    }
}

async fn set_drained(admin: &Admin, id: &str, drained: bool) -> Answer {
    let (reply, outcome) = oneshot::channel();
    let node = percent_encoding::percent_decode_str(id)
        .decode_utf8_lossy()
        .into_owned();
    let command = Command::SetDrained {
        node,
        drained,
        reply,
    };
    if admin.commands.send(command).await.is_err() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "the writer has ended");
    }
    match outcome.await {
        Ok(Ok(())) => json_answer(StatusCode::OK, &json!({ "node": id, "drained": drained })),
        Ok(Err(error)) => problem(StatusCode::NOT_FOUND, &error.to_string()),
        Err(_ended) => problem(StatusCode::SERVICE_UNAVAILABLE, "the writer has ended"),
    }
}

async fn log_level(admin: &Admin, request: Request<Incoming>) -> Answer {
    let Ok(body) = Limited::new(request.into_body(), BODY).collect().await else {
        return problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            "expected a level of a few bytes",
        );
    };
    let body = body.to_bytes();
    let filter = String::from_utf8_lossy(&body);
    match admin.log_level.as_ref().map(|it| it.set(&filter)) {
        Some(Ok(())) => json_answer(StatusCode::OK, &json!({ "level": filter.trim() })),
        Some(Err(error)) => problem(StatusCode::BAD_REQUEST, &error),
        None => problem(StatusCode::CONFLICT, "this process does not log"),
    }
}

// === impl Admin ===

impl Admin {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

// === answers ===

fn text(status: StatusCode, body: &'static str) -> Answer {
    answer(status, "text/plain", body.into())
}

fn config(shown: &str) -> Answer {
    let value = serde_json::from_str(shown).expect("a state must show its configuration as JSON");
    json_answer(StatusCode::OK, &value)
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", format!("{value:#}\n").into())
}

fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let value = json!({ "title": title, "status": status.as_u16(), "detail": detail });
    answer(
        status,
        "application/problem+json",
        format!("{value}\n").into(),
    )
}

fn method_not_allowed(expected: &Method) -> Answer {
    let detail = format!("expected {expected}");
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, &detail);
    if let Ok(allow) = HeaderValue::from_str(expected.as_str()) {
        answer.headers_mut().insert(ALLOW, allow);
    }
    answer
}

fn answer(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let media_type = HeaderValue::from_static(media_type);
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}
