//! hyper on a wire that the test feeds, polled by hand: no runtime, no sockets.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{client, server};

use super::reading::{Message, request_start, response_start, shown_map};

/// Polls without an end are a fault of the test.
const POLLS_MAX: usize = 10_000;

/// An end of a connection, and what it has read.
pub(super) struct Hyper {
    end: Option<Pin<Box<dyn Future<Output = ()>>>>,
    pipe: Rc<RefCell<Pipe>>,
    seen: Seen,
    /// How many requests the client has sent.
    asked: Rc<Cell<usize>>,
    woken: Arc<Woken>,
}

/// The messages that hyper read, of which the last may be under way.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<Message>>>);

#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    is_ended: bool,
}

struct Wire(Rc<RefCell<Pipe>>);

#[derive(Default)]
struct Woken(AtomicBool);

impl Hyper {
    /// A server that answers each request once it is whole.
    pub(super) fn server() -> Self {
        Self::new(|wire, seen, _| {
            let service = service_fn(move |request: Request<Incoming>| {
                let seen = seen.clone();
                async move {
                    seen.begin(request_line(&request), request.headers());
                    seen.finish(request.into_body()).await;
                    Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                }
            });
            let mut server = server::conn::http1::Builder::new();
            let served = server
                .auto_date_header(false)
                .serve_connection(wire, service);
            Box::pin(async { drop(served.await) })
        })
    }

    /// A client that asks by these methods, as long as the connection goes on.
    pub(super) fn client(methods: Vec<Method>) -> Self {
        Self::new(|wire, seen, asked| {
            let asking = async move {
                let (mut sender, connection) = client::conn::http1::handshake(wire).await?;
                let asking = async move {
                    for method in methods {
                        sender.ready().await?;
                        asked.set(asked.get() + 1);
                        let uri = if method == Method::CONNECT {
                            "h:1"
                        } else {
                            "/"
                        };
                        let request = Request::builder().method(method).uri(uri);
                        let request = request.body(Empty::<Bytes>::new()).unwrap();
                        let response = sender.send_request(request).await?;
                        seen.begin(status_line(&response), response.headers());
                        seen.finish(response.into_body()).await;
                    }
                    Ok(())
                };
                futures_util::future::join(connection, asking).await.1
            };
            Box::pin(async { drop::<hyper::Result<()>>(asking.await) })
        })
    }

    fn new(
        end: impl FnOnce(Wire, Seen, Rc<Cell<usize>>) -> Pin<Box<dyn Future<Output = ()>>>,
    ) -> Self {
        let (pipe, seen, asked) = (Rc::default(), Seen::default(), Rc::default());
        let end = end(Wire(Rc::clone(&pipe)), seen.clone(), Rc::clone(&asked));
        let mut hyper = Self {
            end: Some(end),
            pipe,
            seen,
            asked,
            woken: Arc::default(),
        };
        hyper.run();
        hyper
    }

    /// Lets it read `bytes` and do all that follows from them.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.pipe.borrow_mut().input.extend_from_slice(bytes);
        self.run();
    }

    pub(super) fn end_of_input(&mut self) {
        self.pipe.borrow_mut().is_ended = true;
        self.run();
    }

    /// The messages, the last of them perhaps not whole.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.seen.0.borrow().clone()
    }

    pub(super) fn whole(&self) -> usize {
        let seen = self.seen.0.borrow();
        seen.iter().filter(|it| it.is_whole).count()
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.get()
    }

    fn run(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        for _ in 0..POLLS_MAX {
            let Some(end) = &mut self.end else { return };
            let polled = end.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                self.end = None;
            }
            if !self.woken.0.swap(false, Ordering::Relaxed) {
                return;
            }
        }
        panic!("hyper does not come to rest");
    }
}

impl Seen {
    fn begin(&self, start: String, fields: &http::HeaderMap) {
        self.0.borrow_mut().push(Message {
            start,
            fields: shown_map(fields),
            ..Message::default()
        });
    }

    async fn finish(&self, mut body: Incoming) {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return };
            let mut seen = self.0.borrow_mut();
            let message = seen.last_mut().unwrap();
            match frame.into_data() {
                Ok(data) => message.body.extend_from_slice(&data),
                Err(frame) => message.trailers = shown_map(frame.trailers_ref().unwrap()),
            }
        }
        self.0.borrow_mut().last_mut().unwrap().is_whole = true;
    }
}

fn request_line(request: &Request<Incoming>) -> String {
    let uri = request.uri();
    let authority = uri.authority().map_or("", |it| it.as_str());
    let is_http_11 = request.version() == Version::HTTP_11;
    request_start(
        request.method(),
        authority,
        uri.path(),
        uri.query(),
        is_http_11,
    )
}

fn status_line(response: &Response<Incoming>) -> String {
    let status = response.status();
    let registered = status.canonical_reason().unwrap_or_default().as_bytes();
    let sent = response.extensions().get::<ReasonPhrase>();
    let reason = sent.map_or(registered, ReasonPhrase::as_bytes);
    response_start(status, reason, response.version() == Version::HTTP_11)
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        let rest = &pipe.input[pipe.read..];
        let len = rest.len().min(buffer.remaining());
        // Whoever feeds the wire polls: there is nobody to wake.
        if len == 0 && !pipe.is_ended {
            return Poll::Pending;
        }
        buffer.put_slice(&rest[..len]);
        pipe.read += len;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        sent: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(sent.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
