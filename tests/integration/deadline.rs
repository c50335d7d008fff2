//! How long a request may take: what clients say of it, what nodes are told, and how keyways that
//! stand behind each other share it.

use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, Request, Then, topology, until};

const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_client_says_how_long_it_waits_and_nodes_are_told_what_is_left() {
    let (a, b) = (Node::scripted("a", |_| Then::Hang), Node::start("b"));
    let settings = "prefer: order, attempt_timeout: 200ms, deadline_header: x-deadline";
    let keyway = Keyway::sharded(settings, &[&[&a, &b]]);
    let mut client = keyway.client();
    let started = Instant::now();
    let reply = client.ask("GET", "/k", &[("x-deadline", "100ms")], b"");
    assert_eq!((reply.status, reply.error()), (504, "timeout"));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(
        keyway
            .client()
            .ask("GET", "/k", &[("x-deadline", "5000")], b"")
            .node(),
        "b"
    );
    let told = |node: &Node, at: usize| {
        let value = node.requests()[at].field("x-deadline").unwrap().to_owned();
        let digits = value.trim_end_matches("ms");
        (value.len() - digits.len(), digits.parse::<u64>().unwrap())
    };
    let (unit, left) = told(&a, 0);
    assert!(unit == 2 && left <= 100, "{left}");
    let (unit, left) = told(&a, 1);
    assert!(unit == 0 && (4000..=5000).contains(&left), "{left}");
    // An attempt later there is less.
    let (_, later) = told(&b, 0);
    assert!(later + 150 <= left, "{left} {later}");
    // It only shortens the route's time, and what tells no time is refused.
    assert_eq!(
        keyway
            .client()
            .ask("GET", "/k", &[("x-deadline", "1h")], b"")
            .node(),
        "b"
    );
    let reply = keyway
        .client()
        .ask("GET", "/k", &[("x-deadline", "soon")], b"");
    assert_eq!((reply.status, reply.error()), (400, "bad_request"));
    assert!(
        reply.text().contains("x-deadline: expected milliseconds"),
        "{}",
        reply.text()
    );
}

#[test]
fn a_field_that_is_not_asked_about_is_passed_on() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    for name in ["x-deadline", "grpc-timeout"] {
        keyway.client().ask("GET", "/k", &[(name, "soon")], b"");
    }
    assert_eq!(a.requests()[0].field("x-deadline"), Some("soon"));
    assert_eq!(a.requests()[1].field("grpc-timeout"), Some("soon"));
}

#[test]
fn a_stream_outlives_the_route_s_time_once_its_head_is_there() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab";
    let a = Node::scripted("a", move |_| Then::Send(head.to_vec()));
    let route = "key: \"path:key\", timeout: 300ms";
    let keyway = Keyway::keyed(route, "attempt_timeout: 200ms", &[&[&a]]);
    let mut client = keyway.client();
    let started = Instant::now();
    client.send("GET /k HTTP/1.1\r\nhost: x\r\n\r\n");
    let in_flight = || keyway.count("keyway_requests_in_flight", &["route=\"r\""]);
    until("the request under way", || in_flight() == 1);
    while started.elapsed() < Duration::from_millis(800) {
        assert_eq!(in_flight(), 1);
    }
    a.close_connections();
    until("the end of the stream", || in_flight() == 0);
    assert_eq!(keyway.count("keyway_errors_total", &["route=\"r\""]), 0);
}

#[test]
fn a_node_that_asks_to_be_asked_again_is_when_nobody_else_is_left() {
    let a = Node::scripted("a", |_| Then::Send(BUSY.to_vec()));
    let keyway = Keyway::keyed(
        "key: \"path:key\", timeout: 2500ms",
        "retry: { attempts: 5 }, eject: { consecutive: off }",
        &[&[&a]],
    );
    let started = Instant::now();
    let reply = keyway.get("/k");
    // At 0, 1 and 2 seconds; a fourth would be too late.
    assert_eq!((reply.status, a.requests().len()), (503, 3));
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(reply.field("retry-after"), Some("1"));
    // What may not be repeated is not.
    keyway.client().ask("POST", "/k", &[], b"x");
    assert_eq!(a.requests().len(), 4);
}

/// A keyway with one route for everything, over `topology`.
fn keyway(topology: &str) -> Keyway {
    let keyway = "routes: [{ name: r, match: {}, key: path, cluster: c }]\n\
                  clusters: { c: { eject: { consecutive: off } } }\n";
    Keyway::start(keyway, topology)
}

#[test]
fn keyways_behind_each_other_do_not_multiply_attempts() {
    let busy = |_: &Request| Then::Send(BUSY.to_vec());
    let nodes = ["n0", "n1", "n2"].map(|id| Node::scripted(id, busy));
    let shard = topology(&[&[&nodes[0], &nodes[1], &nodes[2]]]);
    let inner = [(); 3].map(|()| keyway(&shard));
    let named =
        |(at, it): (usize, &Keyway)| format!("{{ id: k{at}, address: \"{}\" }}", it.address);
    let named: Vec<_> = inner.iter().enumerate().map(named).collect();
    let outer = keyway(&format!(
        "version: 1\nclusters:\n  c:\n    shards: [{{ name: s, nodes: [{}] }}]\n",
        named.join(", ")
    ));
    assert_eq!(outer.get("/k").status, 503);
    let requests: Vec<_> = nodes.iter().flat_map(Node::requests).collect();
    // Three of the first inner one, and one each of the others: what they got was marked.
    assert_eq!(requests.len(), 5);
    let denied = |it: &Keyway| it.count("keyway_retries_denied_total", &["reason=\"nested\""]);
    assert_eq!(inner.iter().map(denied).sum::<usize>(), 2);
    let marked = requests
        .iter()
        .filter(|it| it.field("x-keyway-attempt").is_some());
    assert_eq!(marked.count(), 4);
}
