//! What clients may ask: each limit where a client meets it, with the metric that shows it.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Keyway, Node, Then, read_to, until};

/// A keyway with these limits in front of one node.
fn limited(limits: &str, node: &Node) -> Keyway {
    Keyway::start(
        &format!(
            "threads: 1\nlimits: {{ {limits} }}\nroutes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n"
        ),
        &crate::support::topology(&[&[node]]),
    )
}

fn reached(keyway: &Keyway, limit: &str) -> usize {
    keyway.count(
        "keyway_limits_reached_total",
        &[&format!("limit=\"{limit}\"")],
    )
}

#[test]
fn heads_are_as_large_as_they_may_be() {
    let node = Node::start("a");
    let limits = "head_bytes: 2KiB, head_fields: 10, target_bytes: 100B";
    let keyway = limited(limits, &node);
    let get = |target: usize, fields: usize, value: usize| {
        let target = format!("/{}", "t".repeat(target - 1));
        let fields: Vec<_> = (0..fields - 1)
            .map(|at| format!("X-{at}: {}\r\n", "v".repeat(value)))
            .collect();
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\n{}\r\n",
            fields.concat()
        );
        let reply = keyway.client().send(head).reply();
        (reply.status, reply.error().to_owned())
    };
    assert_eq!(get(100, 10, 1).0, 200);
    assert_eq!(get(101, 10, 1), (414, "target_too_long".to_owned()));
    assert_eq!(get(1, 11, 1), (431, "headers_too_large".to_owned()));
    assert_eq!(get(1, 2, 1990).0, 200);
    assert_eq!(get(1, 2, 2048), (431, "headers_too_large".to_owned()));
    for limit in ["target_bytes", "head_fields", "head_bytes"] {
        assert_eq!(reached(&keyway, limit), 1, "{limit}");
    }
    assert_eq!(node.requests().len(), 2);
    // A reload takes them up, on connections that are there too.
    let mut client = keyway.client();
    assert_eq!(client.get("/").status, 200);
    let text = std::fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    keyway.replace("keyway.yaml", &text.replace("100B", "8KiB"));
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
    let long = format!("/{}", "t".repeat(200));
    until("the new limit", || keyway.get(&long).status == 200);
    assert_eq!(client.get(&long).status, 200);
}

async fn http2_client(keyway: &Keyway) -> http2::SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(keyway.address)
        .await
        .unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn the_same_limits_hold_for_http2() {
    let node = Node::start("a");
    let limits = "head_bytes: 2KiB, head_fields: 10, target_bytes: 100B, body_bytes: 1KiB";
    let keyway = limited(limits, &node);
    let mut sender = http2_client(&keyway).await;
    let mut status = async |target: usize, fields: usize, body: usize| {
        let mut request = Request::post(format!("http://a/{}", "t".repeat(target - 1)));
        for at in 0..fields {
            request = request.header(format!("x-{at}"), "v");
        }
        let request = request.body(Full::new(Bytes::from(vec![b'b'; body])));
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status
    };
    assert_eq!(status(100, 9, 1024).await, StatusCode::OK);
    assert_eq!(status(101, 0, 0).await, StatusCode::URI_TOO_LONG);
    let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    assert_eq!(status(1, 11, 0).await, too_large);
    assert_eq!(status(1, 0, 1025).await, StatusCode::PAYLOAD_TOO_LARGE);
    let large = Request::get("http://a/").header("x", "v".repeat(2000));
    let response = sender.send_request(large.body(Full::default()).unwrap());
    let response = response.await.unwrap();
    assert_eq!(response.status(), too_large);
    assert_eq!(response.headers()["x-keyway-error"], "headers_too_large");
    for limit in ["target_bytes", "head_fields", "body_bytes", "head_bytes"] {
        assert_eq!(reached(&keyway, limit), 1, "{limit}");
    }
}

#[test]
fn a_head_that_does_not_end_is_answered_and_an_idle_connection_closed() {
    let node = Node::start("a");
    let keyway = limited("head_wait: 1s, idle: 2s", &node);
    let started = Instant::now();
    let mut slow = keyway.client();
    slow.send("GET / HTTP/1.1\r\nHo");
    let reply = slow.reply();
    assert_eq!((reply.status, reply.error()), (408, "request_timeout"));
    assert!(slow.is_closed());
    assert!(started.elapsed() >= Duration::from_secs(1));
    let mut idle = keyway.client();
    assert_eq!(idle.get("/").status, 200);
    assert!(idle.is_closed());
    assert!(started.elapsed() >= Duration::from_secs(3));
    assert_eq!(reached(&keyway, "head_wait"), 1);
    assert_eq!(reached(&keyway, "idle"), 1);
}

#[test]
fn a_shorter_idle_time_holds_for_who_is_idle_already() {
    let node = Node::start("a");
    let keyway = limited("idle: 1h", &node);
    let mut idle = keyway.client();
    assert_eq!(idle.get("/").status, 200);
    let text = std::fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    let text = text.replace("idle: 1h", "idle: 1s, head_wait: 1s");
    keyway.replace("keyway.yaml", &text);
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
    assert!(idle.is_closed());
    assert_eq!(reached(&keyway, "idle"), 1);
}

#[test]
fn one_connection_too_many_is_closed() {
    let node = Node::start("a");
    let keyway = limited("connections: 2", &node);
    let mut clients = [keyway.client(), keyway.client()];
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(keyway.client().is_closed());
    assert_eq!(reached(&keyway, "connections"), 1);
    let outcome = ["side=\"downstream\"", "outcome=\"limit\""];
    assert_eq!(keyway.count("keyway_connections_total", &outcome), 1);
    let [left, mut stays] = clients;
    drop(left);
    let open = ["side=\"downstream\""];
    until("a place", || {
        keyway.metric("keyway_connections", &open) == 1.0
    });
    assert_eq!(keyway.get("/").status, 200);
    assert_eq!(stays.get("/").status, 200);
}

#[test]
fn a_connection_brings_as_many_requests_as_it_may() {
    let node = Node::start("a");
    let keyway = limited("requests_per_connection: 3", &node);
    let mut client = keyway.client();
    for last in [false, false, true] {
        let reply = client.get("/");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.field("connection") == Some("close"), last);
    }
    assert!(client.is_closed());
    assert_eq!(reached(&keyway, "requests_per_connection"), 1);
}

#[tokio::test]
async fn an_http2_connection_too() {
    let node = Node::start("a");
    let keyway = limited("requests_per_connection: 3", &node);
    let mut sender = http2_client(&keyway).await;
    for _ in 0..3 {
        let request = Request::get("http://a/").body(Full::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap();
    }
    // GOAWAY, and the end of the connection.
    while sender.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(reached(&keyway, "requests_per_connection"), 1);
}

#[test]
fn an_old_connection_is_closed_with_its_next_answer() {
    let node = Node::start("a");
    let keyway = limited("connection_age: 1s", &node);
    let mut client = keyway.client();
    until("the end of the connection", || {
        client.get("/").field("connection") == Some("close")
    });
    assert!(client.is_closed());
    assert_eq!(reached(&keyway, "connection_age"), 1);
}

#[test]
fn bodies_are_as_large_as_they_may_be() {
    let node = Node::start("a");
    let keyway = limited("body_bytes: 1KiB", &node);
    let post = |framing: &str, body: &[u8]| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        let mut client = keyway.client();
        let reply = client.send([head.as_bytes(), body].concat()).reply();
        (reply.status, reply.error().to_owned())
    };
    let too_large = (413, "body_too_large".to_owned());
    assert_eq!(post("Content-Length: 1024", &[b'x'; 1024]).0, 200);
    assert_eq!(post("Content-Length: 1025", &[b'x'; 1025]), too_large);
    let chunked = |len: usize| {
        let mut body = format!("{len:x}\r\n").into_bytes();
        body.resize(body.len() + len, b'x');
        body.write_all(b"\r\n0\r\n\r\n").unwrap();
        post("Transfer-Encoding: chunked", &body)
    };
    assert_eq!(chunked(1024).0, 200);
    assert_eq!(chunked(1025), too_large);
    assert_eq!(reached(&keyway, "body_bytes"), 2);
    // A client's fault never counts against a node.
    let failed = ["class=\"error\""];
    assert_eq!(keyway.count("keyway_attempts_total", &failed), 0);
}

#[test]
fn little_of_an_unwanted_body_is_read() {
    let node = Node::scripted("a", |_| Then::Answer);
    let keyway = Keyway::start(
        "limits: { drain_bytes: 1KiB }\nroutes: [{ name: r, match: { path: /x }, key: path, cluster: c }]\n",
        &crate::support::topology(&[&[&node]]),
    );
    for (len, goes_on) in [(1024, true), (100_000, false), (1_000_000, false)] {
        let mut client = keyway.client();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
        client.send([head.into_bytes(), vec![b'x'; len]].concat());
        let reply = client.reply();
        assert_eq!(reply.error(), "no_route");
        assert_eq!(reply.field("connection") != Some("close"), goes_on, "{len}");
    }
    assert_eq!(reached(&keyway, "drain_bytes"), 2);
}

/// A keyway with these limits in front of a node of which `part` plays each connection.
fn before(limits: &str, part: fn(std::net::TcpStream)) -> Keyway {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = node.local_addr().unwrap();
    thread::spawn(move || {
        for stream in node.incoming() {
            thread::spawn(move || part(stream.unwrap()));
        }
    });
    Keyway::start(
        &format!(
            "threads: 1\nlimits: {{ {limits} }}\nroutes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n"
        ),
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{address}\" }}] }} }}\n"
        ),
    )
}

/// Answers before the request's body, half, and reads on.
fn answers_early(mut stream: std::net::TcpStream) {
    read_to(&mut stream, b"\r\n\r\n");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    stream.write_all(answer.as_bytes()).unwrap();
    let _end = std::io::copy(&mut stream, &mut std::io::sink());
}

/// What the client did not do is not held against the node, whose connection is closed.
fn assert_client_is_blamed(keyway: &Keyway) {
    keyway.until_idle();
    assert_eq!(
        keyway.count("keyway_attempts_total", &["class=\"aborted\""]),
        1
    );
    assert_eq!(keyway.count("keyway_attempts_total", &[]), 1);
    assert_eq!(keyway.count("keyway_retries_denied_total", &[]), 0);
    assert_eq!(
        keyway.count("keyway_node_standing", &["standing=\"healthy\""]),
        1
    );
    assert_eq!(
        keyway.count("keyway_connections", &["side=\"upstream\""]),
        0
    );
}

const HALF: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";

#[test]
fn a_client_that_stalls_in_its_body_is_told_so() {
    let node = Node::start("a");
    let keyway = limited("body_wait: 500ms", &node);
    let started = Instant::now();
    let mut client = keyway.client();
    let reply = client.send(HALF).reply();
    assert_eq!((reply.status, reply.error()), (408, "request_timeout"));
    assert!(client.is_closed());
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert_eq!(reached(&keyway, "body_wait"), 1);
    assert_client_is_blamed(&keyway);
    assert!(node.requests().is_empty());
}

#[test]
fn a_body_may_take_its_time_while_it_moves() {
    let node = Node::start("a");
    let keyway = limited("body_wait: 500ms", &node);
    let mut client = keyway.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for _ in 0..10 {
        // The pause is what is tested.
        thread::sleep(Duration::from_millis(100));
        client.send("x");
    }
    assert_eq!(client.reply().status, 200);
    assert_eq!(reached(&keyway, "body_wait"), 0);
}

#[test]
fn a_client_that_stalls_after_the_answer_began_is_cut() {
    let keyway = before("body_wait: 500ms", answers_early);
    let reply = keyway.client().send(HALF).reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    assert!(!reply.whole);
    assert_eq!(reached(&keyway, "body_wait"), 1);
    assert_client_is_blamed(&keyway);
    assert_eq!(
        keyway.count("keyway_requests_total", &["class=\"aborted\""]),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_of_http2_too() {
    let node = Node::start("a");
    let whole = limited("body_wait: 500ms", &node);
    let early = before("body_wait: 500ms", answers_early);
    for (keyway, answer) in [(&whole, 408), (&early, 200)] {
        let stream = tokio::net::TcpStream::connect(keyway.address)
            .await
            .unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let begun = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("hello")))]);
        let body = StreamBody::new(begun.chain(stream::pending()));
        let request = Request::put("http://a/").body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), answer);
        let ended = response.into_body().collect().await;
        assert_eq!(ended.is_ok(), answer == 408);
        assert_eq!(reached(keyway, "body_wait"), 1);
        assert_client_is_blamed(keyway);
    }
}

/// Waits until new requests are refused for what `holding` makes keyway hold; without it they are
/// answered again.
fn assert_sheds_while<T>(keyway: &Keyway, holding: impl FnOnce() -> T) {
    let held = holding();
    until("the budget is spent", || keyway.get("/small").status == 503);
    let reply = keyway.get("/small");
    assert_eq!((reply.status, reply.error()), (503, "overloaded"));
    assert!(reply.field("retry-after").is_some());
    assert!(keyway.metric("keyway_buffered_bytes", &[]) >= f64::from(1 << 20));
    assert!(reached(keyway, "buffered_bytes") > 0);
    drop(held);
    until("the budget is free", || keyway.get("/small").status == 200);
    until("nothing is held", || {
        keyway.metric("keyway_buffered_bytes", &[]) == 0.0
    });
}

/// A node that has more to say than anybody's buffers take.
fn verbose() -> Node {
    Node::scripted("a", |request| match request.target() {
        "/large" => Then::Flood(1 << 30),
        _ => Then::Answer,
    })
}

#[test]
fn new_requests_wait_for_slow_readers() {
    let node = verbose();
    let keyway = limited("buffered_bytes: 1MiB", &node);
    assert_sheds_while(&keyway, || {
        (0..8)
            .map(|_| {
                let mut client = keyway.client();
                client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
                client
            })
            .collect::<Vec<_>>()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn new_requests_wait_for_slow_readers_of_http2() {
    let node = verbose();
    let keyway = limited("buffered_bytes: 1MiB", &node);
    let mut sender = http2_client(&keyway).await;
    let mut responses = Vec::new();
    for _ in 0..8 {
        let request = Request::get("http://a/large").body(Full::default());
        responses.push(sender.send_request(request.unwrap()).await.unwrap());
    }
    assert_sheds_while(&keyway, || (sender, responses));
}

/// Of a response whose client opens its window wide and reads nothing keyway takes as much as it may
/// hold, and what the kernel holds of both connections.
#[test]
fn of_a_stream_that_is_not_read_little_is_held() {
    // SETTINGS with the widest window of a stream, the same for the connection, and GET /large.
    const REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\
        \0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0\
        \0\0\x0d\x01\x05\0\0\0\x01\x82\x86\x04\x06/large\x41\x01a";
    for (buffer, range) in [("64KiB", 0..24 << 20), ("48MiB", 48 << 20..72 << 20)] {
        let node = verbose();
        let keyway = limited(&format!("stream_buffer: {buffer}"), &node);
        let mut client = std::net::TcpStream::connect(keyway.address).unwrap();
        client.write_all(REQUEST).unwrap();
        until("the node cannot write", || node.flooded().1);
        let (taken, _) = node.flooded();
        assert!(range.contains(&taken), "{buffer}: {taken}");
    }
}

#[test]
fn new_requests_wait_for_stalled_uploads() {
    // A node that reads nothing of them.
    let node = Node::scripted("a", |_| Then::Answer);
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let keyway = Keyway::start(
        "threads: 1\nlimits: { buffered_bytes: 1MiB }\nroutes:\n\
         - { name: s, match: { path: /small }, key: path, cluster: c }\n\
         - { name: r, match: {}, key: path, cluster: deaf, timeout: 5s }\n",
        &format!(
            "{}  deaf: {{ nodes: [{{ id: d, address: \"{}\" }}] }}\n",
            crate::support::topology(&[&[&node]]),
            deaf.local_addr().unwrap()
        ),
    );
    assert_sheds_while(&keyway, || {
        let uploads = (0..8).map(|_| {
            let mut client = keyway.client();
            client.send("PUT /large HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
            client
                .stream
                .set_write_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            while client.stream.write(&[b'x'; 16 << 10]).is_ok() {}
            client
        });
        uploads.collect::<Vec<_>>()
    });
}

/// Lets the process have no descriptor above those that it has.
fn bound_descriptors(keyway: &Keyway) {
    let open = std::fs::read_dir(format!("/proc/{}/fd", keyway.pid())).unwrap();
    let open = open.map(|it| it.unwrap().file_name().into_string().unwrap());
    let numbers = open.map(|it| it.parse::<u64>().unwrap());
    let bound = numbers.max().unwrap() + 1;
    let pid = format!("--pid={}", keyway.pid());
    let limited = Command::new("prlimit")
        .args([pid, format!("--nofile={bound}:{bound}")])
        .status();
    assert!(limited.unwrap().success());
}

#[test]
fn out_of_descriptors_it_serves_on_and_recovers_by_itself() {
    let node = Node::start("a");
    let other = Node::start("b");
    let keyway = Keyway::start(
        "threads: 1\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &crate::support::topology(&[&[&node], &[&other]]),
    );
    let key = |id: &str| {
        let mut keys = (0..100).map(|at| format!("/{at}"));
        keys.find(|it| keyway.get(it).node() == id).unwrap()
    };
    let (known, unknown) = (key("a"), key("b"));
    // Nothing is kept to b: asking it takes a new connection.
    other.close_connections();
    let mut served: Vec<_> = (0..5).map(|_| keyway.client()).collect();
    for client in &mut served {
        assert_eq!(client.get(&known).status, 200);
    }
    let mut early = served.pop().unwrap();
    until("every other connection is closed", || {
        keyway.count("keyway_connections", &["side=\"downstream\""]) == 5
            && keyway.count("keyway_connections", &["side=\"upstream\""]) == 1
    });
    bound_descriptors(&keyway);
    let complaints = || {
        let events = keyway.events();
        let mut found = events.iter().map(|it| &it["message"]);
        found
            .by_ref()
            .filter(|it| *it == "nothing can be accepted")
            .count()
    };
    let began = Instant::now();
    let mut late = Vec::new();
    until("it has no more", || {
        late.push(keyway.client());
        complaints() > 0
    });
    late.push(keyway.client());
    let reply = early.get(&unknown);
    assert_eq!((reply.status, reply.error()), (503, "overloaded"));
    for _ in 0..3 {
        // The pause is what is tested: time for it to complain again.
        thread::sleep(Duration::from_millis(150));
        assert_eq!(early.get(&known).status, 200);
    }
    // One of the thread, and one of the admin server.
    assert!(complaints() <= 2);
    let mut last = late.pop().unwrap();
    drop((served, late));
    assert_eq!(last.get(&known).status, 200);
    assert_eq!(keyway.get(&unknown).node(), "b");
    let failed = ["outcome=\"failed\""];
    let downstream = ["side=\"downstream\"", failed[0]];
    let failures = keyway.count("keyway_connections_total", &downstream);
    // One in 100 ms, and what the first ones met.
    let most = 3 + began.elapsed().as_millis() / 100;
    assert!(
        (1..=most).contains(&(failures as u128)),
        "{failures} in {most}"
    );
    assert!(
        keyway.count(
            "keyway_connections_total",
            &["side=\"upstream\"", failed[0]]
        ) > 0
    );
    let healthy = ["standing=\"healthy\""];
    assert_eq!(keyway.count("keyway_node_standing", &healthy), 2);
}

/// RFC 9113 6.5.2: what an HTTP/2 client is told when its connection begins.
#[test]
fn http2_clients_are_told_their_limits() {
    let node = Node::start("a");
    let keyway = limited("streams: 7", &node);
    let mut stream = std::net::TcpStream::connect(keyway.address).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).unwrap();
    let (settings, []) = settings.as_chunks::<6>() else {
        panic!("settings have six bytes each");
    };
    let setting = |id| {
        settings
            .iter()
            .find(|it| it[..2] == [0, id])
            .map(|it| &it[2..])
    };
    assert_eq!(setting(3), Some(&[0, 0, 0, 7][..]), "streams");
    // What is read of one, so that what exceeds the limit is told so, and counted.
    assert_eq!(setting(6), Some(&[0, 1, 0, 0][..]), "the size of heads");
}
