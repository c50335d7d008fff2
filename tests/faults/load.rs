//! An open-loop load: what is sent when is fixed before it begins, and nothing that a proxy does
//! delays it.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::node;

/// How long a client waits for an answer: longer than anything that is configured.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many idle connections a client keeps.
const IDLE_MAX: usize = 64;

/// A small generator (`SplitMix64`), so that each run has the same schedule.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.next() % end).unwrap()
    }
}

/// One request of the schedule. Its place there is its id.
#[derive(Clone, Debug)]
pub struct Planned {
    /// When it is sent, from the beginning.
    pub due: Duration,
    pub post: bool,
    /// The place of its key.
    pub key: usize,
    /// What stands behind the key in its path.
    pub path: String,
}

/// What is sent when.
#[derive(Clone, Debug, Default)]
pub struct Schedule(pub Vec<Planned>);

impl Schedule {
    /// So many requests a second, evenly, of any of `keys`; three of ten are POST.
    pub fn even(rate: u32, during: Range<Duration>, keys: &[usize]) -> Self {
        let mut random = Random(u64::from(rate));
        let interval = Duration::from_secs(1) / rate;
        let mut planned = Vec::new();
        let mut due = during.start;
        while due < during.end {
            planned.push(Planned {
                due,
                post: random.below(10) < 3,
                key: keys[random.below(keys.len())],
                path: "r".to_owned(),
            });
            due += interval;
        }
        Self(planned)
    }

    /// The same without POST.
    #[must_use]
    pub fn of_gets(mut self) -> Self {
        for planned in &mut self.0 {
            planned.post = false;
        }
        self
    }

    /// With the paths that `path` makes of each one's number.
    #[must_use]
    pub fn to(mut self, path: impl Fn(usize) -> String) -> Self {
        for (at, planned) in self.0.iter_mut().enumerate() {
            planned.path = path(at);
        }
        self
    }

    /// Both at once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self.0.sort_by_key(|it| it.due);
        self
    }
}

/// A request that was sent, and what became of it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub id: usize,
    pub due: Duration,
    pub post: bool,
    pub key: usize,
    /// How much later than due it was sent: the fault of this machine, not of a proxy.
    pub late: Duration,
    /// From when it was sent to the last byte of its answer.
    pub took: Duration,
    pub ended: Ended,
}

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A node's whole answer to this request.
    Right { shard: String, node: String },
    /// An error that a node answered.
    Refused { node: String, status: u16 },
    /// An answer that the proxy made itself, with keyway's reason.
    Proxy { status: u16, reason: String },
    /// The connection ended before the answer did.
    Cut,
    /// An answer that is complete by its framing, and is not what the node sent.
    False,
    /// No answer in `PATIENCE`.
    Silence,
}

/// Who sends requests to one proxy.
pub struct Client {
    /// What nodes are told, so that they can tell proxies apart.
    pub via: String,
    pub address: SocketAddr,
    http2: bool,
    idle: Mutex<Vec<Sender>>,
}

/// A connection to the proxy.
enum Sender {
    /// For one request at a time.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// For all requests at once.
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub fn new(via: &str, address: SocketAddr, http2: bool) -> Self {
        Self {
            via: via.to_owned(),
            address,
            http2,
            idle: Mutex::default(),
        }
    }

    /// Sends all of the schedule, whose time began at `start`.
    pub async fn send(
        self: Arc<Self>,
        schedule: Arc<Schedule>,
        keys: Arc<Vec<String>>,
        start: Instant,
    ) -> Vec<Sample> {
        let mut sent = JoinSet::new();
        for id in 0..schedule.0.len() {
            sleep_until(start + schedule.0[id].due).await;
            let (client, schedule) = (Arc::clone(&self), Arc::clone(&schedule));
            let keys = Arc::clone(&keys);
            sent.spawn(async move {
                let planned = &schedule.0[id];
                let begun = Instant::now();
                let ended = client
                    .ask(&format!("{id}"), planned, &keys[planned.key])
                    .await;
                Sample {
                    id,
                    due: planned.due,
                    post: planned.post,
                    key: planned.key,
                    late: begun.duration_since(start + planned.due),
                    took: begun.elapsed(),
                    ended,
                }
            });
        }
        let mut samples = sent.join_all().await;
        samples.sort_by_key(|it| it.id);
        samples
    }

    pub async fn ask(self: &Arc<Self>, id: &str, planned: &Planned, key: &str) -> Ended {
        let asked = timeout(PATIENCE, self.exchange(id, planned, key));
        match asked.await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => Ended::Cut,
            Err(_) => Ended::Silence,
        }
    }

    async fn exchange(
        self: &Arc<Self>,
        id: &str,
        planned: &Planned,
        key: &str,
    ) -> Result<Ended, hyper::Error> {
        let path = format!("/{key}/{}", planned.path);
        let (sender, response) = loop {
            let Some(mut sender) = self.connection().await else {
                return Ok(Ended::Cut);
            };
            match sender.send(self.request(id, planned, &path)).await {
                Ok(response) => break (sender, response),
                // Its connection was closed before a byte was written.
                Err(error) if error.is_canceled() => {}
                Err(error) => return Err(error),
            }
        };
        let (head, body) = response.into_parts();
        let field = |name| {
            let value = head.headers.get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let body = body.collect().await?.to_bytes();
        let ended = match (field("x-node"), head.status) {
            (None, status) => Ended::Proxy {
                status: status.as_u16(),
                reason: field("x-keyway-error").unwrap_or_default(),
            },
            (Some(node), StatusCode::OK) => right(&body, node, id, node::filler(&path)),
            (Some(node), status) => Ended::Refused {
                node,
                status: status.as_u16(),
            },
        };
        let client = Arc::clone(self);
        tokio::spawn(async move {
            if let Sender::Http1(mut sender) = sender
                && sender.ready().await.is_ok()
            {
                let mut idle = client.idle.lock().unwrap();
                if idle.len() < IDLE_MAX {
                    idle.push(Sender::Http1(sender));
                }
            }
        });
        Ok(ended)
    }

    /// An idle connection, else a new one; `None` when the proxy takes none.
    async fn connection(&self) -> Option<Sender> {
        loop {
            let mut idle = self.idle.lock().unwrap();
            match idle.pop() {
                Some(Sender::Http1(it)) if it.is_ready() => return Some(Sender::Http1(it)),
                Some(Sender::Http2(it)) if !it.is_closed() => {
                    idle.push(Sender::Http2(it.clone()));
                    return Some(Sender::Http2(it));
                }
                Some(_ended) => {}
                None => break,
            }
        }
        let stream = TcpStream::connect(self.address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let stream = TokioIo::new(stream);
        if self.http2 {
            let made = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) = made.ok()?;
            tokio::spawn(connection);
            self.idle
                .lock()
                .unwrap()
                .push(Sender::Http2(sender.clone()));
            return Some(Sender::Http2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await.ok()?;
        tokio::spawn(connection);
        Some(Sender::Http1(sender))
    }

    fn request(&self, id: &str, planned: &Planned, path: &str) -> Request<Full<Bytes>> {
        let (method, body) = if planned.post {
            (Method::POST, Bytes::from(format!("{id} is sent once")))
        } else {
            (Method::GET, Bytes::new())
        };
        // By HTTP/2 the host is part of the target.
        let request = if self.http2 {
            Request::builder().uri(format!("http://app.test{path}"))
        } else {
            Request::builder().uri(path).header("host", "app.test")
        };
        let request = request
            .method(method)
            .header("x-via", &self.via)
            .header("x-id", id)
            .body(Full::new(body));
        request.unwrap()
    }
}

impl Sender {
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::Http1(it) => it.send_request(request).await,
            Self::Http2(it) => it.send_request(request).await,
        }
    }
}

/// Whether `body` is the answer to `id` that `node` gave.
fn right(body: &[u8], node: String, id: &str, filler: usize) -> Ended {
    let text = String::from_utf8_lossy(body);
    let shard = text.split(' ').next().unwrap_or_default().to_owned();
    if text == node::answer(&shard, &node, id, filler) {
        Ended::Right { shard, node }
    } else {
        Ended::False
    }
}
