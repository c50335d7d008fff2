//! What nodes do by HTTP/2 that hyper's server would not: frames as they like, by h2.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use crate::support::{Client, Keyway, until};

const GET: &str = "GET /k HTTP/1.1\r\nHost: a\r\n\r\n";
const EXPECTING: &str =
    "PUT /k HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const CHUNKED: &str = "PUT /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

type Asked = Request<RecvStream>;
type Answer = SendResponse<Bytes>;

/// An HTTP/2 node that serves each stream by `serve`.
async fn node<F: Future<Output: Send> + Send + 'static>(
    serve: impl Fn(Asked, Answer) -> F + Clone + Send + 'static,
) -> SocketAddr {
    node_with(&Builder::new(), serve, Arc::default()).await
}

/// The same with other settings; its connections break at `breaks`.
async fn node_with<F: Future<Output: Send> + Send + 'static>(
    builder: &Builder,
    serve: impl Fn(Asked, Answer) -> F + Clone + Send + 'static,
    breaks: Arc<Notify>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let builder = builder.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (builder, serve) = (builder.clone(), serve.clone());
            let breaks = Arc::clone(&breaks);
            tokio::spawn(async move {
                let mut connection = builder.handshake(stream).await.unwrap();
                loop {
                    tokio::select! {
                        () = breaks.notified() => return,
                        accepted = connection.accept() => match accepted {
                            Some(Ok((request, respond))) => {
                                tokio::spawn(serve(request, respond));
                            }
                            _ => return,
                        }
                    }
                }
            });
        }
    });
    address
}

fn keyway(address: SocketAddr, cluster: &str) -> Keyway {
    Keyway::start(
        &format!(
            "threads: 1\nroutes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n\
             clusters: {{ c: {{ protocol: h2{cluster} }} }}\n"
        ),
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{address}\" }}] }} }}\n"
        ),
    )
}

const ONCE: &str = ", retry: { attempts: 1 }";

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

fn interim(status: u16, name: &str, value: &str) -> Response<()> {
    let head = Response::builder().status(status).header(name, value);
    head.body(()).unwrap()
}

fn answers(mut respond: Answer, body: &'static str) {
    let mut stream = respond.send_response(head(200), false).unwrap();
    stream.send_data(body.into(), true).unwrap();
}

/// Reads a body to its end.
async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok(all)
}

async fn reset_of_response(mut respond: Answer) -> Reason {
    poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()
}

async fn reset_of(mut stream: SendStream<Bytes>) -> Reason {
    poll_fn(|cx| stream.poll_reset(cx)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn informational_responses_pass() {
    let hinted = Arc::new(Notify::new());
    let was_hinted = Arc::clone(&hinted);
    let address = node(move |_, mut respond| {
        let was_hinted = Arc::clone(&was_hinted);
        async move {
            let hints = interim(103, "link", "</a.css>");
            respond.send_informational(hints).unwrap();
            was_hinted.notified().await;
            respond.send_informational(head(102)).unwrap();
            answers(respond, "hello");
        }
    });
    let keyway = keyway(address.await, ONCE);
    let mut client = keyway.client();
    for _ in 0..2 {
        let hints = client.send(GET).reply();
        assert_eq!((hints.status, hints.field("link")), (103, Some("</a.css>")));
        hinted.notify_one();
        assert_eq!(client.reply().status, 102);
        assert_eq!(client.reply().text(), "hello");
    }
    // HTTP/1.0 has none (RFC 9110 15.2).
    hinted.notify_one();
    let reply = keyway.client().send("GET /k HTTP/1.0\r\n\r\n").reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_answers_at_last_is_no_http() {
    let (resets, mut reset) = mpsc::channel(1);
    let address = node(move |_, mut respond| {
        let resets = resets.clone();
        async move {
            for _ in 0..100 {
                respond.send_informational(head(103)).unwrap();
            }
            resets.send(reset_of_response(respond).await).await
        }
    });
    let keyway = keyway(address.await, ONCE);
    let mut client = keyway.client();
    client.send(GET);
    let mut interims = 0;
    let last = loop {
        let reply = client.reply();
        if reply.status != 103 {
            break reply;
        }
        interims += 1;
    };
    assert_eq!((last.status, last.error()), (502, "upstream_protocol"));
    assert_eq!(interims, 32);
    assert_eq!(reset.recv().await, Some(Reason::CANCEL));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_switches_protocols_by_http2() {
    let address = node(|_, mut respond| async move {
        respond.send_informational(head(101)).unwrap();
        pending::<()>().await;
    });
    let keyway = keyway(address.await, ONCE);
    let offers = "GET /k HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    for request in [GET, offers] {
        let reply = keyway.client().send(request).reply();
        assert_eq!((reply.status, reply.error()), (502, "upstream_protocol"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_own_100_is_waited_for() {
    let address = node(|request: Asked, mut respond| async move {
        assert_eq!(request.headers()["expect"], "100-continue");
        let go_on = interim(100, "x-from", "node");
        respond.send_informational(go_on).unwrap();
        assert_eq!(read(&mut request.into_body()).await.unwrap(), b"hello");
        answers(respond, "thanks");
    });
    let keyway = keyway(address.await, ONCE);
    let mut client = keyway.client();
    let told = client.send(EXPECTING).reply();
    assert_eq!((told.status, told.field("x-from")), (100, Some("node")));
    assert_eq!(client.send("hello").reply().text(), "thanks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_answer_without_wanting_the_body() {
    let (read_bodies, mut body) = mpsc::channel(1);
    let address = node(move |request: Asked, mut respond| {
        let read_bodies = read_bodies.clone();
        async move {
            respond.send_response(head(413), true).unwrap();
            let read = read(&mut request.into_body()).await;
            read_bodies.send(read.unwrap_err().reason()).await
        }
    });
    let keyway = keyway(address.await, ONCE);
    let mut client = keyway.client();
    let reply = client.send(EXPECTING).reply();
    assert_eq!(reply.status, 413);
    // Whether the body still comes cannot be known.
    assert_eq!(reply.field("connection"), Some("close"));
    assert_eq!(body.recv().await, Some(Some(Reason::CANCEL)));
}

/// gRPC's bidirectional streams: neither body waits for the other's end.
#[tokio::test(flavor = "multi_thread")]
async fn both_bodies_go_on_at_once() {
    let address = node(|request: Asked, mut respond| async move {
        let mut stream = respond.send_response(head(200), false).unwrap();
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.len(), 1);
        stream.send_trailers(trailers).unwrap();
    });
    let keyway = keyway(address.await, ONCE);
    let mut client = keyway.client();
    client.send(CHUNKED.replace("\r\n\r\n", "\r\nTE: trailers\r\n\r\n"));
    for at in 0..20 {
        client.send(format!("3\r\n{at:03}\r\n"));
        read_until(&mut client, &format!("3\r\n{at:03}\r\n"));
    }
    client.send("0\r\nX-Sum: 7\r\nAuthorization: x\r\n\r\n");
    read_until(&mut client, "0\r\nx-sum: 7\r\n\r\n");
    keyway.until_idle();
    assert_eq!(keyway.count("keyway_requests_total", &["class=\"2xx\""]), 1);
}

/// Reads byte by byte until `end` was read.
fn read_until(client: &mut Client, end: &str) {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        std::io::Read::read_exact(&mut client.stream, &mut byte).unwrap();
        read.extend(byte);
    }
}

/// As long as the client does not read the response, its upload goes on: else both would wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_while_the_response_is_not_read() {
    const SIZE: usize = 16 << 20;
    let address = node(|request: Asked, mut respond| async move {
        let mut stream = respond.send_response(head(200), false).unwrap();
        stream.send_data(vec![b'x'; SIZE].into(), false).unwrap();
        let read = read(&mut request.into_body()).await.unwrap();
        let read = format!("{}", read.len());
        stream.send_data(read.into(), true).unwrap();
    });
    let keyway = keyway(address.await, ONCE);
    let mut client = keyway.client();
    client.send(format!(
        "PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"
    ));
    client.send(vec![b'y'; SIZE]);
    let reply = client.reply();
    assert_eq!(reply.body[SIZE..], *SIZE.to_string().as_bytes());
}

fn counting(len: usize) -> Vec<u8> {
    (0..len).map(|at| at.to_le_bytes()[0]).collect()
}

/// Larger than any window, in pieces of every kind.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_sent_as_windows_open() {
    let mut builder = Builder::new();
    builder.initial_window_size(1000);
    let serve = |request: Asked, respond| async move {
        let read = read(&mut request.into_body()).await.unwrap();
        assert_eq!(read, counting(read.len()));
        let said = read.len().to_string();
        answers(respond, said.leak());
    };
    let keyway = keyway(node_with(&builder, serve, Arc::default()).await, ONCE);
    let mut client = keyway.client();
    for len in [0, 1, 999, 1000, 1001, 16 << 10, (16 << 10) + 1, 300_000] {
        let body = counting(len);
        let reply = client.ask("PUT", "/k", &[], &body);
        assert_eq!(reply.text(), len.to_string());
        client.send(CHUNKED);
        for piece in body.chunks(70_000) {
            client.send(format!("{:x}\r\n", piece.len()));
            client.send(piece).send("\r\n");
        }
        assert_eq!(client.send("0\r\n\r\n").reply().text(), len.to_string());
    }
}

/// RFC 9110 8.6: what means a body says that it has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_its_length_where_it_matters() {
    let address = node(|request: Asked, respond| async move {
        let length = request.headers().get("content-length");
        let said = length.map_or("none", |it| it.to_str().unwrap());
        answers(respond, said.to_owned().leak());
    });
    let keyway = keyway(address.await, ONCE);
    let mut client = keyway.client();
    assert_eq!(client.ask("POST", "/k", &[], b"").text(), "0");
    assert_eq!(client.ask("GET", "/k", &[], b"").text(), "none");
    assert_eq!(client.ask("GET", "/k", &[], b"x").text(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_has_its_stream_cancelled() {
    let (resets, mut reset) = mpsc::channel(1);
    let address = node(move |request: Asked, mut respond| {
        let resets = resets.clone();
        async move {
            let reason = if request.uri().path() == "/head" {
                reset_of_response(respond).await
            } else {
                reset_of(respond.send_response(head(200), false).unwrap()).await
            };
            resets.send(reason).await
        }
    });
    let keyway = keyway(address.await, ONCE);
    for path in ["/head", "/body"] {
        let mut client = keyway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        until("the request", || {
            keyway.count("keyway_node_in_flight", &["node=\"a\""]) == 1
        });
        if path == "/body" {
            read_until(&mut client, "\r\n\r\n");
        }
        drop(client);
        assert_eq!(reset.recv().await, Some(Reason::CANCEL), "{path}");
    }
}

/// RFC 9113 8.7: what was refused was not processed, so that even a POST is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let address = node(move |request: Asked, mut respond: Answer| {
        let is_first = count.fetch_add(1, SeqCst) == 0;
        async move {
            if is_first {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                assert_eq!(read(&mut request.into_body()).await.unwrap(), b"hello");
                answers(respond, "done");
            }
        }
    });
    let keyway = keyway(address.await, "");
    let reply = keyway.client().ask("POST", "/k", &[], b"hello");
    assert_eq!((reply.status, reply.text().as_str()), (200, "done"));
    assert_eq!(asked.load(SeqCst), 2);
}

/// The streams that a node lets be open are its own choice, and what it does not let be open is not
/// sent: it goes elsewhere when the connection breaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_no_more_streams_than_it_takes() {
    let held = Arc::<Mutex<Vec<Answer>>>::default();
    let most = Arc::new(AtomicUsize::new(0));
    let (holds, seen) = (Arc::clone(&held), Arc::clone(&most));
    let serve = move |request: Asked, respond: Answer| {
        let (holds, seen) = (Arc::clone(&holds), Arc::clone(&seen));
        async move {
            if request.uri().path() == "/held" {
                let mut holds = holds.lock().unwrap();
                holds.push(respond);
                seen.fetch_max(holds.len(), SeqCst);
            } else {
                answers(respond, "done");
            }
        }
    };
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let breaks = Arc::new(Notify::new());
    let keyway = keyway(node_with(&builder, serve, Arc::clone(&breaks)).await, "");
    // Then it has said how many it takes.
    assert_eq!(keyway.get("/k").text(), "done");
    let ask = |path: &'static str| {
        let mut client = keyway.client();
        thread::spawn(move || {
            let reply = client.ask("POST", path, &[], b"hello");
            (reply.status, reply.text())
        })
    };
    let at_node = |count: usize| {
        until("requests under way", || {
            keyway.count("keyway_node_in_flight", &["node=\"a\""]) == count
        });
    };
    let six: Vec<_> = (0..6).map(|_| ask("/held")).collect();
    at_node(6);
    for left in (0..6).rev() {
        until("a stream", || {
            held.lock().unwrap().len() == (left + 1).min(2)
        });
        answers(held.lock().unwrap().remove(0), "held");
        at_node(left);
    }
    for it in six {
        assert_eq!(it.join().unwrap(), (200, "held".to_owned()));
    }
    assert_eq!(most.load(SeqCst), 2);

    let two = [ask("/held"), ask("/held")];
    until("both streams", || held.lock().unwrap().len() == 2);
    let next = ask("/next");
    at_node(3);
    let more: Vec<_> = (0..5).map(|_| ask("/more")).collect();
    at_node(8);
    breaks.notify_one();
    for it in more {
        assert_eq!(it.join().unwrap(), (200, "done".to_owned()));
    }
    // One may have been sent.
    assert_eq!(next.join().unwrap().0, 502);
    assert_eq!(two.map(|it| it.join().unwrap().0), [502, 502]);
}

/// Whoever understands a node's code hears it; what would be held against the client is keyway's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_a_reset_is_passed_on() {
    let has_read = Arc::new(Notify::new());
    let is_read = Arc::clone(&has_read);
    let address = node(move |request: Asked, mut respond: Answer| {
        let is_read = Arc::clone(&is_read);
        async move {
            let mut stream = respond.send_response(head(200), false).unwrap();
            stream.send_data("hello".into(), false).unwrap();
            // A reset overtakes what was not read.
            is_read.notified().await;
            let code: u32 = request.uri().path()[1..].parse().unwrap();
            stream.send_reset(code.into());
        }
    });
    let keyway = keyway(address.await, ONCE);
    let stream = TcpStream::connect(keyway.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (code, heard) in [
        (Reason::INTERNAL_ERROR, Reason::INTERNAL_ERROR),
        (Reason::CONNECT_ERROR, Reason::CONNECT_ERROR),
        (Reason::PROTOCOL_ERROR, Reason::INTERNAL_ERROR),
        (Reason::NO_ERROR, Reason::INTERNAL_ERROR),
    ] {
        let uri = format!("http://a/{}", u32::from(code));
        let request = Request::get(uri).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "hello");
        has_read.notify_one();
        let broken = body.data().await.unwrap().unwrap_err();
        assert_eq!(broken.reason(), Some(heard), "{code:?}");
    }
    keyway.until_idle();
    let attempts = ["class=\"error\""];
    assert_eq!(keyway.count("keyway_attempts_total", &attempts), 4);
}
