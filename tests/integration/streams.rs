//! What an HTTP/2 client's streams are told before their responses, and what h2 answers itself.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::task::Poll;
use std::thread;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};

use crate::support::{Keyway, Node, Then, read_to, topology, until};

const ROUTES: &str = "threads: 1\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n";

/// A keyway in front of a node that plays `part` on each connection.
fn with_node(part: impl Fn(TcpStream) + Send + 'static) -> Keyway {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            part(stream);
        }
    });
    Keyway::start(
        ROUTES,
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{address}\" }}] }} }}\n"
        ),
    )
}

async fn client(keyway: &Keyway) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(keyway.address)
        .await
        .unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn put() -> http::request::Builder {
    Request::put("http://app.test/k")
}

/// The next 1xx response.
async fn interim(response: &mut ResponseFuture) -> Response<()> {
    let told = poll_fn(|cx| response.poll_informational(cx)).await;
    told.expect("something comes before the response").unwrap()
}

async fn body(response: Response<h2::RecvStream>) -> Vec<u8> {
    let (mut stream, mut read) = (response.into_body(), Vec::new());
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    read
}

#[tokio::test]
async fn informational_responses_pass_by_http2_too() {
    let node = Node::scripted("a", |_| {
        Then::Send(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 9\r\nConnection: x\r\nX: y\r\n\r\n\
             HTTP/1.1 100 Continue\r\n\r\n\
             HTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
                .into(),
        )
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut sender = client(&keyway).await;
    for _ in 0..2 {
        sender = sender.ready().await.unwrap();
        let request = Request::get("http://app.test/k").body(()).unwrap();
        let (mut response, _) = sender.send_request(request, true).unwrap();
        let hints = interim(&mut response).await;
        assert_eq!(hints.status(), StatusCode::EARLY_HINTS);
        assert_eq!(hints.headers()["link"], "</a.css>");
        for none in ["content-length", "connection", "x"] {
            assert!(!hints.headers().contains_key(none), "{none}");
        }
        // Nobody asked to be told to go on.
        let second = interim(&mut response).await;
        assert_eq!(second.status(), StatusCode::PROCESSING);
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(body(response).await, b"hello");
    }
    assert_eq!(node.accepted(), 1);
}

/// h2 keeps what its client does not take.
#[tokio::test]
async fn informational_responses_of_a_stream_have_a_bound() {
    let long = "x".repeat(5 << 10);
    let node = Node::scripted("a", move |_| {
        let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: <{long}>\r\n\r\n").repeat(10);
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        Then::Send([hints.as_bytes(), last.as_bytes()].concat())
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut sender = client(&keyway).await;
    let request = Request::get("http://app.test/k").body(()).unwrap();
    let (mut response, _) = sender.send_request(request, true).unwrap();
    let mut hints = 0;
    let count = poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(_))) = response.poll_informational(cx) {
            hints += 1;
        }
        Pin::new(&mut response).poll(cx)
    });
    assert_eq!(count.await.unwrap().status(), StatusCode::OK);
    assert_eq!(hints, 3);
}

/// Sends `hello` once told to, and asserts how it is told and answered.
async fn assert_told(keyway: &Keyway, from: Option<&str>) {
    let mut sender = client(keyway).await;
    let request = put().header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut upload) = sender.send_request(request, false).unwrap();
    let told = interim(&mut response).await;
    assert_eq!(told.status(), StatusCode::CONTINUE);
    let said = told.headers().get("x-from").map(|it| it.to_str().unwrap());
    assert_eq!(said, from);
    upload.send_data("hello".into(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
}

/// Reads a chunk of `hello` and answers, saying `first` before it.
fn takes_hello(mut stream: TcpStream, first: &[u8]) {
    let head = read_to(&mut stream, b"\r\n\r\n").to_ascii_lowercase();
    assert!(head.contains("expect: 100-continue"), "{head}");
    stream.write_all(first).unwrap();
    read_to(&mut stream, b"hello\r\n0\r\n\r\n");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer).unwrap();
    let _until_closed = stream.read(&mut [0]);
}

#[tokio::test]
async fn the_nodes_own_100_is_passed_on_by_http2() {
    let told = b"HTTP/1.1 100 Continue\r\nX-From: node\r\n\r\n";
    let keyway = with_node(|stream| takes_hello(stream, told));
    assert_told(&keyway, Some("node")).await;
}

#[tokio::test]
async fn a_client_by_http2_is_told_to_go_on_when_the_node_does_not_say() {
    let keyway = with_node(|stream| takes_hello(stream, b""));
    assert_told(&keyway, None).await;
}

/// The body is more than both windows, and what was read of it makes room.
#[tokio::test]
async fn a_large_upload_by_http2_arrives() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut sender = client(&keyway).await;
    let (response, mut upload) = sender.send_request(put().body(()).unwrap(), false).unwrap();
    let mut left = Bytes::from(vec![b'u'; 3 << 20]);
    while !left.is_empty() {
        upload.reserve_capacity(left.len());
        let room = poll_fn(|cx| upload.poll_capacity(cx)).await;
        let piece = left.split_to(room.unwrap().unwrap().min(left.len()));
        upload.send_data(piece, false).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    upload.send_trailers(trailers).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    assert_eq!(node.requests()[0].body.len(), 3 << 20);
}

const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;
const GET: &[u8] = b"\x82\x86\x84\x41\x01a";

const END_HEADERS: u8 = 4;
const WHOLE: u8 = END_HEADERS | 1;

/// HEADERS of a request.
fn head(flags: u8, stream: u8, block: &[u8]) -> Vec<u8> {
    let len = u32::try_from(block.len()).unwrap().to_be_bytes();
    [&len[1..], &[HEADERS, flags, 0, 0, 0, stream], block].concat()
}

/// A field in HPACK, as a literal without indexing (RFC 7541 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let len = |it: &str| [u8::try_from(it.len()).unwrap()];
    [
        &[0],
        &len(name)[..],
        name.as_bytes(),
        &len(value),
        value.as_bytes(),
    ]
    .concat()
}

/// Sends `first` and a GET on one connection; the types of the frames that answer the first stream.
fn answers(keyway: &Keyway, flags: u8, first: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(keyway.address).unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let sent = [&preface[..], &head(flags, 1, first), &head(WHOLE, 3, GET)].concat();
    connection.write_all(&sent).unwrap();
    let (mut answers, mut is_second_answered) = (Vec::new(), false);
    while answers.is_empty() || !is_second_answered {
        let mut head = [0; 9];
        connection.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        connection.read_exact(&mut payload).unwrap();
        match (head[3], head[8]) {
            (GOAWAY, _) => panic!("the connection ends"),
            (kind, 1) => answers.push(kind),
            (HEADERS, 3) => is_second_answered = true,
            _ => {}
        }
    }
    answers
}

#[test]
fn a_connect_with_a_length_costs_its_own_stream_alone() {
    let node = Node::start("a");
    let keyway = Keyway::start(ROUTES, &topology(&[&[&node]]));
    let connect = [
        literal(":method", "CONNECT"),
        literal(":authority", "a:443"),
        literal("content-length", "5"),
    ];
    let refused = |reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        keyway.count("keyway_errors_total", &[&reason])
    };
    assert_eq!(answers(&keyway, END_HEADERS, &connect.concat())[0], HEADERS);
    until("the count", || refused("method_not_allowed") == 1);
    // A tunnel is as long as it lasts.
    let websocket = [
        literal(":method", "CONNECT"),
        literal(":protocol", "websocket"),
        literal(":scheme", "http"),
        literal(":path", "/"),
        literal(":authority", "a"),
        literal("sec-websocket-version", "13"),
        literal("content-length", "5"),
    ];
    assert_eq!(
        answers(&keyway, END_HEADERS, &websocket.concat())[0],
        HEADERS
    );
    until("the count", || refused("bad_request") == 1);
    assert_eq!(node.requests().len(), 2, "those of the other streams");
}

/// A head that h2 does not hold, made of a field that is sent once and named 600 times.
#[test]
fn heads_that_h2_refuses_are_counted() {
    let node = Node::start("a");
    let keyway = Keyway::start(ROUTES, &topology(&[&[&node]]));
    let mut large = GET.to_vec();
    large.extend([0x40, 1, b'x', 100]);
    large.extend([b'v'; 100]);
    large.extend([0xbe; 600]);
    assert_eq!(answers(&keyway, WHOLE, &large)[0], HEADERS);
    let limit = ["limit=\"head_bytes\""];
    until("the count", || {
        keyway.count("keyway_limits_reached_total", &limit) == 1
    });
    let reason = ["reason=\"headers_too_large\""];
    assert_eq!(keyway.count("keyway_errors_total", &reason), 1);
    until("both requests", || {
        keyway.count("keyway_requests_total", &[]) == 2
    });
    assert_eq!(keyway.count("keyway_requests_total", &["class=\"4xx\""]), 1);
}
