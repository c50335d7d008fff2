//! HTTP/1.1 to the byte: what passes, what is refused, and what a connection is used for.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::{Client, Keyway, Node, Then, read_to, topology, until};

const GET: &str = "GET /k HTTP/1.1\r\nHost: app.test\r\n\r\n";

fn sending_all(response: &str) -> Node {
    let response = response.to_owned();
    Node::scripted("a", move |_| Then::Send(response.clone().into()))
}

fn sending(response: &'static str) -> Node {
    Node::scripted("a", move |_| Then::Send(response.into()))
}

/// A keyway in front of a node that plays `part` on its first connection.
fn with_node(part: impl FnOnce(TcpStream) + Send + 'static) -> Keyway {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || part(listener.accept().unwrap().0));
    Keyway::start(
        "routes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{address}\" }}] }} }}\n"
        ),
    )
}

#[test]
fn informational_responses_pass() {
    let node = sending(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 9\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    );
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    for _ in 0..2 {
        let hints = client.send(GET).reply();
        assert_eq!((hints.status, hints.field("link")), (103, Some("</a.css>")));
        assert_eq!(hints.field("content-length"), None);
        assert_eq!(client.reply().status, 102);
        assert_eq!(client.reply().text(), "hello");
    }
    assert_eq!(node.accepted(), 1);
    // HTTP/1.0 has none (RFC 9110 15.2).
    let reply = keyway.client().send("GET /k HTTP/1.0\r\n\r\n").reply();
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
}

#[test]
fn a_node_that_never_answers_at_last_is_no_http() {
    let node = Node::scripted("a", |_| {
        Then::Send("HTTP/1.1 102 Processing\r\n\r\n".repeat(100).into())
    });
    let keyway = Keyway::sharded("retry: { attempts: 1 }", &[&[&node]]);
    let mut client = keyway.client();
    client.send(GET);
    let last = loop {
        let reply = client.reply();
        if reply.status != 102 {
            break reply;
        }
    };
    assert_eq!((last.status, last.error()), (502, "upstream_protocol"));
}

#[test]
fn a_node_that_switches_protocols_unasked_is_no_http() {
    let node = sending("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
    let keyway = Keyway::sharded("retry: { attempts: 1 }", &[&[&node]]);
    let reply = keyway.get("/k");
    assert_eq!((reply.status, reply.error()), (502, "upstream_protocol"));
}

#[test]
fn the_nodes_own_100_is_passed_on() {
    let keyway = with_node(|mut stream| {
        let head = read_to(&mut stream, b"\r\n\r\n");
        assert!(head.contains("100-continue"), "{head}");
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\nX-From: node\r\n\r\n")
            .unwrap();
        let body = read_to(&mut stream, b"hello");
        assert_eq!(body, "hello");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let _until_closed = stream.read(&mut [0]);
    });
    let mut client = keyway.client();
    client.send("PUT /k HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let told = client.reply();
    assert_eq!((told.status, told.field("x-from")), (100, Some("node")));
    assert_eq!(client.send("hello").reply().status, 200);
}

#[test]
fn a_node_can_answer_without_wanting_the_body() {
    let keyway = with_node(|mut stream| {
        read_to(&mut stream, b"\r\n\r\n");
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
            .unwrap();
        let _until_closed = stream.read(&mut [0]);
    });
    let mut client = keyway.client();
    client.send("PUT /k HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.text().as_str()), (413, "big"));
    // Whether the body still comes cannot be known.
    assert_eq!(reply.field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn trailers_pass_unannounced_but_for_those_that_frame_or_authenticate() {
    let node = sending(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
         X-Sum: 7\r\nContent-Length: 1\r\nAuthorization: x\r\n\r\n",
    );
    let keyway = Keyway::sharded("", &[&[&node]]);
    let reply = keyway.client().ask("GET", "/k", &[("TE", "trailers")], b"");
    assert!(reply.whole);
    assert_eq!(reply.text().to_ascii_lowercase(), "hello[trailer x-sum: 7]");
}

#[test]
fn a_requests_trailers_reach_the_node() {
    let keyway = with_node(|mut stream| {
        read_to(&mut stream, b"\r\n\r\n");
        let body = read_to(&mut stream, b"\r\n\r\n").to_ascii_lowercase();
        assert_eq!(body, "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let _until_closed = stream.read(&mut [0]);
    });
    let mut client = keyway.client();
    client.send("PUT /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5;a=b\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n");
    assert_eq!(client.reply().status, 200);
}

#[test]
fn what_is_no_request_is_told_so_and_counted() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let long = "x".repeat(70_000);
    let cases = [
        (
            "GET /k HTTP/1.1\nHost: a\n\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "GET /k HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "GET /k HTTP/1.1\r\nHost: a\r\n b\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "GET /k HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "GET /k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"
                .to_owned(),
            400,
            "bad_request",
        ),
        (
            "GET /k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
            400,
            "bad_request",
        ),
        (
            "GET /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(),
            501,
            "unsupported_coding",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
            414,
            "target_too_long",
        ),
        (
            format!("GET /k HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"),
            431,
            "headers_too_large",
        ),
        (
            format!(
                "GET /k HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(101)
            ),
            431,
            "headers_too_large",
        ),
    ];
    for (request, status, error) in &cases {
        let mut client = keyway.client();
        let reply = client.send(request).reply();
        assert_eq!(
            (reply.status, reply.error()),
            (*status, *error),
            "{request:.60}"
        );
        assert!(reply.whole);
        assert_eq!(reply.field("connection"), Some("close"));
        assert!(client.is_closed());
    }
    assert!(node.requests().is_empty());
    let bad = ["route=\"\"", "reason=\"bad_request\""];
    assert_eq!(keyway.count("keyway_errors_total", &bad), 6);
    // A sound request before it is answered as ever.
    let mut client = keyway.client();
    client.send(format!("{GET}nonsense\r\n\r\n"));
    assert_eq!(client.reply().status, 200);
    assert_eq!(client.reply().status, 400);
}

#[test]
fn messages_may_come_byte_by_byte() {
    let keyway = with_node(|mut stream| {
        stream.set_nodelay(true).unwrap();
        for _ in 0..2 {
            let request = read_to(&mut stream, b"\r\n0\r\n\r\n");
            // In as many chunks as keyway found bytes waiting.
            let (_head, chunks) = request.split_once("\r\n\r\n").unwrap();
            let data: String = chunks.split("\r\n").skip(1).step_by(2).collect();
            assert_eq!(data, "hello");
            let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                            5\r\nworld\r\n0\r\n\r\n";
            for byte in response.bytes() {
                stream.write_all(&[byte]).unwrap();
            }
        }
        let _until_closed = stream.read(&mut [0]);
    });
    let mut client = keyway.client();
    client.stream.set_nodelay(true).unwrap();
    let request = "PUT /k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    for _ in 0..2 {
        for byte in request.bytes() {
            client.send([byte]);
        }
        let reply = client.reply();
        assert_eq!((reply.text().as_str(), reply.whole), ("world", true));
    }
}

#[test]
fn persistence_is_what_both_sides_said() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    for (head, connection) in [
        ("GET /k HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (
            "GET /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Some("close"),
        ),
        (
            "GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            Some("keep-alive"),
        ),
        ("GET /k HTTP/1.0\r\n\r\n", None),
    ] {
        let mut client = keyway.client();
        let reply = client.send(head).reply();
        assert_eq!(
            (reply.status, reply.field("connection")),
            (200, connection),
            "{head}"
        );
        let goes_on = connection == Some("keep-alive") || head.contains("1.1\r\nHost: a\r\n\r\n");
        if goes_on {
            assert_eq!(client.send(head).reply().status, 200);
        } else {
            assert!(client.is_closed(), "{head}");
        }
    }
    // A node that closes is not asked twice on one connection.
    let node = Node::scripted("a", |_| {
        Then::SendAndClose(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into(),
        )
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    for _ in 0..3 {
        assert_eq!(client.send(GET).reply().status, 200);
    }
    assert_eq!(node.accepted(), 3);
}

#[test]
fn a_date_is_added_where_there_is_none() {
    let node = Node::scripted("a", |request| match request.target() {
        "/dated" => Then::Send(
            "HTTP/1.1 200 Fine\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"
                .into(),
        ),
        _ => Then::Answer,
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let dates = |target| {
        let reply = keyway.get(target);
        let dates = reply.fields.iter().filter(|it| it.0 == "date");
        dates.map(|it| it.1.clone()).collect::<Vec<_>>()
    };
    assert_eq!(dates("/dated"), ["Sun, 06 Nov 1994 08:49:37 GMT"]);
    assert!(matches!(&dates("/k")[..], [date] if date.ends_with(" GMT")));
}

#[test]
fn http2_is_known_by_its_preface_even_in_pieces() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    client.stream.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.send([*byte]);
    }
    // An empty SETTINGS frame (RFC 9113 6.5).
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let mut frame = [0; 9];
    client.stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "the server's SETTINGS come first");
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let node = Node::start("a");
    let keyway = Keyway::start(
        "threads: 1\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &topology(&[&[&node]]),
    );
    assert_eq!(keyway.get("/k").status, 200);
    let before = keyway.peak_memory();
    let clients: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = keyway.client();
            assert_eq!(client.send(GET).reply().status, 200);
            client
        })
        .collect();
    let each = (keyway.peak_memory() - before) / clients.len();
    assert!(each < 8 << 10, "{each} bytes for an idle connection");
}

#[test]
fn a_client_that_ends_its_half_has_left() {
    let node = Node::scripted("a", |_| Then::Hang);
    let keyway = Keyway::sharded("attempt_timeout: 60s", &[&[&node]]);
    let mut client = keyway.client();
    client.send(GET);
    client
        .stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_closed());
    keyway.until_idle();
    assert_eq!(
        keyway.count("keyway_requests_total", &["class=\"aborted\""]),
        1
    );
}

#[test]
fn a_slow_answer_takes_nothing_of_the_wait_for_the_next_request() {
    // Longer than from one look at who waits too long to the next but one.
    const LONG: Duration = Duration::from_millis(2200);
    let node = Node::scripted("a", |_| {
        thread::sleep(LONG);
        Then::Answer
    });
    let keyway = Keyway::sharded("attempt_timeout: 60s", &[&[&node]]);
    let mut client = keyway.client();
    assert_eq!(client.send(GET).reply().status, 200);
    client.stream.set_read_timeout(Some(LONG)).unwrap();
    let ended = client.stream.read(&mut [0]);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::WouldBlock);
    client.stream.set_read_timeout(None).unwrap();
    assert_eq!(client.send(GET).reply().status, 200);
}

#[test]
fn what_follows_a_body_framed_wrongly_is_never_a_request() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    for chunks in [
        "5\r\nhello\r\n4Z\r\n\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX0\r\n\r\n",
    ] {
        let mut client = keyway.client();
        let head = "PUT /k HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!(
            "{head}{chunks}GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
        ));
        assert_eq!(client.reply().status, 400, "{chunks:?}");
        assert!(client.is_closed(), "{chunks:?}");
    }
    assert!(node.requests().is_empty());
}

#[test]
fn a_client_that_leaves_in_its_upload_has_left_after_the_head_too() {
    let keyway = with_node(|mut stream| {
        read_to(&mut stream, b"hello");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        let _until_closed = stream.read(&mut [0]);
    });
    let mut client = keyway.client();
    client.send("PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    // The head of the response is there before the client leaves.
    read_to(&mut client.stream, b"\r\n\r\n");
    drop(client);
    keyway.until_idle();
    let aborted = ["class=\"aborted\""];
    assert_eq!(keyway.count("keyway_requests_total", &aborted), 1);
    assert_eq!(keyway.count("keyway_attempts_total", &aborted), 1);
}

/// Two readings of one answer, or more of it than there may be.
#[test]
fn what_is_no_response_reaches_nobody() {
    const OK: &str = "Content-Length: 2\r\n\r\nok";
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n{OK}", "y".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}{OK}", "X: y\r\n".repeat(101));
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "hello",
        &large,
        &many,
    ] {
        let node = sending_all(response);
        let keyway = Keyway::sharded("retry: { attempts: 1 }", &[&[&node]]);
        for asked in 1..=2 {
            let reply = keyway.get("/k");
            let found = (reply.status, reply.error());
            assert_eq!(found, (502, "upstream_protocol"), "{:?}", node.requests());
            assert_eq!(node.accepted(), asked, "the connection is not used again");
        }
    }
}

/// A response ends where it says it does, and its connection with what comes after that.
#[test]
fn what_follows_a_response_is_never_the_next_one() {
    const FORGED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    for (method, head, body) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 57\r\n\r\n",
            "",
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 57\r\n\r\n", ""),
    ] {
        let node = sending_all(&[head, FORGED].concat());
        let keyway = Keyway::sharded("", &[&[&node]]);
        let mut client = keyway.client();
        for asked in 1..=3 {
            let request = format!("{method} /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
            let reply = client.send(request).reply_to(method);
            assert_eq!((reply.text().as_str(), reply.whole), (body, true), "{head}");
            assert_eq!(node.accepted(), asked, "{head}");
        }
    }
    // It may come later, while the connection waits for its next exchange.
    let (forge, forged) = std::sync::mpsc::channel::<()>();
    let (sent, is_sent) = std::sync::mpsc::channel::<()>();
    let keyway = with_node(move |mut stream| {
        read_to(&mut stream, b"\r\n\r\n");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        forged.recv().unwrap();
        stream.write_all(FORGED.as_bytes()).unwrap();
        sent.send(()).unwrap();
        // Other connections are taken by the kernel until the test ends.
        let _ended = forged.recv();
    });
    let mut client = keyway.client();
    assert_eq!(client.send(GET).reply().text(), "ok");
    let upstream = ["side=\"upstream\""];
    assert_eq!(keyway.count("keyway_connections", &upstream), 1);
    forge.send(()).unwrap();
    is_sent.recv().unwrap();
    // What came is not its answer: that is asked for on another connection.
    client.send(GET);
    until("the connection is given up", || {
        keyway.count("keyway_connections_total", &["outcome=\"ok\"", upstream[0]]) == 2
    });
}
