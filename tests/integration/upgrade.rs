//! Connections that become tunnels: WebSocket by a real library on both ends, and the bytes around it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message, handshake};
use tokio_tungstenite::{WebSocketStream, accept_async, accept_hdr_async, connect_async};

use crate::support::{Client, Keyway, Node, Then, read_to, until};

const OFFER: &str = "GET /k HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: chat/2, h2c, H2C/1\r\n\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat/2\r\nX-Chat: yes\r\n\r\n";

/// A keyway with these settings in front of a node that plays `part` on its first connection.
fn with_node(
    settings: &str,
    route: &str,
    part: impl FnOnce(TcpStream) + Send + 'static,
) -> (Keyway, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let node = thread::spawn(move || part(listener.accept().unwrap().0));
    let keyway = Keyway::start(
        &format!(
            "{settings}routes: [{{ name: r, match: {{}}, key: path, cluster: c, {route} }}]\n"
        ),
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{address}\" }}] }} }}\n"
        ),
    );
    (keyway, node)
}

/// What a stream brings to its end.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset ends it too.
    let _end = stream.read_to_end(&mut rest);
    rest
}

#[test]
fn bytes_pass_both_ways_once_the_node_has_switched() {
    let (keyway, node) = with_node("", "", |mut stream| {
        let head = read_to(&mut stream, b"\r\n\r\n").to_ascii_lowercase();
        assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        // Of what the client offers, h2c is nobody's.
        assert!(head.contains("\r\nupgrade: chat/2\r\n"), "{head}");
        // Nothing of the tunnel is here before the node has switched.
        stream.set_nonblocking(true).unwrap();
        assert!(stream.read(&mut [0]).is_err());
        stream.set_nonblocking(false).unwrap();
        stream.write_all(&[SWITCH, b"welcome"].concat()).unwrap();
        assert_eq!(read_to(&mut stream, b"early late"), "early late");
        // The client's end comes through, and what is said after it.
        assert_eq!(rest(&mut stream), b"");
        stream.write_all(&vec![b'x'; 300_000]).unwrap();
    });
    let mut client = TcpStream::connect(keyway.address).unwrap();
    client
        .write_all(&[OFFER.as_bytes(), b"early"].concat())
        .unwrap();
    let head = read_to(&mut client, b"\r\n\r\n").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for field in ["connection: upgrade", "upgrade: chat/2", "x-chat: yes"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{head}");
    }
    for not in ["content-length", "transfer-encoding", "connection: close"] {
        assert!(!head.contains(not), "{head}");
    }
    assert_eq!(read_to(&mut client, b"welcome"), "welcome");
    let in_flight = ["route=\"r\""];
    assert_eq!(keyway.metric("keyway_requests_in_flight", &in_flight), 1.0);
    client.write_all(b" late").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client).len(), 300_000);
    node.join().unwrap();
    keyway.until_idle();
    assert_eq!(keyway.count("keyway_requests_total", &["class=\"1xx\""]), 1);
    assert_eq!(keyway.count("keyway_attempts_total", &["class=\"1xx\""]), 1);
}

#[test]
fn a_node_that_does_not_switch_answers_and_what_follows_is_http() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let offer = OFFER.replace("/k", "/k/1");
    let mut client = keyway.client();
    client.send(format!("{offer}{}", offer.replace("/k/1", "/k/2")));
    for _ in 0..2 {
        assert_eq!(client.reply().status, 200);
    }
    let seen = node.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].line, "GET /k/2 HTTP/1.1");
    assert_eq!(seen[0].connection, seen[1].connection, "it is kept");
}

#[test]
fn what_is_no_offer_is_not_passed_on() {
    let node = Node::start("a");
    let plain = Keyway::sharded("", &[&[&node]]);
    let h2c = "GET /k/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
               Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    let body = "POST /k/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                Content-Length: 2\r\n\r\nhi";
    let unnamed = "GET /k/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let old = "GET /k/ HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for request in [h2c, body, unnamed, old] {
        assert_eq!(
            plain.client().send(request).reply().status,
            200,
            "{request}"
        );
    }
    for seen in node.requests() {
        assert_eq!(seen.field("upgrade"), None, "{}", seen.line);
        assert_eq!(seen.field("http2-settings"), None, "{}", seen.line);
    }
}

#[test]
fn a_listener_may_let_no_other_protocol_in() {
    let node = Node::start("a");
    let topology = crate::support::topology(&[&[&node]]);
    let keyway = Keyway::start(
        "listeners: [{ name: app, address: \"127.0.0.1:0\", websocket: false }]\n\
         routes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &topology,
    );
    assert_eq!(keyway.client().send(OFFER).reply().status, 200);
    assert_eq!(node.requests()[0].field("upgrade"), None);
}

#[test]
fn a_silent_tunnel_ends_and_one_that_moves_either_way_does_not() {
    let (keyway, node) = with_node("", "idle_timeout: 2s", |mut stream| {
        read_to(&mut stream, b"\r\n\r\n");
        stream.write_all(SWITCH).unwrap();
        // Only the client moves, for longer than the timeout.
        assert_eq!(read_to(&mut stream, b"done"), "..........done");
        assert_eq!(rest(&mut stream), b"");
    });
    let mut client = TcpStream::connect(keyway.address).unwrap();
    client.write_all(OFFER.as_bytes()).unwrap();
    read_to(&mut client, b"\r\n\r\n");
    for _ in 0..10 {
        client.write_all(b".").unwrap();
        // The pause is what is tested.
        thread::sleep(std::time::Duration::from_millis(250));
    }
    client.write_all(b"done").unwrap();
    assert_eq!(rest(&mut client), b"");
    node.join().unwrap();
    keyway.until_idle();
}

#[test]
fn a_tunnel_lasts_through_the_drain_and_no_longer() {
    // Who connects while the door is being closed is refused by the kernel's next try, a second later.
    let settings = "pre_drain: 0s\ndrain_timeout: 4s\n";
    let (mut keyway, node) = with_node(settings, "", |mut stream| {
        read_to(&mut stream, b"\r\n\r\n");
        stream.write_all(SWITCH).unwrap();
        assert_eq!(read_to(&mut stream, b"still here"), "still here");
        stream.write_all(b"so am I").unwrap();
        rest(&mut stream);
    });
    let mut client = TcpStream::connect(keyway.address).unwrap();
    client.write_all(OFFER.as_bytes()).unwrap();
    read_to(&mut client, b"\r\n\r\n");
    keyway.signal("-TERM");
    until("refused connections", || {
        TcpStream::connect(keyway.address).is_err()
    });
    client.write_all(b"still here").unwrap();
    assert_eq!(read_to(&mut client, b"so am I"), "so am I");
    assert_eq!(rest(&mut client), b"");
    assert!(keyway.wait().success());
    node.join().unwrap();
}

#[test]
fn a_client_that_is_gone_ends_the_tunnel() {
    let (keyway, node) = with_node("", "", |mut stream| {
        read_to(&mut stream, b"\r\n\r\n");
        stream.write_all(SWITCH).unwrap();
        rest(&mut stream);
    });
    let mut client = Client::connect(keyway.address);
    client.send(OFFER);
    assert_eq!(client.reply().status, 101);
    drop(client);
    node.join().unwrap();
    keyway.until_idle();
}

#[tokio::test]
async fn websocket_by_a_real_library_on_both_ends() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    let keyway = Keyway::start(
        "routes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{address}\" }}] }} }}\n"
        ),
    );
    let (mut socket, response) = connect_async(format!("ws://{}/chat", keyway.address))
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    for len in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let message = Message::binary(vec![7; len]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message, "{len}");
    }
    socket.send(Message::text("grüße")).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("grüße")
    );
    socket.send(Message::Ping(vec![1].into())).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Pong(vec![1].into())
    );
    socket.close(None).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_close());
    assert!(matches!(
        socket.next().await,
        None | Some(Err(Error::ConnectionClosed))
    ));
    keyway.until_idle();
    assert_eq!(keyway.count("keyway_requests_total", &["class=\"1xx\""]), 1);
}

/// A keyway with these settings in front of the node at `address`.
fn in_front_of(settings: &str, address: std::net::SocketAddr) -> Keyway {
    Keyway::start(
        settings,
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{address}\" }}] }} }}\n"
        ),
    )
}

const ANY: &str = "routes: [{ name: r, match: {}, key: path, cluster: c }]\n";

/// An HTTP/2 client that knows what its server allows.
async fn http2_client(keyway: &Keyway) -> http2::SendRequest<Empty<Bytes>> {
    let stream = tokio::net::TcpStream::connect(keyway.address).await;
    let stream = TokioIo::new(stream.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let options = Request::options("http://a/").body(Empty::new()).unwrap();
    sender.send_request(options).await.unwrap();
    sender
}

/// An extended CONNECT (RFC 8441 section 4).
fn extended_connect(protocol: &'static str) -> Request<Empty<Bytes>> {
    Request::connect("http://a/chat")
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap()
}

/// A node that echoes what comes by WebSocket, and the heads of its requests.
#[expect(
    clippy::result_large_err,
    reason = "the shape of tungstenite's callback"
)]
async fn echo_node() -> (std::net::SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            let note = move |request: &handshake::server::Request, response| {
                log.lock().unwrap().push(format!("{request:?}"));
                Ok(response)
            };
            tokio::spawn(async move {
                // What is no WebSocket is not answered.
                let Ok(mut socket) = accept_hdr_async(stream, note).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    (address, seen)
}

type Http2Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn websocket(keyway: &Keyway) -> Http2Socket {
    let mut sender = http2_client(keyway).await;
    let response = sender.send_request(extended_connect("websocket")).await;
    let mut response = response.unwrap();
    assert_eq!(response.status(), 200);
    for not in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(not), "{not}");
    }
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let stream = TokioIo::new(upgraded);
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

#[tokio::test]
async fn websocket_by_http2_reaches_a_node_by_http1() {
    let (address, seen) = echo_node().await;
    let keyway = in_front_of(ANY, address);
    let mut socket = websocket(&keyway).await;
    for len in [0, 1, 125, 65_536, 1_000_000] {
        let message = Message::binary(vec![7; len]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message, "{len}");
    }
    assert_eq!(
        keyway.metric("keyway_requests_in_flight", &["route=\"r\""]),
        1.0
    );
    socket.close(None).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_close());
    let seen = seen.lock().unwrap().concat();
    assert!(
        seen.contains("method: GET, uri: /chat, version: HTTP/1.1"),
        "{seen}"
    );
    drop(socket);
    keyway.until_idle();
    assert_eq!(keyway.count("keyway_requests_total", &["class=\"1xx\""]), 1);
    assert_eq!(keyway.count("keyway_attempts_total", &["class=\"1xx\""]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_websocket_of_http2_ends() {
    let (address, _) = echo_node().await;
    let route = "routes: [{ name: r, match: {}, key: path, cluster: c, idle_timeout: 500ms }]\n";
    let keyway = in_front_of(route, address);
    let mut socket = websocket(&keyway).await;
    assert!(!matches!(socket.next().await, Some(Ok(_))));
    keyway.until_idle();
    assert_eq!(
        keyway.count("keyway_attempts_total", &["class=\"aborted\""]),
        1
    );
}

#[test]
fn a_websocket_client_of_http2_that_is_gone_ends_the_tunnel() {
    let nodes = Runtime::new().unwrap();
    let (address, _) = nodes.block_on(echo_node());
    let keyway = in_front_of(ANY, address);
    let clients = Runtime::new().unwrap();
    let first = clients.block_on(websocket(&keyway));
    drop(first);
    keyway.until_idle();
    let _second = clients.block_on(websocket(&keyway));
    // Its connection ends without a word.
    drop(clients);
    keyway.until_idle();
}

/// What an extended CONNECT is answered, and why.
async fn refused(keyway: &Keyway, protocol: &'static str) -> (u16, String) {
    let mut sender = http2_client(keyway).await;
    let response = sender
        .send_request(extended_connect(protocol))
        .await
        .unwrap();
    let error = response.headers()["x-keyway-error"].to_str().unwrap();
    (response.status().as_u16(), error.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_connect_that_leads_nowhere_is_refused() {
    let node = Node::start("a");
    let plain = in_front_of(ANY, node.address);
    let because = |status, error: &str| (status, error.to_owned());
    // A node that answers something else, and one that has not understood.
    let protocol = because(502, "upstream_protocol");
    assert_eq!(refused(&plain, "websocket").await, protocol);
    let seen = node.requests().pop().unwrap();
    assert_eq!(seen.line, "GET /chat HTTP/1.1");
    assert_eq!(seen.field("upgrade"), Some("websocket"));
    assert_eq!(seen.field("connection"), Some("upgrade"));
    node.script(|_| {
        let wrong = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket";
        Then::Send(format!("{head}\r\n{wrong}\r\n\r\n").into())
    });
    assert_eq!(refused(&plain, "websocket").await, protocol);
    let unknown = because(501, "unsupported_coding");
    assert_eq!(refused(&plain, "connect-udp").await, unknown);
    let by_http2 = in_front_of(
        &format!("{ANY}clusters: {{ c: {{ protocol: h2 }} }}\n"),
        node.address,
    );
    assert_eq!(refused(&by_http2, "websocket").await, unknown);
    // Who is not told that it may does not.
    let closed = "listeners: [{ name: app, address: \"127.0.0.1:0\", websocket: false }]\n";
    let closed = in_front_of(&format!("{closed}{ANY}"), node.address);
    let mut sender = http2_client(&closed).await;
    assert!(
        sender
            .send_request(extended_connect("websocket"))
            .await
            .is_err()
    );
}
