//! Bodies on their way through: framing, size, pace, and every way in which they can break.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Keyway, Node, Request, Then, until};

const MIB: usize = 1 << 20;

/// What keyway may hold of bodies of any size.
const MEMORY: usize = 64 * MIB;

const CHUNKED_PUT: &str = "PUT /k HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";

fn requests(keyway: &Keyway, class: &str) -> usize {
    let class = format!("class=\"{class}\"");
    keyway.count("keyway_requests_total", &["route=\"r\"", &class])
}

fn attempts(keyway: &Keyway, class: &str) -> usize {
    let class = format!("class=\"{class}\"");
    keyway.count("keyway_attempts_total", &["node=\"a\"", &class])
}

/// Whether nothing that happened was held against the node.
fn assert_no_blame(keyway: &Keyway) {
    keyway.until_idle();
    assert_eq!(attempts(keyway, "error"), 0);
    let healthy = ["node=\"a\"", "standing=\"healthy\""];
    assert_eq!(keyway.count("keyway_node_standing", &healthy), 1);
}

/// A node that answers everything with `response`.
fn sending(response: &'static str) -> Node {
    Node::scripted("a", move |_| Then::Send(response.into()))
}

/// A node that answers everything with `response` and closes.
fn closing(response: &'static str) -> Node {
    Node::scripted("a", move |_| Then::SendAndClose(response.into()))
}

/// A keyway in front of a node that a test plays itself.
fn keyway_to(node: &TcpListener, route: &str) -> Keyway {
    let address = node.local_addr().unwrap();
    Keyway::start(
        &format!(
            "routes:\n  - {{ name: r, match: {{}}, key: path, cluster: c, {route} }}\n\
             clusters: {{ c: {{}} }}\n"
        ),
        &format!(
            "version: 1\nclusters:\n  c:\n    shards:\n      - name: s0\n        \
             nodes: [{{ id: a, address: \"{address}\" }}]\n"
        ),
    )
}

fn send_chunked(client: &mut Client, body: &[u8]) {
    client.send(CHUNKED_PUT);
    for chunk in body.chunks(64 << 10) {
        client.send(format!("{:x}\r\n", chunk.len()));
        client.send(chunk).send("\r\n");
    }
    client.send("0\r\n\r\n");
}

#[test]
fn a_request_keeps_its_framing() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    assert_eq!(client.ask("PUT", "/k", &[], b"hello").status, 200);
    send_chunked(&mut client, b"chunks");
    assert_eq!(client.reply().status, 200);
    // Nothing to send is framed in neither way.
    assert_eq!(client.get("/k").status, 200);
    // A length of nothing says that nothing comes.
    let reply = client.ask("POST", "/k", &[("Content-Length", "0")], b"");
    assert_eq!(reply.status, 200);

    let [sized, chunked, bare, empty] = node.requests().try_into().unwrap();
    assert_eq!(sized.field("content-length"), Some("5"));
    assert_eq!(sized.field("transfer-encoding"), None);
    assert_eq!(sized.body, b"hello");
    assert_eq!(chunked.field("content-length"), None);
    assert_eq!(chunked.field("transfer-encoding"), Some("chunked"));
    assert_eq!(chunked.body, b"chunks");
    assert_eq!(bare.field("content-length"), None);
    assert_eq!(bare.field("transfer-encoding"), None);
    assert_eq!(empty.field("content-length"), Some("0"));
}

#[test]
fn a_response_keeps_its_framing() {
    for (response, length, coding) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Some("5"),
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            None,
            Some("chunked"),
        ),
    ] {
        let node = sending(response);
        let keyway = Keyway::sharded("", &[&[&node]]);
        let mut client = keyway.client();
        for _ in 0..3 {
            let reply = client.get("/k");
            assert_eq!((reply.text().as_str(), reply.whole), ("hello", true));
            assert_eq!(reply.field("content-length"), length);
            assert_eq!(reply.field("transfer-encoding"), coding);
        }
        assert_eq!(node.accepted(), 1);
        keyway.until_idle();
        assert_eq!((requests(&keyway, "2xx"), attempts(&keyway, "2xx")), (3, 3));
    }
}

#[test]
fn a_response_delimited_by_close_ends_whole() {
    let node = closing("HTTP/1.1 200 OK\r\n\r\nhello");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    for _ in 0..2 {
        let reply = client.get("/k");
        assert_eq!((reply.text().as_str(), reply.whole), ("hello", true));
        assert_eq!(reply.field("transfer-encoding"), Some("chunked"));
    }
    keyway.until_idle();
    assert_eq!(attempts(&keyway, "2xx"), 2);
}

#[test]
fn large_bodies_stream_through() {
    let node = Node::scripted("a", |request| match request.method() {
        "GET" => Then::Flood(20 * MIB),
        _ => Then::Answer,
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    let body: Vec<u8> = (0..=250).cycle().take(20 * MIB).collect();
    assert_eq!(client.ask("PUT", "/k", &[], &body).status, 200);
    send_chunked(&mut client, &body);
    assert_eq!(client.reply().status, 200);
    for request in node.requests() {
        assert!(request.body == body, "the body changed on its way");
    }
    let reply = client.get("/k");
    assert!(reply.whole);
    assert_eq!(reply.body.len(), 20 * MIB);
    assert!(keyway.peak_memory() < MEMORY, "{}", keyway.peak_memory());
    keyway.until_idle();
}

#[test]
fn a_client_that_does_not_read_holds_the_node_back() {
    let node = Node::scripted("a", |_| Then::Flood(48 * MIB));
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
    until("the node cannot write", || node.flooded().1);
    // The kernel's buffers of two connections are all that fills.
    assert!(node.flooded().0 < 40 * MIB, "{}", node.flooded().0);
    assert!(keyway.peak_memory() < MEMORY, "{}", keyway.peak_memory());
    assert_eq!(keyway.count("keyway_node_in_flight", &[]), 1);
    // When it reads at last, it gets everything.
    let reply = client.reply();
    assert_eq!((reply.body.len(), reply.whole), (48 * MIB, true));
    keyway.until_idle();
}

#[test]
fn a_client_that_reads_nothing_is_cut_at_the_idle_timeout() {
    let node = Node::scripted("a", |_| Then::Flood(1024 * MIB));
    let route = "key: \"path:key\", idle_timeout: 500ms";
    let keyway = Keyway::keyed(route, "", &[&[&node]]);
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
    keyway.until_idle();
    assert_eq!(requests(&keyway, "aborted"), 1);
    assert!(!client.reply().whole);
}

#[test]
fn a_client_that_goes_away_while_the_node_writes_frees_it() {
    let node = Node::scripted("a", |_| Then::Flood(1024 * MIB));
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
    until("the node cannot write", || node.flooded().1);
    drop(client);
    keyway.until_idle();
    assert_eq!(requests(&keyway, "aborted"), 1);
    assert_eq!(attempts(&keyway, "aborted"), 1);
    assert_no_blame(&keyway);
}

#[test]
fn a_client_that_goes_away_frees_a_node_that_is_silent() {
    // Before the head, and in the middle of the body.
    for response in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"] {
        let node = sending(response);
        let keyway = Keyway::sharded("attempt_timeout: 60s", &[&[&node]]);
        let mut client = keyway.client();
        client.send("GET /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
        until("the node is asked", || node.requests().len() == 1);
        assert_eq!(keyway.count("keyway_node_in_flight", &[]), 1);
        drop(client);
        keyway.until_idle();
        assert_eq!(requests(&keyway, "aborted"), 1);
        assert_eq!(attempts(&keyway, "aborted"), 1);
        assert_no_blame(&keyway);
    }
}

#[test]
fn a_response_that_breaks_off_is_never_whole() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZ\r\n",
    ] {
        let node = closing(response);
        let keyway = Keyway::sharded("", &[&[&node]]);
        let reply = keyway.get("/k");
        assert_eq!((reply.status, reply.whole), (200, false), "{response:?}");
        keyway.until_idle();
        assert_eq!(requests(&keyway, "error"), 1, "{response:?}");
        assert_eq!(attempts(&keyway, "error"), 1, "{response:?}");
        // The head was on its way: nothing could be tried again.
        assert_eq!(node.requests().len(), 1);
    }
}

#[test]
fn an_http_1_0_client_sees_the_difference_between_an_end_and_a_break() {
    for (response, whole) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhello", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false),
    ] {
        let node = closing(response);
        let keyway = Keyway::sharded("", &[&[&node]]);
        let mut client = keyway.client();
        let reply = client
            .send("GET /k HTTP/1.0\r\nHost: app.test\r\n\r\n")
            .reply();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.field("transfer-encoding"), None);
        assert_eq!(reply.whole, whole, "{response:?}");
        keyway.until_idle();
        assert_eq!(requests(&keyway, "error"), usize::from(!whole));
        assert_eq!(attempts(&keyway, "error"), usize::from(!whole));
    }
}

#[test]
fn a_node_that_dies_in_its_body_is_seen_by_the_client() {
    let node = sending("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
    until("the node is asked", || node.requests().len() == 1);
    let mut answered = false;
    until("the node answered", || {
        answered |= keyway.count("keyway_attempt_duration_seconds_count", &[]) == 1;
        answered
    });
    node.kill();
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.whole), ("hello", false));
    keyway.until_idle();
    assert_eq!(requests(&keyway, "error"), 1);
}

#[test]
fn a_client_that_expects_100_gets_it_and_sends_its_body() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    for _ in 0..2 {
        client.send("PUT /k HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(client.reply().status, 100);
        let reply = client.send("hello").reply();
        assert_eq!((reply.status, reply.node()), (200, "a"));
    }
    for request in node.requests() {
        assert_eq!(request.body, b"hello");
    }
}

#[test]
fn a_client_that_expects_100_is_not_asked_for_a_body_that_goes_nowhere() {
    let node = Node::down("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    client.send(
        "PUT /k HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    assert_eq!(client.reply().status, 503);
}

#[test]
fn another_expectation_fails() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let reply = keyway
        .client()
        .ask("PUT", "/k", &[("Expect", "200-ok")], b"hello");
    assert_eq!((reply.status, reply.error()), (417, "expectation_failed"));
    assert_eq!(node.requests().len(), 0);
}

#[test]
fn responses_without_a_body_have_none() {
    let node = Node::scripted("a", |request| {
        let head = match request.target() {
            "/k/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/k/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 5\r\n\r\n",
            _ => return Then::Answer,
        };
        Then::Send(head.into())
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    let reply = client.ask("HEAD", "/k", &[], b"");
    assert_eq!((reply.status, reply.node()), (200, "a"));
    // What GET would bring.
    assert_eq!(reply.field("content-length"), Some("1"));
    let reply = client.get("/k/204");
    assert_eq!(reply.status, 204);
    assert_eq!(reply.field("content-length"), None);
    assert_eq!(reply.field("transfer-encoding"), None);
    let reply = client.get("/k/304");
    assert_eq!((reply.status, reply.field("etag")), (304, Some("\"1\"")));
    // Nothing was left over on either connection.
    let reply = client.get("/k");
    assert_eq!((reply.status, reply.text().as_str()), (200, "a"));
    assert_eq!(node.accepted(), 1);
    keyway.until_idle();
    assert_eq!((requests(&keyway, "2xx"), requests(&keyway, "3xx")), (3, 1));
    assert_eq!((attempts(&keyway, "2xx"), attempts(&keyway, "3xx")), (3, 1));
}

#[test]
fn trailers_reach_a_client_that_takes_them() {
    let node = sending(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    let reply = client.ask("GET", "/k", &[("TE", "trailers")], b"");
    assert!(reply.whole);
    assert_eq!(reply.text().to_ascii_lowercase(), "hello[trailer x-sum: 7]");
    let reply = client.get("/k");
    assert_eq!((reply.text().as_str(), reply.whole), ("hello", true));
}

#[test]
fn a_stalled_response_ends_at_the_idle_timeout() {
    let node = sending("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    let keyway = Keyway::keyed("key: \"path:key\", idle_timeout: 500ms", "", &[&[&node]]);
    let started = Instant::now();
    let reply = keyway.get("/k");
    assert_eq!((reply.text().as_str(), reply.whole), ("hello", false));
    assert!(started.elapsed() >= Duration::from_millis(450));
    assert!(started.elapsed() < Duration::from_secs(5));
    keyway.until_idle();
    assert_eq!(requests(&keyway, "error"), 1);
    assert_eq!(attempts(&keyway, "error"), 1);
}

#[test]
fn a_stalled_upload_is_not_the_fault_of_the_node_that_answered() {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let keyway = keyway_to(&node, "idle_timeout: 500ms");
    let mut client = keyway.client();
    client.send(CHUNKED_PUT).send("5\r\nhello\r\n");
    let (mut stream, _) = node.accept().unwrap();
    crate::support::read_to(&mut stream, b"hello");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    stream.write_all(answer.as_bytes()).unwrap();
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.whole), ("hello", false));
    assert_no_blame(&keyway);
    assert_eq!(
        (requests(&keyway, "aborted"), attempts(&keyway, "aborted")),
        (1, 1)
    );
}

#[test]
fn a_client_that_stalls_in_its_upload_is_too_slow_and_the_node_is_not() {
    let node = Node::start("a");
    let keyway = Keyway::keyed("key: \"path:key\", timeout: 500ms", "", &[&[&node]]);
    let mut client = keyway.client();
    client.send("PUT /k HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello");
    let reply = client.reply();
    assert_eq!((reply.status, reply.error()), (408, "request_timeout"));
    // The rest of the body could be taken for a request.
    assert!(client.is_closed());
    assert_no_blame(&keyway);
    assert_eq!(attempts(&keyway, "aborted"), 1);
    assert_eq!(node.requests().len(), 0);
}

#[test]
fn a_node_that_does_not_read_an_upload_is_too_slow_and_the_client_is_not() {
    let node = TcpListener::bind("127.0.0.1:0").unwrap();
    let keyway = keyway_to(&node, "timeout: 2s");
    let mut client = keyway.client();
    client.send(CHUNKED_PUT);
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let chunk = [b"10000\r\n", &vec![b'x'; 64 << 10][..], b"\r\n"].concat();
    let mut written = 0;
    let error = loop {
        match client.stream.write(&chunk[written % chunk.len()..]) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
        assert!(written < 40 * MIB, "nothing holds the client back");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(keyway.peak_memory() < MEMORY, "{}", keyway.peak_memory());
    let reply = client.reply();
    assert_eq!((reply.status, reply.error()), (504, "timeout"));
    keyway.until_idle();
    assert_eq!(attempts(&keyway, "error"), 1);
}

#[test]
fn a_client_that_spoils_its_body_is_to_blame() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    client.send(CHUNKED_PUT).send("5\r\nhello\r\nZZ\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.error()), (400, "bad_request"));
    assert!(client.is_closed());
    assert_no_blame(&keyway);
    assert_eq!(attempts(&keyway, "aborted"), 1);
    assert_eq!(node.requests().len(), 0);
}

#[test]
fn a_client_that_leaves_in_its_upload_is_to_blame() {
    for half_closed in [false, true] {
        let node = Node::start("a");
        let keyway = Keyway::sharded("", &[&[&node]]);
        let mut client = keyway.client();
        client.send("PUT /k HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello");
        until("the node is reached", || node.accepted() == 1);
        client.stream.shutdown(Shutdown::Write).unwrap();
        if half_closed {
            // It may still hear of it.
            until("the upload ended", || attempts(&keyway, "aborted") == 1);
        }
        drop(client);
        until("the upload ended", || attempts(&keyway, "aborted") == 1);
        assert_no_blame(&keyway);
        assert_eq!(node.requests().len(), 0);
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_reaches_the_client() {
    // The client still sends when it is there, or waits for it before it sends on.
    for patient in [true, false] {
        let node = TcpListener::bind("127.0.0.1:0").unwrap();
        let keyway = keyway_to(&node, "timeout: 10s");
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = node.accept().unwrap();
                let mut head = [0; 1024];
                assert!(stream.read(&mut head).unwrap() > 0);
                let answer = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
                stream.write_all(answer.as_bytes()).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                // As a careful node does: the rest is read, so that no reset overtakes the answer.
                let _gone = io::copy(&mut stream, &mut io::sink());
            });
            let mut client = keyway.client();
            let length = 8 * MIB;
            client.send(format!(
                "PUT /k HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n"
            ));
            client.send([b'x'; 1024]);
            if !patient {
                // keyway may close once it answered.
                let _gone = client.stream.write_all(&vec![b'x'; length - 1024]);
            }
            let reply = client.reply();
            assert_eq!((reply.status, reply.text().as_str()), (413, "big"));
            drop(client);
            keyway.until_idle();
            assert_eq!(attempts(&keyway, "4xx"), 1);
        });
    }
}

#[test]
fn requests_in_one_piece_are_answered_in_order() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let mut client = keyway.client();
    let targets: Vec<_> = (0..20).map(|at| format!("/k/{at}")).collect();
    let heads = targets
        .iter()
        .map(|it| format!("POST {it} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab"));
    client.send(heads.collect::<String>());
    for _ in &targets {
        assert_eq!(client.reply().status, 200);
    }
    let requests = node.requests();
    let seen: Vec<_> = requests.iter().map(Request::target).collect();
    assert_eq!(seen, targets);
    assert!(requests.iter().all(|it| it.body == b"ab"));
}
