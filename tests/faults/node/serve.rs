//! What a node's process does.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};

type Chunk = Result<Frame<Bytes>, Infallible>;
type Body = Either<Full<Bytes>, StreamBody<stream::Iter<std::vec::IntoIter<Chunk>>>>;

/// The size of a chunk of a chunked answer.
const CHUNK: usize = 4 << 10;

/// A node, and how it behaves now.
struct Node {
    id: String,
    shard: String,
    record: File,
    behaviour: Mutex<Behaviour>,
    /// As many requests are worked on at once.
    capacity: Semaphore,
}

#[derive(Clone, Default)]
struct Behaviour {
    /// How long an answer takes to be made.
    delay: Duration,
    /// The status of requests whose path contains this.
    failing: Option<(u16, String)>,
    /// Requests that are here, and the most there were.
    here: usize,
    peak: usize,
}

/// Serves until standard input ends, with whoever started this process.
pub fn serve(arguments: &[String]) -> io::Result<()> {
    let [id, shard, address, record] = arguments else {
        return Err(io::Error::other("expected ID SHARD ADDRESS RECORD"));
    };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let node = Rc::new(Node {
        id: id.clone(),
        shard: shard.clone(),
        record: OpenOptions::new().create(true).append(true).open(record)?,
        behaviour: Mutex::default(),
        capacity: Semaphore::new(Semaphore::MAX_PERMITS),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = crate::network::listen(address)?;
        spawn_local(accept(listener, Rc::clone(&node)));
        println!("listens");
        let mut commands = BufReader::new(tokio::io::stdin()).lines();
        while let Some(command) = commands.next_line().await? {
            println!("{}", node.obey(&command));
        }
        Ok(())
    })
}

/// Runs the streams of HTTP/2 where everything runs.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, stream: F) {
        spawn_local(async move {
            stream.await;
        });
    }
}

async fn accept(listener: TcpListener, node: Rc<Node>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _unsupported = stream.set_nodelay(true);
        let node = Rc::clone(&node);
        let service = service_fn(move |request| {
            let node = Rc::clone(&node);
            async move { node.answer(request).await }
        });
        spawn_local(async move {
            let builder = auto::Builder::new(Local);
            let _ended = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Node {
    fn obey(&self, command: &str) -> String {
        let mut behaviour = self.lock();
        match command.split(' ').collect::<Vec<_>>()[..] {
            ["delay", ms] => behaviour.delay = Duration::from_millis(ms.parse().unwrap()),
            ["fail", status, path] => {
                behaviour.failing = Some((status.parse().unwrap(), path.to_owned()));
            }
            ["heal"] => behaviour.failing = None,
            ["capacity", of] => {
                let surplus = Semaphore::MAX_PERMITS - of.parse::<usize>().unwrap();
                self.capacity.forget_permits(surplus);
            }
            ["peak"] => return behaviour.peak.to_string(),
            _ => panic!("expected a command, found {command:?}"),
        }
        "done".to_owned()
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let (parts, body) = request.into_parts();
        body.collect().await?;
        let path = parts.uri.path();
        if path == "/healthz" {
            return Ok(self.response(200, Either::Left(Full::default())));
        }
        let id = field(&parts.headers, "x-id");
        let via = field(&parts.headers, "x-via");
        // One write, and before anything is answered: a kill takes no record with it.
        let line = format!("{via} {id} {}\n", parts.method);
        (&self.record).write_all(line.as_bytes()).unwrap();
        let _here = self.enter();
        let _place = self.capacity.acquire().await;
        let Behaviour { delay, failing, .. } = self.lock().clone();
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        if let Some((status, part)) = failing
            && path.contains(&part)
        {
            return Ok(self.response(status, Either::Left(Full::default())));
        }
        let text = super::answer(&self.shard, &self.id, id, super::filler(path));
        Ok(self.response(200, body_of(text, path.contains("/chunked/"))))
    }

    fn response(&self, status: u16, body: Body) -> Response<Body> {
        let response = Response::builder()
            .status(status)
            .header("x-node", &self.id)
            .body(body);
        response.unwrap()
    }

    /// Counts a request while it is here, its client's leaving included.
    fn enter(&self) -> impl Drop {
        struct Here<'a>(&'a Node);
        impl Drop for Here<'_> {
            fn drop(&mut self) {
                self.0.lock().here -= 1;
            }
        }
        let mut behaviour = self.lock();
        behaviour.here += 1;
        behaviour.peak = behaviour.peak.max(behaviour.here);
        Here(self)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Behaviour> {
        self.behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn field<'a>(fields: &'a HeaderMap, name: &str) -> &'a str {
    fields.get(name).map_or("-", |it| it.to_str().unwrap())
}

fn body_of(text: String, chunked: bool) -> Body {
    let text = Bytes::from(text);
    if !chunked {
        return Either::Left(Full::new(text));
    }
    let chunks = text.chunks(CHUNK).map(|it| text.slice_ref(it));
    let chunks: Vec<Chunk> = chunks.map(|it| Ok(Frame::data(it))).collect();
    Either::Right(StreamBody::new(stream::iter(chunks)))
}
