//! Connections to nodes: how many, how long, and over which sockets.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use crate::support::{Keyway, Node, Then, topology, until};

#[test]
fn a_node_has_no_more_connections_than_it_may() {
    let node = Node::scripted("a", |_| Then::Hang);
    let keyway = Keyway::sharded(
        "pool: { max_connections: 1 }, retry: { attempts: 1 }",
        &[&[&node]],
    );
    let mut first = keyway.client();
    first.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the first request", || node.requests().len() == 1);
    let reply = keyway.get("/k");
    assert_eq!((reply.status, reply.error()), (503, "overloaded"));
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert_eq!(
        keyway.metric(
            "keyway_connections_total",
            &["side=\"upstream\"", "outcome=\"limit\""]
        ),
        1.0
    );
    assert_eq!(
        keyway.metric("keyway_connections", &["side=\"upstream\""]),
        1.0
    );
    let healthy = ["node=\"a\"", "standing=\"healthy\""];
    assert_eq!(
        keyway.metric("keyway_node_standing", &healthy),
        1.0,
        "a bound of ours is no fault of the node"
    );
    drop(first);
    node.script(|_| Then::Answer);
    node.close_connections();
    until("a free place", || keyway.get("/k").status == 200);
}

#[test]
fn idle_connections_are_kept_up_to_their_bound_and_time() {
    let node = Node::start("a");
    let keyway = Keyway::start(
        "threads: 1\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n\
         clusters: { c: { pool: { max_idle: 1, idle_timeout: 300ms } } }\n",
        &topology(&[&[&node]]),
    );
    for _ in 0..10 {
        assert_eq!(keyway.get("/k").status, 200);
    }
    assert_eq!(node.accepted(), 1, "the idle one is used again");
    until("idle connections closed", || {
        keyway.metric("keyway_connections", &["side=\"upstream\""]) == 0.0
    });
    assert_eq!(keyway.get("/k").status, 200);
    assert_eq!(node.accepted(), 2);
}

#[test]
fn no_connection_is_used_again_where_none_is_kept() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("pool: { max_idle: 0 }", &[&[&node]]);
    for _ in 0..3 {
        assert_eq!(keyway.get("/k").status, 200);
    }
    assert_eq!(node.accepted(), 3);
}

#[test]
fn what_is_kept_above_the_bound_leaves_room_for_others() {
    const AT_ONCE: usize = 6;
    let all = Arc::new(Barrier::new(AT_ONCE));
    let node = Node::scripted("a", move |_| {
        all.wait();
        Then::Answer
    });
    let keyway = Keyway::start(
        "threads: 1\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n\
         clusters: { c: { pool: { max_connections: 8, max_idle: 1 } } }\n",
        &topology(&[&[&node]]),
    );
    let mut clients: Vec<_> = (0..AT_ONCE).map(|_| keyway.client()).collect();
    for _ in 0..2 {
        for client in &mut clients {
            client.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.reply().status, 200);
        }
    }
    // Half of eight were kept, or one if a second passed: the others were made anew.
    assert!(node.accepted() >= AT_ONCE + 2, "{}", node.accepted());
}

#[test]
fn a_busy_node_is_not_connected_to_again_and_again() {
    const AT_ONCE: usize = 48;
    const ROUNDS: usize = 10;
    // It answers when all have asked.
    let all = Arc::new(Barrier::new(AT_ONCE));
    let node = Node::scripted("a", move |_| {
        all.wait();
        Then::Answer
    });
    let keyway = Keyway::start(
        "threads: 1\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &topology(&[&[&node]]),
    );
    let began = Instant::now();
    let mut clients: Vec<_> = (0..AT_ONCE).map(|_| keyway.client()).collect();
    for _ in 0..ROUNDS {
        for client in &mut clients {
            client.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.reply().status, 200);
        }
    }
    // What is above `max_idle` is closed once a second.
    let sweeps = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let most = AT_ONCE + sweeps * (AT_ONCE - 32);
    assert!(node.accepted() <= most, "{} > {most}", node.accepted());
    until("as many idle connections as are kept", || {
        keyway.metric("keyway_connections", &["side=\"upstream\""]) == 32.0
    });
}

#[test]
fn a_node_can_listen_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        while stream.read(&mut head).is_ok_and(|read| read > 0) {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix")
                .unwrap();
        }
    });
    let topology = format!(
        "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"unix:{}\" }}] }} }}\n",
        path.display()
    );
    let keyway = Keyway::start(
        "threads: 1\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &topology,
    );
    let mut client = keyway.client();
    assert_eq!(client.get("/a").text(), "unix");
    assert_eq!(client.get("/b").text(), "unix");
}

#[test]
fn either_side_may_be_at_an_ipv6_address() {
    let node = Node::listen("a", "[::1]:0".parse().unwrap(), |_| Then::Answer);
    let keyway = Keyway::start(
        "listeners: [{ name: app, address: \"[::1]:0\" }]\n\
         routes: [{ name: r, match: {}, key: client_ip, cluster: c }]\n\
         clusters: { c: { authority: node } }\n",
        &topology(&[&[&node]]),
    );
    assert!(keyway.address.is_ipv6());
    assert_eq!(keyway.get("/k").status, 200);
    let [seen] = node.requests().try_into().unwrap();
    assert_eq!(seen.field("host"), Some(&*node.address.to_string()));
    assert_eq!(seen.field("x-forwarded-for"), Some("::1"));
}
