//! Nodes that leave rotation for what requests meet at them, and how they come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, Reply, Request, Then, until};

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

fn unavailable(_: &Request) -> Then {
    Then::Send(UNAVAILABLE.to_vec())
}

fn start(settings: &str, nodes: &[&Node]) -> Keyway {
    Keyway::sharded(&format!("prefer: order, {settings}"), &[nodes])
}

fn standing(keyway: &Keyway, node: &str, standing: &str) -> bool {
    let labels = [
        format!("node=\"{node}\""),
        format!("standing=\"{standing}\""),
    ];
    keyway.count("keyway_node_standing", &[&labels[0], &labels[1]]) == 1
}

fn ejections(keyway: &Keyway, reason: &str) -> usize {
    keyway.count("keyway_ejections_total", &[&format!("reason=\"{reason}\"")])
}

fn kept(keyway: &Keyway, reason: &str) -> usize {
    let reason = format!("reason=\"{reason}\"");
    keyway.count("keyway_ejections_denied_total", &[&reason])
}

#[test]
fn failures_in_a_row_eject_a_node_and_one_request_tries_it_anew() {
    let (a, b) = (Node::scripted("a", unavailable), Node::start("b"));
    let keyway = start(
        "eject: { consecutive: 3, base: 300ms, max: 300ms }",
        &[&a, &b],
    );
    let mut client = keyway.client();
    for _ in 0..10 {
        assert_eq!(client.get("/k").node(), "b");
    }
    assert_eq!(a.requests().len(), 3);
    assert!(standing(&keyway, "a", "ejected"));
    assert_eq!(ejections(&keyway, "consecutive"), 1);
    // Its time over, one request tries it, finds it no better, and it is out again.
    until("a second ejection", || {
        assert_eq!(client.get("/k").node(), "b");
        ejections(&keyway, "consecutive") == 2
    });
    assert_eq!(a.requests().len(), 4);
    a.script(|_| Then::Answer);
    until("a to be back", || client.get("/k").node() == "a");
    assert!(standing(&keyway, "a", "healthy"));
}

#[test]
fn an_answer_between_failures_keeps_a_node() {
    let turn = AtomicUsize::new(0);
    let a = Node::scripted("a", move |request| {
        if turn.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            Then::Answer
        } else {
            unavailable(request)
        }
    });
    let b = Node::start("b");
    let keyway = start("eject: { consecutive: 3, failure_rate: off }", &[&a, &b]);
    let mut client = keyway.client();
    for _ in 0..30 {
        assert_eq!(client.get("/k").status, 200);
    }
    assert_eq!(
        (a.requests().len(), ejections(&keyway, "consecutive")),
        (30, 0)
    );
}

#[test]
fn what_is_not_listed_does_not_count() {
    let (a, b) = (Node::scripted("a", unavailable), Node::start("b"));
    let keyway = start("eject: { consecutive: 1, on: [reset] }", &[&a, &b]);
    // One connection, so that one thread keeps one to each node.
    let mut client = keyway.client();
    for _ in 0..5 {
        assert_eq!(client.get("/k").node(), "b");
    }
    assert_eq!(a.requests().len(), 5);
    a.script(|_| Then::Reset);
    // A connection that was kept may have been closed as idle: its reset says nothing, that of a new
    // one does.
    assert_eq!(client.get("/k").node(), "b");
    assert_eq!(ejections(&keyway, "consecutive"), 0);
    until("an ejection", || {
        assert_eq!(client.get("/k").node(), "b");
        ejections(&keyway, "consecutive") == 1
    });
}

#[test]
fn the_last_node_of_a_shard_is_kept() {
    let (a, b) = (
        Node::scripted("a", unavailable),
        Node::scripted("b", unavailable),
    );
    let keyway = start("eject: { consecutive: 2 }", &[&a, &b]);
    let mut client = keyway.client();
    for _ in 0..10 {
        assert_eq!(client.get("/k").status, 503);
    }
    assert_eq!(ejections(&keyway, "consecutive"), 1);
    assert!(kept(&keyway, "consecutive") > 0);
    assert!(standing(&keyway, "a", "ejected") && standing(&keyway, "b", "healthy"));
}

#[test]
fn a_clients_faults_eject_nobody() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = start("eject: { consecutive: 1 }", &[&a, &b]);
    for _ in 0..3 {
        // Bytes that are no chunk, a body that ends too soon, and a client that leaves.
        let mut client = keyway.client();
        client.send("POST /k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
        assert_eq!(client.reply().status, 400);
        let mut client = keyway.client();
        client.send("POST /k HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
        drop(client);
    }
    keyway.until_idle();
    assert_eq!(ejections(&keyway, "consecutive"), 0);
    assert!(standing(&keyway, "a", "healthy"));
}

/// Asks in the background, and tells the reply and how long it took.
fn ask(keyway: &Keyway, method: &'static str) -> thread::JoinHandle<(Reply, Duration)> {
    let mut client = keyway.client();
    thread::spawn(move || {
        let started = Instant::now();
        (client.ask(method, "/k", &[], b""), started.elapsed())
    })
}

#[test]
fn who_waits_at_a_node_that_is_ejected_goes_to_the_next_at_once() {
    let down = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&down);
    let a = Node::scripted("a", move |request| {
        if fails.load(Ordering::SeqCst) {
            unavailable(request)
        } else {
            Then::Hang
        }
    });
    let b = Node::start("b");
    let settings = "attempt_timeout: 5s, eject: { consecutive: 2 }";
    let keyway = start(settings, &[&a, &b]);
    let (get, post) = (ask(&keyway, "GET"), ask(&keyway, "POST"));
    until("both at a", || a.requests().len() == 2);
    down.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(keyway.get("/k").node(), "b");
    }
    let (reply, took) = get.join().unwrap();
    assert_eq!((reply.status, reply.node()), (200, "b"));
    assert!(took < Duration::from_secs(4), "{took:?}");
    let moved = keyway.count("keyway_retries_total", &["reason=\"ejected\""]);
    assert_eq!(moved, 1);
    // What may not be repeated waits on: the node may still answer it.
    let (reply, took) = post.join().unwrap();
    assert_eq!((reply.status, reply.error()), (504, "attempt_timeout"));
    assert!(took >= Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_node_that_fails_too_often_is_ejected_unless_all_do() {
    let turn = AtomicUsize::new(0);
    let often = Arc::new(move |request: &Request| {
        if turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(4) {
            Then::Answer
        } else {
            unavailable(request)
        }
    });
    let (first, second) = (Arc::clone(&often), Arc::clone(&often));
    let a = Node::scripted("a", move |request| first(request));
    let b = Node::start("b");
    let settings = "eject: { consecutive: off, failure_rate: { window: 5s } }";
    let keyway = start(settings, &[&a, &b]);
    let mut client = keyway.client();
    until("an ejection", || {
        assert_eq!(client.get("/k").status, 200);
        ejections(&keyway, "failure_rate") == 1
    });
    assert!(standing(&keyway, "a", "ejected"));

    // The same of all nodes is nobody's fault.
    let b = Node::scripted("b", move |request| second(request));
    let keyway = start(settings, &[&a, &b]);
    let mut client = keyway.client();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        client.get("/k");
    }
    assert_eq!(ejections(&keyway, "failure_rate"), 0);
    assert_eq!(kept(&keyway, "failure_rate"), 0);
}

#[test]
fn when_no_node_is_well_they_are_tried_or_the_request_fails_at_once() {
    let (a, b) = (Node::down("a"), Node::down("b"));
    let tried = |settings: &str| {
        let keyway = start(settings, &[&a, &b]);
        for _ in 0..3 {
            let reply = keyway.get("/k");
            assert_eq!((reply.status, reply.error()), (503, "no_healthy_node"));
        }
        let refused = ["side=\"upstream\"", "outcome=\"refused\""];
        (
            keyway.count("keyway_connections_total", &refused),
            keyway.count("keyway_last_resorts_total", &[]),
        )
    };
    let (refused, last_resorts) = tried("eject: {}");
    // Both nodes each time; the last one again only while it was not known to refuse.
    assert_eq!((refused, last_resorts), (7, 4));
    let (refused, last_resorts) = tried("eject: { when_all_bad: fail }");
    assert!(refused < 7, "{refused}");
    assert_eq!(last_resorts, 0);
}
