//! The way down: unready first, nothing in flight is lost, and an end within the deadline.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Client, Keyway, Node, Then, topology, until};

/// A keyway whose node answers when the test lets it.
fn held(settings: &str) -> (Keyway, Node, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel();
    let held = std::sync::Mutex::new(held);
    let node = Node::scripted("a", move |_| {
        let _released = held.lock().unwrap().recv();
        Then::Answer
    });
    let keyway = Keyway::start(
        &format!("{settings}\nroutes:\n  - {{ name: r, match: {{}}, key: path, cluster: c }}\n"),
        &topology(&[&[&node]]),
    );
    (keyway, node, release)
}

fn in_flight(keyway: &Keyway) -> f64 {
    keyway.metric("keyway_requests_in_flight", &["route=\"r\""])
}

#[test]
fn what_is_in_flight_finishes_and_the_connection_is_closed() {
    let (mut keyway, _node, release) = held("pre_drain: 0s\ndrain_timeout: 8s");
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request in flight", || in_flight(&keyway) == 1.0);
    keyway.signal("-TERM");
    until("refused connections", || {
        std::net::TcpStream::connect(keyway.address).is_err()
    });
    assert_eq!(keyway.admin("GET", "/readyz", "").status, 503);
    assert_eq!(keyway.admin("GET", "/livez", "").status, 200);
    release.send(()).unwrap();
    let reply = client.reply();
    assert_eq!(
        (reply.status, reply.field("connection")),
        (200, Some("close"))
    );
    assert!(client.is_closed());
    assert!(keyway.wait().success());
}

#[test]
fn pre_drain_is_unready_and_still_accepts() {
    let (mut keyway, _node, release) = held("pre_drain: 60s\ndrain_timeout: 8s");
    let mut held_open = keyway.client();
    release.send(()).unwrap();
    assert_eq!(held_open.get("/k").status, 200);
    keyway.signal("-TERM");
    until("unready", || {
        keyway.admin("GET", "/readyz", "").status == 503
    });
    release.send(()).unwrap();
    assert_eq!(keyway.get("/k").status, 200);
    release.send(()).unwrap();
    assert_eq!(held_open.get("/k").status, 200);
    // It ends early when no connection is left.
    drop(held_open);
    assert!(keyway.wait().success());
}

/// An empty line before a request (RFC 9112 2.2) is none.
#[test]
fn an_empty_line_keeps_nobody_waiting() {
    let (mut keyway, _node, release) = held("pre_drain: 0s\ndrain_timeout: 60s");
    let mut client = keyway.client();
    release.send(()).unwrap();
    assert_eq!(client.get("/k").status, 200);
    client.send("\r\n");
    let asked = Instant::now();
    keyway.signal("-TERM");
    assert!(client.is_closed());
    assert!(keyway.wait().success());
    assert!(asked.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_does_not_finish_in_time_is_cut() {
    let (mut keyway, _node, _release) = held("pre_drain: 0s\ndrain_timeout: 300ms");
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
    // Clients that will never finish anything: half a head, half a body, half a preface.
    let stuck = [
        "GET /k HT",
        "PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let _stuck: Vec<Client> = stuck
        .into_iter()
        .map(|bytes| {
            let mut client = keyway.client();
            client.send(bytes);
            client
        })
        .collect();
    until("the requests in flight", || in_flight(&keyway) == 2.0);
    keyway.signal("-TERM");
    let began = Instant::now();
    assert!(keyway.wait().success());
    assert!(
        began.elapsed() < Duration::from_millis(1300),
        "{:?}",
        began.elapsed()
    );
    assert!(client.is_closed());
}

#[test]
fn a_second_signal_ends_it_now() {
    let (mut keyway, _node, _release) = held("pre_drain: 60s\ndrain_timeout: 60s");
    let _held_open = keyway.client();
    keyway.signal("-TERM");
    until("unready", || {
        keyway.admin("GET", "/readyz", "").status == 503
    });
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
}

#[test]
fn an_operator_can_ask_for_the_end() {
    let (mut keyway, _node, _release) = held("pre_drain: 0s\ndrain_timeout: 5s");
    assert_eq!(keyway.admin("POST", "/v1/shutdown", "").status, 202);
    assert!(keyway.wait().success());
}
