//! Valves on the load of nodes: caps, queues, and what a shard that hangs does to the others.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Keyway, Node, Reply, Then, until};

fn ask(keyway: &Keyway, target: &'static str) -> thread::JoinHandle<Reply> {
    let mut client = keyway.client();
    thread::spawn(move || client.get(target))
}

fn queued(keyway: &Keyway, outcome: &str) -> usize {
    let outcome = format!("outcome=\"{outcome}\"");
    keyway.count("keyway_queued_total", &[&outcome])
}

#[test]
fn what_finds_no_place_is_overloaded_at_once() {
    for caps in ["node_in_flight: 1", "cluster_in_flight: 1"] {
        let a = Node::scripted("a", |_| Then::Hang);
        let settings = format!("attempt_timeout: 30s, caps: {{ {caps} }}");
        let keyway = Keyway::sharded(&settings, &[&[&a]]);
        let held = ask(&keyway, "/k");
        until("one at the node", || a.requests().len() == 1);
        let started = Instant::now();
        let reply = keyway.get("/k");
        assert_eq!((reply.status, reply.error()), (503, "overloaded"));
        assert!(reply.field("retry-after").is_some());
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(queued(&keyway, "refused"), 1);
        assert_eq!(a.requests().len(), 1);
        a.close_connections();
        held.join().unwrap();
        // The place is free again.
        a.script(|_| Then::Answer);
        assert_eq!(keyway.get("/k").status, 200);
    }
}

#[test]
fn a_capped_node_leaves_its_requests_to_the_next() {
    let (a, b) = (Node::scripted("a", |_| Then::Hang), Node::start("b"));
    let settings = "prefer: order, caps: { node_in_flight: 1 }";
    let keyway = Keyway::sharded(settings, &[&[&a, &b]]);
    let held = ask(&keyway, "/k");
    until("one at a", || a.requests().len() == 1);
    for _ in 0..5 {
        assert_eq!(keyway.get("/k").node(), "b");
    }
    a.close_connections();
    assert_eq!(held.join().unwrap().status, 200);
}

#[test]
fn who_waits_in_the_queue_gets_the_next_place_in_turn() {
    let a = Node::scripted("a", |_| Then::Hang);
    let caps = "node_in_flight: 1, queue: 2, queue_timeout: 20s";
    let settings = format!("attempt_timeout: 30s, caps: {{ {caps} }}");
    let keyway = Keyway::sharded(&settings, &[&[&a]]);
    let waiting = |count: usize| {
        until("some in the queue", || {
            keyway.count("keyway_queue_waiting", &[]) == count
        });
    };
    let first = ask(&keyway, "/first");
    until("one at the node", || a.requests().len() == 1);
    let second = ask(&keyway, "/second");
    waiting(1);
    let third = ask(&keyway, "/third");
    waiting(2);
    assert_eq!(keyway.get("/fourth").error(), "overloaded");
    a.script(|_| Then::Answer);
    a.close_connections();
    assert_eq!(first.join().unwrap().status, 502);
    assert_eq!(second.join().unwrap().status, 200);
    assert_eq!(third.join().unwrap().status, 200);
    let targets: Vec<_> = a
        .requests()
        .iter()
        .map(|it| it.target().to_owned())
        .collect();
    assert_eq!(targets, ["/first", "/second", "/third"]);
    assert_eq!(
        (queued(&keyway, "admitted"), queued(&keyway, "refused")),
        (2, 1)
    );
}

#[test]
fn a_place_that_does_not_become_free_in_time_is_overload_and_a_client_that_leaves_waits_no_more() {
    let a = Node::scripted("a", |_| Then::Hang);
    let caps = "node_in_flight: 1, queue: 1, queue_timeout: 200ms";
    let settings = format!("attempt_timeout: 30s, caps: {{ {caps} }}");
    let keyway = Keyway::sharded(&settings, &[&[&a]]);
    let _held = ask(&keyway, "/k");
    until("one at the node", || a.requests().len() == 1);
    assert_eq!(keyway.get("/k").error(), "overloaded");
    assert_eq!(queued(&keyway, "timeout"), 1);
    let mut leaves = keyway.client();
    leaves.send("GET /k HTTP/1.1\r\nhost: x\r\n\r\n");
    until("one in the queue", || {
        keyway.count("keyway_queue_waiting", &[]) == 1
    });
    drop(leaves);
    until("nobody in the queue", || {
        keyway.count("keyway_queue_waiting", &[]) == 0
    });
    a.close_connections();
}

#[test]
fn an_adaptive_cap_falls_when_the_node_says_that_it_is_too_much() {
    const BUSY: &[u8] = b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n";
    let a = Node::scripted("a", |_| Then::Send(BUSY.to_vec()));
    let keyway = Keyway::sharded("caps: { adaptive: aimd }", &[&[&a]]);
    let mut client = keyway.client();
    for _ in 0..60 {
        client.get("/k");
    }
    // From 20 to 1: a second one at a time finds no place.
    a.script(|_| Then::Hang);
    let held = ask(&keyway, "/k");
    until("one at the node", || a.requests().len() == 61);
    assert_eq!(keyway.get("/k").error(), "overloaded");
    a.close_connections();
    held.join().unwrap();
}

/// The median of some requests to `target`.
fn median(client: &mut Client, target: &str) -> Duration {
    let mut took: Vec<_> = (0..200)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(client.get(target).status, 200);
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn a_shard_that_hangs_holds_nothing_of_the_others() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let caps = "caps: { node_in_flight: 16, queue: 4 }";
    let settings = format!("attempt_timeout: 30s, eject: {{ consecutive: off }}, {caps}");
    let keyway = Keyway::sharded(&settings, &[&[&a], &[&b]]);
    let mut keys = ["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"].into_iter();
    let of_a = keys
        .clone()
        .find(|it| keyway.get(it).node() == "a")
        .unwrap();
    let of_b = keys.find(|it| keyway.get(it).node() == "b").unwrap();
    let mut client = keyway.client();
    let before = median(&mut client, of_b);
    let known = a.requests().len();
    a.script(|_| Then::Hang);
    let held: Vec<_> = (0..40).map(|_| ask(&keyway, of_a)).collect();
    until("a full shard", || a.requests().len() == known + 16);
    until("the rest told so", || {
        queued(&keyway, "refused") + queued(&keyway, "timeout") == 24
    });
    let during = median(&mut client, of_b);
    // What waits, waits at its own shard, bounded; the rest was told so.
    assert_eq!(a.requests().len(), known + 16);
    let labels = ["node=\"b\""];
    assert_eq!(keyway.count("keyway_node_in_flight", &labels), 0);
    assert!(
        during < before * 3 + Duration::from_millis(5),
        "{before:?} {during:?}"
    );
    a.close_connections();
    let overloaded = held.into_iter().map(|it| it.join().unwrap());
    assert_eq!(
        overloaded.filter(|it| it.error() == "overloaded").count(),
        24
    );
}
