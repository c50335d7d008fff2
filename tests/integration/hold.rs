//! Requests that wait for a node, when their shard has none.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, Reply, Then, topology, until};

fn start(settings: &str, nodes: &[&Node]) -> Keyway {
    Keyway::sharded(settings, &[nodes])
}

fn held(keyway: &Keyway, outcome: &str) -> usize {
    let outcome = format!("outcome=\"{outcome}\"");
    keyway.count("keyway_held_total", &[&outcome])
}

fn holding(keyway: &Keyway, count: usize) {
    until("some held", || keyway.count("keyway_holding", &[]) == count);
}

fn ask(keyway: &Keyway, method: &'static str, target: String) -> thread::JoinHandle<Reply> {
    let mut client = keyway.client();
    let body: &[u8] = if method == "GET" { b"" } else { b"body" };
    thread::spawn(move || client.ask(method, &target, &[], body))
}

#[test]
fn held_requests_go_on_when_a_node_is_back() {
    let down = Node::down("a");
    let keyway = start("hold: { requests: 10, max_wait: 30s }", &[&down]);
    let waiting: Vec<_> = ["GET", "POST", "GET"]
        .into_iter()
        .enumerate()
        .map(|(at, method)| {
            let asked = ask(&keyway, method, format!("/k/{at}"));
            holding(&keyway, at + 1);
            asked
        })
        .collect();
    let (id, address) = (down.id.clone(), down.address);
    drop(down);
    let back = Node::listen(&id, address, |_| Then::Answer);
    for asked in waiting {
        assert_eq!(asked.join().unwrap().status, 200);
    }
    assert_eq!(held(&keyway, "served"), 3);
    assert_eq!(back.requests().len(), 3);
    holding(&keyway, 0);
}

#[test]
fn what_was_sent_is_held_where_it_may_be_sent_again() {
    for (method, held_count) in [("GET", 1), ("POST", 0)] {
        let dying = Node::scripted("a", |_| Then::Hang);
        let keyway = start("hold: { requests: 10, max_wait: 30s }", &[&dying]);
        let asked = ask(&keyway, method, "/k".to_owned());
        until("it at the node", || dying.requests().len() == 1);
        let (id, address) = (dying.id.clone(), dying.address);
        dying.kill();
        drop(dying);
        if held_count > 0 {
            holding(&keyway, held_count);
        }
        let _back = Node::listen(&id, address, |_| Then::Answer);
        let status = if held_count > 0 { 200 } else { 502 };
        assert_eq!(asked.join().unwrap().status, status, "{method}");
        assert_eq!(held(&keyway, "served"), held_count);
    }
}

#[test]
fn a_reload_brings_a_node_to_who_waits() {
    let (down, other) = (Node::down("a"), Node::start("b"));
    let keyway = start("hold: { requests: 1, max_wait: 30s }", &[&down]);
    let asked = ask(&keyway, "POST", "/k".to_owned());
    holding(&keyway, 1);
    assert_eq!(
        keyway
            .reload_topology(&topology(&[&[&down, &other]]))
            .status,
        200
    );
    let reply = asked.join().unwrap();
    assert_eq!((reply.status, reply.node()), (200, "b"));
}

#[test]
fn holding_is_bounded_in_number_bytes_and_time() {
    let down = Node::down("a");
    let keyway = start(
        "hold: { requests: 1, max_wait: 500ms, bytes: 1KiB }",
        &[&down],
    );
    let started = Instant::now();
    let asked = ask(&keyway, "GET", "/k".to_owned());
    holding(&keyway, 1);
    let reply = keyway.get("/k");
    assert_eq!((reply.status, reply.error()), (503, "no_healthy_node"));
    assert_eq!(held(&keyway, "refused"), 1);
    let reply = asked.join().unwrap();
    assert_eq!((reply.status, reply.error()), (503, "no_healthy_node"));
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert_eq!(held(&keyway, "timeout"), 1);
    // A head of more than may be held is not.
    let long = "x".repeat(1024);
    let reply = keyway.client().ask("GET", "/k", &[("x-long", &long)], b"");
    assert_eq!((reply.status, held(&keyway, "refused")), (503, 2));
}

#[test]
fn a_client_that_leaves_is_not_held() {
    let down = Node::down("a");
    let keyway = start("hold: { requests: 5, max_wait: 30s }", &[&down]);
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nhost: x\r\n\r\n");
    holding(&keyway, 1);
    drop(client);
    holding(&keyway, 0);
    keyway.until_idle();
}

#[test]
fn other_shards_are_untouched_and_the_wait_ends_with_the_route_s_time() {
    let (down, well) = (Node::down("a"), Node::start("b"));
    let route = "key: \"path:key\", timeout: 400ms";
    let settings = "hold: { requests: 5, max_wait: 30s }, eject: { when_all_bad: fail }";
    let keyway = Keyway::keyed(route, settings, &[&[&down], &[&well]]);
    let (mut held, mut served) = (0, 0);
    for at in 0..6 {
        let started = Instant::now();
        let reply = keyway.get(&format!("/{at}"));
        if reply.status == 200 {
            served += 1;
        } else {
            held += 1;
            assert_eq!((reply.status, reply.error()), (503, "no_healthy_node"));
            assert!(started.elapsed() >= Duration::from_millis(350));
        }
    }
    assert!(held > 0 && served > 0);
}
