//! One try at one node: a connection, the request on it, and the head of the response in time.

use std::cell::Cell;
use std::error::Error as _;
use std::rc::Rc;

use http::{Request, Response, Uri, header, response, uri};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info};

use super::body::{ClientFault, Exchange, RequestBody, Source};
use super::fields::strip_hop_by_hop;
use super::forward::Call;
use super::thread::{Context, View};
use crate::cluster::counters::{Class, HEAD_SENT};
use crate::cluster::desired::{Annotation, Authority};
use crate::cluster::{Cluster, Node, Target};
use crate::reason::Reason;
use crate::retry::Failure;
use crate::topology::Address;
use crate::upstream::{ConnectError, Http1Lease, Protocol};

/// The head of a node's response, and the exchange that its body comes by.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) exchange: Exchange,
}

/// Why an attempt brought no response head.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// There is no connection: nothing was sent.
    #[error("no connection")]
    Connect(#[source] ConnectError),
    /// The connection was closed before a byte of the request was written to it, or the node
    /// refused the request unprocessed.
    #[error("the node took nothing of the request")]
    Unsent(#[source] hyper::Error),
    /// The connection broke after something was sent.
    #[error("the connection broke before the response's head")]
    Reset {
        pooled: bool,
        #[source]
        source: hyper::Error,
    },
    /// What came back is no response.
    #[error("the node's answer is no response")]
    Protocol(#[source] hyper::Error),
    /// The node did not answer in time.
    #[error("no response head within the attempt's time")]
    TimedOut,
    /// The route's time is over.
    #[error("the route's time is over")]
    Deadline,
    /// The client did not send its body in time.
    #[error("the client sent its body too slowly")]
    SlowClient,
    /// The client spoiled its request.
    #[error("the client spoiled its request")]
    Client(#[source] ClientFault),
}

/// Which connections an attempt may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// An idle one first.
    Pooled,
    /// Only a new one: an idle one just turned out to be stale.
    Fresh,
}

/// Counts an attempt while it is under way, and how it ended.
#[derive(Debug)]
pub(super) struct AttemptGuard {
    thread: Rc<Context>,
    view: Rc<View>,
    cluster: usize,
    target: Target,
    head: Cell<Option<Class>>,
    ended: Cell<Option<Class>>,
}

/// Tries `target` once.
pub(super) async fn attempt(
    call: &Call,
    target: Target,
    reuse: Reuse,
    number: u32,
) -> Result<Answer, AttemptError> {
    let cluster = call.cluster();
    let node = &target.replica(cluster).node;
    let seen = node.standing();
    let guard = AttemptGuard::begin(call, target);
    let started = Instant::now();
    let responded = send(call, target, reuse, number).await;
    let (response, lease) = match responded {
        Ok(responded) => responded,
        Err(error) => {
            guard.ended(error.class());
            if error.blames_connection() {
                observe_refusal(call, cluster, node, seen, &error);
            }
            debug!(node = node.id(), error = %error, cause = ?error.source(), "an attempt failed");
            return Err(error);
        }
    };
    if node.answered(seen) {
        info!(
            cluster = cluster.name,
            node = node.id(),
            "the node answers again"
        );
    }
    let counters = cluster.shards[target.shard]
        .counters
        .of(call.thread().index);
    counters.attempt_duration.observe(started.elapsed());
    let (head, incoming) = response.into_parts();
    guard.head.set(Some(Class::of(head.status)));
    let exchange = Exchange::new(
        incoming,
        lease,
        guard,
        call.activity.clone(),
        call.reset(&head),
    );
    Ok(Answer { head, exchange })
}

/// Gets a connection, sends the request on it and waits for the response's head.
async fn send(
    call: &Call,
    target: Target,
    reuse: Reuse,
    number: u32,
) -> Result<(Response<Incoming>, Option<Http1Lease<RequestBody>>), AttemptError> {
    let cluster = call.cluster();
    let pool = &call.view.pools[target.replica(cluster).slot];
    let deadline = |_elapsed| AttemptError::Deadline;
    match (cluster.params.protocol, call.grpc) {
        (Protocol::H2, _) | (Protocol::Auto, true) => {
            let connecting = timeout_at(call.deadline, pool.http2());
            let mut lease = connecting
                .await
                .map_err(deadline)?
                .map_err(AttemptError::Connect)?;
            let request = http2_request(call, target, number);
            let sent = async {
                let ready = lease.sender.ready().await;
                ready.map_err(AttemptError::Unsent)?;
                let response = lease.sender.try_send_request(request).await;
                response.map_err(|mut error| {
                    let unsent = error.take_message().is_some();
                    classify(error.into_error(), unsent, lease.pooled)
                })
            };
            Ok((in_time(call, sent).await?, None))
        }
        (Protocol::Http1, _) | (Protocol::Auto, false) => {
            let connection = async {
                match reuse {
                    Reuse::Pooled => pool.http1().await,
                    Reuse::Fresh => pool.fresh_http1().await,
                }
            };
            let connecting = timeout_at(call.deadline, connection);
            let mut lease = connecting
                .await
                .map_err(deadline)?
                .map_err(AttemptError::Connect)?;
            lease.set_write_timeout(call.idle_timeout());
            let pooled = lease.pooled();
            let sent = lease
                .sender()
                .try_send_request(http1_request(call, target, number));
            let sent = async {
                sent.await.map_err(|mut error| {
                    let unsent = error.take_message().is_some();
                    classify(error.into_error(), unsent, pooled)
                })
            };
            let response = in_time(call, sent).await?;
            Ok((response, Some(lease)))
        }
    }
}

/// Waits for the response's head: as long as the attempt may take once the request is sent, and
/// never past the deadline. What the client spoiled is the client's fault.
async fn in_time<T>(
    call: &Call,
    sent: impl Future<Output = Result<T, AttemptError>>,
) -> Result<T, AttemptError> {
    let outcome = tokio::select! {
        biased;
        outcome = sent => outcome,
        expired = expiry(call) => Err(expired),
    };
    let fault = call.source.as_ref().and_then(Source::fault);
    outcome.map_err(|error| fault.map_or(error, AttemptError::Client))
}

async fn expiry(call: &Call) -> AttemptError {
    if let Some(source) = &call.source
        && timeout_at(call.deadline, source.finished()).await.is_err()
    {
        let slow = source.waits_for_client();
        return if slow {
            AttemptError::SlowClient
        } else {
            AttemptError::Deadline
        };
    }
    let attempt = Instant::now() + call.cluster().params.attempt_timeout;
    sleep_until(attempt.min(call.deadline)).await;
    if attempt < call.deadline {
        AttemptError::TimedOut
    } else {
        AttemptError::Deadline
    }
}

/// What a hyper error says of how far the request came.
fn classify(error: hyper::Error, unsent: bool, pooled: bool) -> AttemptError {
    let h2 = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    // Streams above GOAWAY's last id and refused ones were not processed (RFC 9113 6.8, 8.7).
    let refused = h2.is_some_and(|it| {
        it.reason() == Some(h2::Reason::REFUSED_STREAM) || it.is_go_away() && it.is_remote()
    });
    let malformed = h2.is_some_and(|it| it.is_library() && !it.is_io());
    if unsent || refused {
        AttemptError::Unsent(error)
    } else if error.is_parse() || malformed {
        AttemptError::Protocol(error)
    } else {
        AttemptError::Reset {
            pooled,
            source: error,
        }
    }
}

fn observe_refusal(
    call: &Call,
    cluster: &Cluster,
    node: &Node,
    seen: crate::health::Standing,
    error: &AttemptError,
) {
    let now = call.thread().millis(Instant::now());
    if node.refused(seen, now, call.thread().random()) {
        let cause = error.source().map(ToString::to_string);
        info!(
            cluster = cluster.name,
            node = node.id(),
            ?cause,
            "the node is not tried first for a while"
        );
    }
}

fn http1_request(call: &Call, target: Target, number: u32) -> Request<RequestBody> {
    let mut request = request(call, target, number);
    *request.uri_mut() = Uri::from(call.target.clone());
    let authority = authority(call, target);
    if let Ok(host) = header::HeaderValue::from_str(&authority) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

fn http2_request(call: &Call, target: Target, number: u32) -> Request<RequestBody> {
    let mut request = request(call, target, number);
    *request.version_mut() = http::Version::HTTP_2;
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
pub(super) fn annotate(
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
    head.version = http::Version::HTTP_11;
}

// === impl AttemptError ===

impl AttemptError {
    /// What the retry policy is asked about; `None` when no attempt may follow.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self {
            Self::Connect(_) => Some(Failure::Connect),
            Self::Unsent(_) => Some(Failure::Unsent),
            Self::Reset { pooled, .. } => Some(Failure::Reset { pooled: *pooled }),
            Self::Protocol(_) => Some(Failure::Protocol),
            Self::TimedOut => Some(Failure::Timeout),
            Self::Deadline | Self::SlowClient | Self::Client(_) => None,
        }
    }

    /// The answer when this was the last attempt; `sent` says whether any attempt sent a byte.
    pub(super) fn reason(&self, sent: bool) -> Reason {
        match self {
            Self::Connect(ConnectError::Limit { .. }) => Reason::Overloaded,
            Self::Connect(_) if sent => Reason::ConnectFailed,
            Self::Connect(_) => Reason::NoHealthyNode,
            Self::Unsent(_) | Self::Reset { .. } => Reason::UpstreamReset,
            Self::Protocol(_) => Reason::UpstreamProtocol,
            Self::TimedOut => Reason::AttemptTimeout,
            Self::Deadline => Reason::Timeout,
            Self::SlowClient => Reason::RequestTimeout,
            Self::Client(_) => Reason::BadRequest,
        }
    }

    /// Whether the node refused a connection, or did not take one in time.
    fn blames_connection(&self) -> bool {
        use ConnectError::{Handshake, Limit, Refused, TimedOut, Unresolved};
        match self {
            Self::Connect(Refused { .. } | TimedOut { .. } | Handshake { .. }) => true,
            Self::Connect(Limit { .. } | Unresolved(_))
            | Self::Unsent(_)
            | Self::Reset { .. }
            | Self::Protocol(_)
            | Self::TimedOut
            | Self::Deadline
            | Self::SlowClient
            | Self::Client(_) => false,
        }
    }

    /// What the attempt counts as: the client's faults are not the node's errors.
    fn class(&self) -> Class {
        match self {
            Self::SlowClient | Self::Client(_) => Class::Aborted,
            _ => Class::Error,
        }
    }
}

// === impl AttemptGuard ===

impl AttemptGuard {
    fn begin(call: &Call, target: Target) -> Self {
        let guard = Self {
            thread: Rc::clone(call.thread()),
            view: Rc::clone(&call.view),
            cluster: call.cluster,
            target,
            head: Cell::new(None),
            ended: Cell::new(None),
        };
        guard.node().begin();
        guard
    }

    /// The attempt ended as `class`.
    pub(super) fn ended(&self, class: Class) {
        self.ended.set(Some(class));
    }

    /// The response broke off after its head, when nothing can be tried again.
    pub(super) fn broke(&self) {
        self.ended(Class::Error);
        let cluster = &self.view.state.clusters[self.cluster];
        cluster.counters.of(self.thread.index).retries_denied[HEAD_SENT].increment();
    }

    /// The whole response was read.
    pub(super) fn complete(&self) {
        self.ended.set(self.head.get());
    }

    fn node(&self) -> &Node {
        &self
            .target
            .replica(&self.view.state.clusters[self.cluster])
            .node
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        let class = self.ended.get().unwrap_or(Class::Aborted);
        let node = self.node();
        node.end();
        node.counters.of(self.thread.index).attempts[class as usize].increment();
    }
}
