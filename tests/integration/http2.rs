//! HTTP/2 on either side, by hyper's client and a node of hyper's server.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{Keyway, Node, Then, find, read_to};

type Seen = Arc<Mutex<Vec<http::request::Parts>>>;

/// An HTTP/2 node that answers with its request's body, and trailers.
async fn echo_node() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            let service = service_fn(move |request: Request<Incoming>| {
                let log = Arc::clone(&log);
                async move {
                    let (parts, body) = request.into_parts();
                    log.lock().unwrap().push(parts);
                    let body = body.collect().await.unwrap().to_bytes();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    let frames = [Frame::data(body), Frame::trailers(trailers)];
                    let frames = frames.map(Ok::<_, Infallible>);
                    let body = StreamBody::new(futures_util::stream::iter(frames));
                    Ok::<_, Infallible>(Response::new(body))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, seen)
}

async fn client(address: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

fn topology(address: SocketAddr) -> String {
    format!(
        "version: 1\nclusters:\n  c:\n    shards:\n      - {{ name: s0, nodes: [{{ id: h2, address: \"{address}\" }}] }}\n"
    )
}

const ROUTES: &str = "routes:\n  - { name: r, match: {}, key: path, cluster: c }\n";

#[tokio::test]
async fn http2_clients_reach_http1_nodes() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut sender = client(keyway.address).await;
    for at in 0..3 {
        let request = Request::put(format!("http://app.test/{at}/x?q"))
            .body(Full::new(Bytes::from("hello")))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(
            (response.status(), response.version()),
            (StatusCode::OK, Version::HTTP_2)
        );
        assert_eq!(
            response.headers()["via"]
                .to_str()
                .unwrap()
                .split(' ')
                .next(),
            Some("1.1")
        );
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "a"
        );
    }
    let seen = node.requests();
    assert_eq!(seen[0].line, "PUT /0/x?q HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("app.test"));
    assert!(seen[0].field("via").unwrap().starts_with("2 keyway-"));
    assert_eq!(seen[2].body, b"hello");
    assert_eq!(
        seen[2].connection, seen[0].connection,
        "the connection is kept"
    );
}

#[tokio::test]
async fn grpc_goes_by_http2_with_its_trailers() {
    let (address, seen) = echo_node().await;
    let keyway = Keyway::start(ROUTES, &topology(address));
    let mut sender = client(keyway.address).await;
    let request = Request::post("http://app.test/pkg.Service/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(b"\0\0\0\0\x02hi")))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), &b"\0\0\0\0\x02hi"[..]);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].version, Version::HTTP_2);
    assert_eq!(seen[0].headers["te"], "trailers");
    assert_eq!(seen[0].uri.authority().unwrap(), "app.test");
    assert!(!seen[0].headers.contains_key("host"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_by_http2() {
    let receiver = crate::traces::receiver();
    let (address, seen) = echo_node().await;
    let traces = crate::traces::settings(&receiver, "0%");
    let keyway = format!("{traces}{ROUTES}clusters: {{ c: {{ protocol: h2 }} }}\n");
    let mut keyway = Keyway::start(&keyway, &topology(address));
    let mut sender = client(keyway.address).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for flags in ["01", "00"] {
        let request = Request::get("http://app.test/x")
            .header(
                "traceparent",
                format!("00-{trace}-00f067aa0ba902b7-{flags}"),
            )
            .header("tracestate", "a=1")
            .body(Full::default())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let request = Request::get("http://app.test/x").body(Full::default());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    crate::traces::end(&mut keyway);

    let (server, attempts) = crate::traces::one_request(&receiver);
    let [attempt] = &attempts[..] else {
        panic!("{attempts:?}");
    };
    assert_eq!(
        crate::traces::hex(&server.span.parent_span_id),
        "00f067aa0ba902b7"
    );
    assert_eq!(server.is("network.protocol.version"), "2");
    assert_eq!(server.is("server.address"), "app.test");
    assert_eq!(attempt.is("network.protocol.version"), "2");
    assert_eq!(attempt.span.parent_span_id, server.span.span_id);
    let seen = seen.lock().unwrap();
    let told = |at: usize| {
        let fields = &seen[at].headers;
        assert_eq!(fields.get_all("traceparent").iter().count(), 1);
        fields["traceparent"].to_str().unwrap().to_owned()
    };
    let id = crate::traces::hex(&attempt.span.span_id);
    assert_eq!(told(0), format!("00-{trace}-{id}-01"));
    assert_eq!(seen[0].headers["tracestate"], "a=1");
    assert_eq!(told(1), format!("00-{trace}-00f067aa0ba902b7-00"));
    assert_eq!(seen[1].headers["tracestate"], "a=1");
    assert!(told(2).ends_with("-00") && !told(2).contains(trace));
}

// The raw client blocks its thread; the node needs another.
#[tokio::test(flavor = "multi_thread")]
async fn http1_clients_reach_http2_nodes() {
    let (address, _) = echo_node().await;
    let keyway = Keyway::start(
        &format!("{ROUTES}clusters: {{ c: {{ protocol: h2 }} }}\n"),
        &topology(address),
    );
    let reply = keyway.client().ask("POST", "/k", &[], b"hello");
    assert_eq!(
        (reply.status, reply.text().as_str(), reply.whole),
        (200, "hello", true)
    );
    assert_eq!(
        keyway.metric("keyway_connections", &["side=\"upstream\""]),
        1.0
    );
}

#[tokio::test]
async fn errors_of_grpc_requests_are_all_head() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    node.kill();
    let mut sender = client(keyway.address).await;
    let request = Request::post("http://app.test/pkg.Service/Call")
        .header("content-type", "application/grpc+proto")
        .body(Full::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(response.headers()["x-keyway-error"], "no_healthy_node");
}

#[tokio::test]
async fn two_readings_of_the_authority_are_refused() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut sender = client(keyway.address).await;
    let request = Request::get("http://app.test/k")
        .header("host", "other.test")
        .body(Full::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(node.requests().is_empty());
}

#[tokio::test]
async fn many_streams_share_one_connection_each_way() {
    let (address, seen) = echo_node().await;
    let keyway = Keyway::start(
        &format!("{ROUTES}threads: 1\nclusters: {{ c: {{ protocol: h2 }} }}\n"),
        &topology(address),
    );
    let sender = client(keyway.address).await;
    let requests = (0..100).map(|at| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let body = Full::new(Bytes::from(vec![b'x'; 100 * at]));
            let request = Request::post(format!("http://app.test/{at}"))
                .body(body)
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .len()
        })
    });
    for (at, request) in requests.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(request.await.unwrap(), 100 * at);
    }
    assert_eq!(seen.lock().unwrap().len(), 100);
    assert_eq!(
        keyway.metric("keyway_connections", &["side=\"upstream\""]),
        1.0
    );
    assert_eq!(
        keyway.metric("keyway_connections", &["side=\"downstream\""]),
        1.0
    );
}

/// An HTTP/2 node whose handlers speak frames as they like, which hyper's would not.
async fn frame_node(
    answer: impl Fn(h2::server::SendResponse<Bytes>) + Clone + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_request, respond))) = connection.accept().await {
                    answer(respond);
                }
            });
        }
    });
    address
}

fn by_http2(address: SocketAddr) -> Keyway {
    let clusters = "clusters: { c: { protocol: h2, retry: { attempts: 1 } } }\n";
    Keyway::start(&format!("{ROUTES}{clusters}"), &topology(address))
}

#[tokio::test(flavor = "multi_thread")]
async fn data_after_a_204_is_not_the_next_response() {
    let address = frame_node(|mut respond| {
        let head = Response::builder().status(204).body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        let data = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
        stream.send_data(data.into(), true).unwrap();
    });
    let keyway = by_http2(address.await);
    let mut client = keyway.client();
    for _ in 0..3 {
        let reply = client.get("/k");
        assert_eq!(reply.status, 204);
        assert_eq!(reply.field("transfer-encoding"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reset_without_an_error_has_not_ended() {
    for length in [Some(100), None] {
        let read = Arc::new(Notify::new());
        let has_read = Arc::clone(&read);
        let address = frame_node(move |mut respond| {
            let mut head = Response::builder();
            if let Some(length) = length {
                head = head.header("content-length", length);
            }
            let head = head.body(()).unwrap();
            let mut stream = respond.send_response(head, false).unwrap();
            stream.send_data("hello".into(), false).unwrap();
            let has_read = Arc::clone(&has_read);
            tokio::spawn(async move {
                // A reset overtakes what was not read.
                has_read.notified().await;
                stream.send_reset(h2::Reason::NO_ERROR);
            });
        });
        let keyway = by_http2(address.await);
        let mut client = keyway.client();
        client.send("GET /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let mut received = Vec::new();
        while find(&received, b"hello").is_none() {
            let mut byte = [0];
            client.stream.read_exact(&mut byte).unwrap();
            received.push(byte[0]);
        }
        read.notify_one();
        client.stream.read_to_end(&mut received).unwrap();
        assert!(!received.ends_with(b"0\r\n\r\n"), "{length:?}");
        keyway.until_idle();
        let broken = ["class=\"error\""];
        assert_eq!(keyway.count("keyway_requests_total", &broken), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upload_is_not_the_fault_of_an_http2_node() {
    for (answers, status, class) in [(false, 408, "4xx"), (true, 200, "aborted")] {
        let address = frame_node(move |mut respond| {
            tokio::spawn(async move {
                let head = Response::builder().body(()).unwrap();
                let _open = answers.then(|| respond.send_response(head, false).unwrap());
                std::future::pending::<()>().await;
            });
        });
        let clusters = "clusters: { c: { protocol: h2 } }\nlimits: { body_wait: 500ms }\n";
        let keyway = Keyway::start(&format!("{ROUTES}{clusters}"), &topology(address.await));
        let mut client = keyway.client();
        client.send("PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
        let reply = client.reply();
        assert_eq!((reply.status, reply.whole), (status, !answers));
        keyway.until_idle();
        let count = |family, label: &str| keyway.count(family, &[label]);
        assert_eq!(count("keyway_attempts_total", "class=\"aborted\""), 1);
        assert_eq!(count("keyway_attempts_total", ""), 1);
        let class = format!("class=\"{class}\"");
        assert_eq!(count("keyway_requests_total", &class), 1);
        assert_eq!(
            count("keyway_limits_reached_total", "limit=\"body_wait\""),
            1
        );
    }
}

/// RFC 9113 8.2.3: a cookie may come in pieces, which HTTP/1.1 wants in one line.
#[tokio::test]
async fn pieces_of_a_cookie_come_together() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let request = Request::get("http://app.test/k/")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::default())
        .unwrap();
    let response = client(keyway.address).await.send_request(request).await;
    assert_eq!(response.unwrap().status(), StatusCode::OK);
    assert_eq!(node.requests()[0].field("cookie"), Some("a=1; b=2"));
}

#[tokio::test]
async fn keyways_own_answer_to_head_has_no_body() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let ask = |method: &'static str| {
        let address = keyway.address;
        async move {
            let request = Request::builder().method(method);
            let request = request.uri("http://app.test/").body(Full::default());
            let response = client(address).await.send_request(request.unwrap()).await;
            let (head, body) = response.unwrap().into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        }
    };
    let (got, body) = ask("GET").await;
    let (head, none) = ask("HEAD").await;
    assert_eq!(
        (got.status, head.status),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    assert!(!body.is_empty() && none.is_empty());
    assert_eq!(got.headers["content-type"], head.headers["content-type"]);
}

/// One length, said once: more lines of it are more readings of where the message ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_length_is_said_once_either_way() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let request = Request::post("http://app.test/k")
        .header("content-length", "5")
        .header("content-length", "5")
        .body(Full::new(Bytes::from("hello")))
        .unwrap();
    let response = client(keyway.address).await.send_request(request).await;
    assert_eq!(response.unwrap().status(), StatusCode::BAD_REQUEST);
    assert!(node.requests().is_empty());
    let address = frame_node(|mut respond| {
        let head = Response::builder()
            .header("content-length", "5")
            .header("content-length", "5");
        let mut stream = respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        stream.send_data("hello".into(), true).unwrap();
    });
    let reply = by_http2(address.await).get("/k");
    assert_eq!((reply.status, reply.error()), (502, "upstream_protocol"));
}

fn ends_with(trailers: &[(&'static str, &'static str)]) -> StreamBody<Frames> {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        map.insert(*name, value.parse().unwrap());
    }
    let frames = [Frame::data(Bytes::from("hello")), Frame::trailers(map)];
    let frames: Vec<_> = frames.into_iter().map(Ok).collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

type Frames = futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

/// RFC 9110 6.5.1: by HTTP/1.1 they would stand where fields do.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_that_frame_or_authenticate_do_not_pass() {
    const TRAILERS: [(&str, &str); 4] = [
        ("content-length", "9"),
        ("host", "b.test"),
        ("authorization", "x"),
        ("x-sum", "7"),
    ];
    let node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = node.local_addr().unwrap();
    let reading = std::thread::spawn(move || {
        let mut stream = node.accept().unwrap().0;
        read_to(&mut stream, b"\r\n\r\n");
        let body = read_to(&mut stream, b"\r\n\r\n");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        std::io::Write::write_all(&mut stream, answer).unwrap();
        body
    });
    let keyway = Keyway::start(ROUTES, &topology(address));
    let stream = TcpStream::connect(keyway.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://app.test/k").body(ends_with(&TRAILERS));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = reading.join().unwrap();
    assert_eq!(body, "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
    let address = frame_node(|mut respond| {
        let head = Response::new(());
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data("hello".into(), false).unwrap();
        let trailers = TRAILERS.map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        stream
            .send_trailers(trailers.into_iter().collect())
            .unwrap();
    });
    let keyway = by_http2(address.await);
    let reply = keyway.client().ask("GET", "/k", &[("TE", "trailers")], b"");
    assert_eq!(reply.text(), "hello[trailer x-sum: 7]");
}

/// `:authority` is held to what Host is, and the scheme to those that keyway speaks.
#[tokio::test]
async fn an_authority_is_one_by_http2_too() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    for (uri, status) in [
        ("http://app.test:80/k", 200),
        ("https://app.test/k", 200),
        ("http://[::1]:80/k", 200),
        ("http://app.test:x/k", 400),
        ("http://app.test:99999/k", 400),
        ("http://[zz]/k", 400),
        ("http://[::1]x/k", 400),
        ("http://u@app.test/k", 400),
        ("ftp://app.test/k", 400),
    ] {
        let request = Request::get(uri).body(Full::default()).unwrap();
        let response = client(keyway.address).await.send_request(request).await;
        assert_eq!(response.unwrap().status(), status, "{uri}");
    }
    assert_eq!(node.requests().len(), 3);
}

/// What a key is made of is what the node reads: HTTP/1.1 has no white space around a value.
#[tokio::test]
async fn white_space_around_a_value_is_no_part_of_it() {
    let node = Node::start("a");
    let routes = "routes: [{ name: r, match: { headers: { x-user: \"7\" } }, key: \"header:x-user\", cluster: c }]\n";
    let keyway = Keyway::start(routes, &topology(node.address));
    let request = Request::get("http://app.test/")
        .header("x-user", " 7\t")
        .header("x-empty", "  ")
        .body(Full::default());
    let response = client(keyway.address)
        .await
        .send_request(request.unwrap())
        .await;
    assert_eq!(response.unwrap().status(), StatusCode::OK);
    let bytes = node.requests()[0].clone();
    assert_eq!(bytes.field("x-user"), Some("7"));
    assert_eq!(bytes.field("x-empty"), Some(""));
}

/// RFC 9110 8.6: where there is no content, nobody says how long it is.
#[tokio::test]
async fn a_204_has_no_length_by_http2_too() {
    let node = Node::scripted("a", |_| {
        Then::Send("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".into())
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let request = Request::get("http://app.test/k").body(Full::default());
    let mut sender = client(keyway.address).await;
    let response = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(!response.headers().contains_key("content-length"));
}
