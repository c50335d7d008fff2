//! HTTP/2 connections that cost more than they bring, by frames written by hand: each is closed and
//! counted, and nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Keyway, Node, Then, topology, until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0x40;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;

/// GET and POST of `http://a/`, in HPACK (RFC 7541): indexed fields, and one literal.
const GET: &[u8] = b"\x82\x86\x84\x41\x01a";
const POST: &[u8] = b"\x83\x86\x84\x41\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()];
    [&head.concat(), payload].concat()
}

/// The stream that a client opens as its `at`th.
fn stream(at: u32) -> u32 {
    2 * at + 1
}

fn preface() -> Vec<u8> {
    [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(SETTINGS, 0, 0, b""),
    ]
    .concat()
}

/// The frames in `bytes`: type, stream and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, &[u8])> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, s0, s1, s2, s3, rest @ ..] = bytes {
        let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
        let (payload, rest) = rest.split_at(len.min(rest.len()));
        frames.push((*kind, stream, payload));
        bytes = rest;
    }
    frames
}

/// The code of the GOAWAY in `bytes`.
fn goaway(bytes: &[u8]) -> Option<u32> {
    let frames = frames(bytes);
    let (.., payload) = frames.iter().rfind(|it| it.0 == GOAWAY)?;
    payload[4..8].try_into().ok().map(u32::from_be_bytes)
}

/// Sends what `part` makes, 20 000 times or until the connection is closed; what came back.
fn flood(keyway: &Keyway, part: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut connection = TcpStream::connect(keyway.address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut reading = connection.try_clone().unwrap();
    // Answers that nobody reads would hold the flood back.
    let answers = thread::spawn(move || {
        let (mut answers, mut read) = (Vec::new(), [0; 4096]);
        while let Ok(1..) = reading
            .read(&mut read)
            .inspect(|&len| answers.extend(&read[..len]))
        {}
        answers
    });
    connection.write_all(&preface()).unwrap();
    let _closed = (0..20_000).try_for_each(|at| connection.write_all(&part(at)));
    answers.join().unwrap()
}

fn keyway(limits: &str, node: &Node) -> Keyway {
    Keyway::start(
        &format!(
            "threads: 1\nlimits: {{ {limits} }}\nroutes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\nclusters: {{ c: {{ attempt_timeout: 5s }} }}\n"
        ),
        &topology(&[&[node]]),
    )
}

fn counted(keyway: &Keyway) -> usize {
    let limit = ["limit=\"resets_per_second\""];
    keyway.count("keyway_limits_reached_total", &limit)
}

/// What makes a flood's next bytes.
type Part<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;

#[test]
fn each_flood_ends_its_connection_and_no_other() {
    let node = Node::start("a");
    let keyway = keyway("resets_per_second: 10", &node);
    let mut innocent = keyway.client();
    let get = |at| frame(HEADERS, END_HEADERS | END_STREAM, stream(at), GET);
    let first = |at, kind, flags, payload: &[u8], then: Vec<u8>| match at {
        0 => [frame(kind, flags, 1, payload), then].concat(),
        _ => then,
    };
    let floods: Vec<(&str, Part<'_>)> = vec![
        // CVE-2023-44487.
        (
            "rapid reset",
            Box::new(|at| {
                let cancel = frame(RST_STREAM, 0, stream(at), &[0, 0, 0, 8]);
                [get(at), cancel].concat()
            }),
        ),
        // CVE-2025-8671: a window may not be wider than 2^31-1 (RFC 9113 6.9.1).
        (
            "provoked resets",
            Box::new(|at| {
                let too_much = frame(WINDOW_UPDATE, 0, stream(at), &[0x7f, 0xff, 0xff, 0xff]);
                [get(at), too_much].concat()
            }),
        ),
        ("SETTINGS", Box::new(|_| frame(SETTINGS, 0, 0, b""))),
        ("PING", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        (
            "PRIORITY",
            Box::new(|at| frame(PRIORITY, 0, stream(at), &[0, 0, 0, 0, 1])),
        ),
        (
            "WINDOW_UPDATE",
            Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ),
        ("unknown frames", Box::new(|_| frame(UNKNOWN, 0, 0, b"x"))),
        (
            "empty DATA",
            Box::new(|at| first(at, HEADERS, END_HEADERS, POST, frame(DATA, 0, 1, b""))),
        ),
        (
            "CONTINUATION",
            Box::new(|at| first(at, HEADERS, 0, GET, frame(CONTINUATION, 0, 1, b""))),
        ),
    ];
    for (at, (name, part)) in floods.iter().enumerate() {
        let answers = flood(&keyway, part);
        assert_eq!(goaway(&answers), Some(ENHANCE_YOUR_CALM), "{name}");
        assert_eq!(counted(&keyway), at + 1, "{name}");
        assert_eq!(innocent.get("/").status, 200, "{name}");
    }
    keyway.until_idle();
    until("the end of the floods' connections", || {
        keyway.count("keyway_connections", &["side=\"downstream\""]) == 1
    });
}

#[test]
fn a_client_may_cancel_as_many_streams_as_it_may() {
    let node = Node::scripted("a", |_| Then::Hang);
    let keyway = keyway("", &node);
    let mut connection = TcpStream::connect(keyway.address).unwrap();
    let cancelled = (0..50).map(|at| {
        let get = frame(HEADERS, END_HEADERS | END_STREAM, stream(at), GET);
        [get, frame(RST_STREAM, 0, stream(at), &[0, 0, 0, 8])].concat()
    });
    let burst: Vec<_> = cancelled.collect();
    connection
        .write_all(&[preface(), burst.concat()].concat())
        .unwrap();
    node.script(|_| Then::Answer);
    let get = frame(HEADERS, END_HEADERS | END_STREAM, stream(50), GET);
    connection.write_all(&get).unwrap();
    let mut answers = Vec::new();
    while !frames(&answers).iter().any(|it| it.1 == stream(50)) {
        let mut read = [0; 4096];
        let len = connection.read(&mut read).unwrap();
        assert!(len > 0, "the connection is closed");
        answers.extend(&read[..len]);
    }
    assert_eq!(goaway(&answers), None);
    assert_eq!(counted(&keyway), 0);
}

/// The window of a stream is the client's to open; the connection's writes never stall by it.
#[test]
fn a_stream_that_is_not_read_is_reset_and_no_other() {
    let node = Node::scripted("a", |request| match request.method() {
        "GET" => Then::Flood(1 << 30),
        _ => Then::Answer,
    });
    let keyway = Keyway::start(
        "routes: [{ name: r, match: {}, key: path, cluster: c, idle_timeout: 500ms }]\n",
        &topology(&[&[&node]]),
    );
    let mut connection = TcpStream::connect(keyway.address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let get = frame(HEADERS, END_HEADERS | END_STREAM, 1, GET);
    connection.write_all(&[preface(), get].concat()).unwrap();
    let mut answers = Vec::new();
    let mut until_reset = |connection: &mut TcpStream, code: u8| {
        let is_reset = |it: &(u8, u32, &[u8])| it.0 == RST_STREAM && it.2 == [0, 0, 0, code];
        while !frames(&answers).iter().any(is_reset) {
            let mut read = [0; 4096];
            let len = connection.read(&mut read).unwrap();
            assert!(len > 0, "the connection is closed");
            answers.extend(&read[..len]);
        }
    };
    until_reset(&mut connection, 8);
    keyway.until_idle();
    for family in ["keyway_requests_total", "keyway_attempts_total"] {
        assert_eq!(keyway.count(family, &["class=\"aborted\""]), 1, "{family}");
        assert_eq!(keyway.count(family, &[]), 1, "{family}");
    }
    // The connection serves on: a small answer needs the connection's window alone.
    let options = frame(HEADERS, END_HEADERS | END_STREAM, 3, POST);
    connection.write_all(&options).unwrap();
    until("another answer", || {
        keyway.count("keyway_requests_total", &["method=\"POST\""]) == 1
    });
}

#[test]
fn streams_beyond_what_may_be_open_are_refused_and_counted() {
    let node = Node::scripted("a", |_| Then::Hang);
    let keyway = keyway("streams: 3", &node);
    let mut connection = TcpStream::connect(keyway.address).unwrap();
    let gets = (0..5).map(|at| frame(HEADERS, END_HEADERS | END_STREAM, stream(at), GET));
    let gets: Vec<_> = gets.collect();
    connection
        .write_all(&[preface(), gets.concat()].concat())
        .unwrap();
    let mut answers = Vec::new();
    let refused = |answers: &[u8]| {
        let frames = frames(answers).into_iter();
        let resets = frames.filter(|it| it.0 == RST_STREAM && it.2 == [0, 0, 0, 7]);
        resets.map(|it| it.1).collect::<Vec<_>>()
    };
    while refused(&answers).len() < 2 {
        let mut read = [0; 4096];
        let len = connection.read(&mut read).unwrap();
        assert!(len > 0, "the connection is closed");
        answers.extend(&read[..len]);
    }
    assert_eq!(refused(&answers), [stream(3), stream(4)]);
    let limit = ["limit=\"streams\""];
    until("both counted", || {
        keyway.count("keyway_limits_reached_total", &limit) == 2
    });
    assert_eq!(counted(&keyway), 0);
}

/// Windows are widened and pings answered as content moves.
#[tokio::test]
async fn a_busy_connection_is_no_flood() {
    let node = Node::scripted("a", |request| match request.target() {
        "/large" => Then::Flood(4 << 20),
        _ => Then::Answer,
    });
    let keyway = keyway("resets_per_second: 1", &node);
    let stream = tokio::net::TcpStream::connect(keyway.address)
        .await
        .unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 << 10);
    builder.initial_connection_window_size(16 << 10);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut get = async |target: &str| {
        let request = Request::get(format!("http://a{target}"));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len()
    };
    assert_eq!(get("/large").await, 4 << 20);
    for _ in 0..200 {
        assert_eq!(get("/").await, 1);
    }
    assert_eq!(counted(&keyway), 0);
}

#[test]
fn a_connection_without_a_stream_is_closed_in_time() {
    let node = Node::start("a");
    let keyway = keyway("idle: 2s", &node);
    let mut connection = TcpStream::connect(keyway.address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let get = frame(HEADERS, END_HEADERS | END_STREAM, 1, GET);
    connection.write_all(&[preface(), get].concat()).unwrap();
    let (mut answers, mut ponged) = (Vec::new(), false);
    loop {
        let mut read = [0; 4096];
        let len = connection.read(&mut read).unwrap();
        if len == 0 {
            break;
        }
        answers.extend(&read[..len]);
        let ping = frames(&answers).into_iter().find(|it| it.0 == PING);
        if let Some((.., payload)) = ping.filter(|_| !ponged) {
            let pong = frame(PING, 1, 0, payload);
            connection.write_all(&pong).unwrap();
            ponged = true;
        }
    }
    assert!(frames(&answers).iter().any(|it| it.0 == HEADERS));
    assert_eq!(goaway(&answers), Some(0));
    let limit = ["limit=\"idle\""];
    assert_eq!(keyway.count("keyway_limits_reached_total", &limit), 1);
}

#[tokio::test]
async fn a_connection_with_a_stream_is_not_idle() {
    let node = Node::scripted("a", |_| {
        // Longer than a connection may be idle.
        thread::sleep(Duration::from_secs(3));
        Then::Answer
    });
    let keyway = keyway("idle: 1s", &node);
    let stream = tokio::net::TcpStream::connect(keyway.address)
        .await
        .unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/").body(Full::<Bytes>::default());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let limit = ["limit=\"idle\""];
    assert_eq!(keyway.count("keyway_limits_reached_total", &limit), 0);
}

type Field<'a> = (&'a [u8], &'a [u8]);

/// A field in HPACK, as a literal without indexing (RFC 7541 6.2.2).
fn literal((name, value): Field<'_>) -> Vec<u8> {
    let len = |it: &[u8]| [u8::try_from(it.len()).unwrap()];
    [&[0][..], &len(name), name, &len(value), value].concat()
}

/// How h2 and keyway answer a request of these fields and this body on a connection of its own: by a
/// head, a reset or the connection's end.
fn answered(keyway: &Keyway, fields: &[Field<'_>], body: &[u8]) -> u8 {
    let mut connection = TcpStream::connect(keyway.address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let block: Vec<_> = fields.iter().copied().flat_map(literal).collect();
    let (flags, data) = match body {
        b"" => (END_STREAM, vec![]),
        body => (0, frame(DATA, END_STREAM, 1, body)),
    };
    let head = frame(HEADERS, END_HEADERS | flags, 1, &block);
    connection
        .write_all(&[preface(), head, data].concat())
        .unwrap();
    let mut answers = Vec::new();
    loop {
        let found = frames(&answers)
            .into_iter()
            .find_map(|(kind, stream, _)| (stream == 1 || kind == GOAWAY).then_some(kind));
        if let Some(kind @ (HEADERS | RST_STREAM | GOAWAY)) = found {
            return kind;
        }
        let mut read = [0; 4096];
        let len = connection.read(&mut read).unwrap();
        assert!(len > 0, "the connection is closed without a word");
        answers.extend(&read[..len]);
    }
}

/// What would be another request, or another field, where a node reads HTTP/1.1.
#[test]
fn nothing_is_smuggled_by_http2() {
    const SMUGGLED: &[u8] = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let node = Node::start("a");
    let keyway = keyway("", &node);
    let bad = |keyway: &Keyway| keyway.count("keyway_errors_total", &["reason=\"bad_request\""]);
    let pseudo = |method, path| -> [Field<'_>; 4] {
        [
            (b":method", method),
            (b":path", path),
            (b":scheme", b"http"),
            (b":authority", b"a"),
        ]
    };
    let refused: [Field<'_>; 7] = [
        (b"content-length", b"4"),
        (b"content-length", b"+43"),
        (b"content-length", b"43, 43"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
    ];
    for field in refused {
        let head = [&pseudo(b"POST", b"/")[..], &[field]].concat();
        assert_eq!(answered(&keyway, &head, SMUGGLED), RST_STREAM, "{field:?}");
    }
    for it in [&b"/ HTTP/1.1\r\nX: y"[..], b"/a b", b"/\0", b"a", b""] {
        let head = pseudo(b"GET", it);
        assert_eq!(answered(&keyway, &head, b""), RST_STREAM, "{it:?}");
    }
    assert_eq!(bad(&keyway), 0);
    // What h2 takes for no field ends the connection, and is counted as what is no HTTP/1.1 is.
    let mut ended = 0;
    let none: [Field<'_>; 8] = [
        (b"X-Upper", b"1"),
        (b"x: y\r\nz", b"1"),
        (b"x y", b"1"),
        (b"x:y", b"1"),
        (b"", b"1"),
        (b"x", b"1\r\nTransfer-Encoding: chunked"),
        (b"x", b"1\n"),
        (b"x", b"1\0"),
    ];
    for field in none {
        let head = [&pseudo(b"GET", b"/")[..], &[field]].concat();
        assert_eq!(answered(&keyway, &head, b""), GOAWAY, "{field:?}");
        ended += 1;
        until("the count", || bad(&keyway) == ended);
    }
    assert!(node.requests().is_empty());
    // A client that leaves is none of these.
    let left = TcpStream::connect(keyway.address).unwrap();
    (&left).write_all(&preface()).unwrap();
    drop(left);
    until("the end of all connections", || {
        keyway.count("keyway_connections", &["side=\"downstream\""]) == 0
    });
    assert_eq!(bad(&keyway), ended);
}
