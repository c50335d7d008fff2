//! A second node beside the first, for what takes longer than most.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, Then, until};

fn hedges(keyway: &Keyway, outcome: &str) -> usize {
    let outcome = format!("outcome=\"{outcome}\"");
    keyway.count("keyway_hedges_total", &[&outcome])
}

fn start(settings: &str, nodes: &[&Node]) -> Keyway {
    let settings = format!("prefer: order, attempt_timeout: 5s, {settings}");
    Keyway::sharded(&settings, &[nodes])
}

#[test]
fn the_second_node_answers_for_one_that_does_not_and_the_loser_is_let_go() {
    let (a, b) = (Node::scripted("a", |_| Then::Hang), Node::start("b"));
    let keyway = start("hedge: { after: 50ms }", &[&a, &b]);
    let started = Instant::now();
    let reply = keyway.get("/k");
    assert_eq!((reply.status, reply.node()), (200, "b"));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    assert_eq!((hedges(&keyway, "sent"), hedges(&keyway, "won")), (1, 1));
    let in_flight = || keyway.count("keyway_node_in_flight", &["node=\"a\""]);
    until("nothing at the loser", || in_flight() == 0);
    assert_eq!(keyway.count("keyway_failovers_total", &["rank=\"1\""]), 1);
    // Nobody is blamed for being second.
    assert_eq!(
        keyway.count("keyway_attempts_total", &["node=\"a\"", "class=\"error\""]),
        0
    );
    keyway.until_idle();
}

#[test]
fn the_first_to_succeed_counts_not_the_first_to_come_back() {
    const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
    let (a, b) = (
        Node::scripted("a", |_| Then::Hang),
        Node::scripted("b", |_| Then::Send(BUSY.to_vec())),
    );
    let keyway = start("hedge: { after: 20ms }", &[&a, &b]);
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nhost: x\r\n\r\n");
    until("the hedge at b is over", || {
        keyway.count("keyway_attempts_total", &["node=\"b\""]) == 1
    });
    // The first fails too now: then it is what the retry policy is asked about, and nobody is left.
    a.close_connections();
    assert_eq!(client.reply().status, 502);
    assert_eq!((hedges(&keyway, "sent"), hedges(&keyway, "won")), (1, 0));
    keyway.until_idle();
}

#[test]
fn what_is_not_safe_is_not_asked_twice() {
    let (a, b) = (Node::scripted("a", |_| Then::Hang), Node::start("b"));
    let keyway = start("hedge: { after: 1ms }", &[&a, &b]);
    let clients = ["POST", "PUT", "DELETE"].map(|method| {
        let mut client = keyway.client();
        client.send(format!(
            "{method} /k HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        ));
        client
    });
    until("all at a", || a.requests().len() == 3);
    assert_eq!((b.requests().len(), hedges(&keyway, "sent")), (0, 0));
    drop(clients);
}

#[test]
fn hedges_are_within_the_retry_budget() {
    let (a, b) = (Node::scripted("a", |_| Then::Hang), Node::start("b"));
    let budget = "retry: { budget: { ratio: 0%, min_per_second: 1, window: 1s } }";
    let keyway = start(&format!("hedge: {{ after: 20ms }}, {budget}"), &[&a, &b]);
    let mut clients: Vec<_> = (0..5).map(|_| keyway.client()).collect();
    for client in &mut clients {
        client.send("GET /k HTTP/1.1\r\nhost: x\r\n\r\n");
    }
    until("all decided", || {
        hedges(&keyway, "sent") + hedges(&keyway, "denied") == 5
    });
    assert!(hedges(&keyway, "sent") <= 2 && hedges(&keyway, "denied") >= 3);
    a.close_connections();
}

#[test]
fn p95_is_learned() {
    let turn = AtomicUsize::new(0);
    let a = Node::scripted("a", move |_| {
        if turn.fetch_add(1, Ordering::SeqCst) < 200 {
            Then::Answer
        } else {
            Then::Hang
        }
    });
    let b = Node::start("b");
    let keyway = start("hedge: { after: p95 }", &[&a, &b]);
    let mut client = keyway.client();
    // Until it knows how long answers take it asks nobody else; then some are slower than most.
    until("the first slow answer", || {
        assert_eq!(client.get("/k").status, 200);
        a.requests().len() > 200
    });
    until("a hedge that wins", || {
        let started = Instant::now();
        let reply = client.get("/k");
        reply.node() == "b" && started.elapsed() < Duration::from_secs(2)
    });
    assert!(hedges(&keyway, "won") > 0);
}
