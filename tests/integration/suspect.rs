//! Nodes at which requests wait in vain.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, Reply, Then, until};

/// What a node waits for before it answers.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn close(&self, closed: bool) {
        *self.0.0.lock().unwrap() = closed;
        self.0.1.notify_all();
    }

    fn pass(&self) -> Then {
        let closed = self.0.0.lock().unwrap();
        let _open = self.0.1.wait_while(closed, |it| *it).unwrap();
        Then::Answer
    }

    fn node(&self, id: &str) -> Node {
        let gate = self.clone();
        Node::scripted(id, move |_| gate.pass())
    }
}

fn suspicions(keyway: &Keyway) -> usize {
    keyway.count("keyway_suspicions_total", &["shard=\"s0\""])
}

fn is_healthy(keyway: &Keyway, node: &str) -> bool {
    let node = format!("node=\"{node}\"");
    keyway.count("keyway_node_standing", &[&node, "standing=\"healthy\""]) == 1
}

/// Asks for `key` until it is known how long answers take.
fn warm(keyway: &Keyway, keys: &[&str]) {
    let (begun, mut client) = (Instant::now(), keyway.client());
    while begun.elapsed() < Duration::from_millis(1500) {
        for key in keys {
            assert_eq!(client.get(key).status, 200);
        }
    }
}

/// Asks in the background, and tells the reply and how long it took.
fn ask(keyway: &Keyway, method: &'static str, key: &'static str) -> JoinHandle<(Reply, Duration)> {
    let mut client = keyway.client();
    thread::spawn(move || {
        let begun = Instant::now();
        (client.ask(method, key, &[], b""), begun.elapsed())
    })
}

/// As by SIGSTOP: what it was sent is answered when it goes on.
#[test]
fn a_node_that_answers_nothing_is_passed_by_and_what_waits_there_moves_on() {
    let gate = Gate::default();
    let (a, b) = (gate.node("a"), Node::start("b"));
    let keyway = Keyway::sharded("prefer: order, attempt_timeout: 8s", &[&[&a, &b]]);
    warm(&keyway, &["/k"]);
    gate.close(true);
    let sent = a.requests().len();
    let post = ask(&keyway, "POST", "/k");
    let gets = [(); 3].map(|()| ask(&keyway, "GET", "/k"));
    for get in gets {
        let (reply, took) = get.join().unwrap();
        assert_eq!((reply.status, reply.node()), (200, "b"));
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    assert_eq!(suspicions(&keyway), 1);
    assert_eq!(a.requests().len(), sent + 4);
    assert_eq!(
        keyway.count("keyway_retries_total", &["reason=\"ejected\""]),
        3
    );
    assert!(!is_healthy(&keyway, "a"));
    // It goes on: the POST was not repeated, and its answer is what ends the suspicion.
    gate.close(false);
    let (reply, _) = post.join().unwrap();
    assert_eq!((reply.status, reply.node()), (200, "a"));
    assert!(is_healthy(&keyway, "a"));
    assert_eq!(keyway.get("/k").node(), "a");
    assert_eq!(suspicions(&keyway), 1);
}

#[test]
fn a_suspect_node_is_tried_now_and_then_by_a_request_that_loses_nothing() {
    let gate = Gate::default();
    let (a, b) = (gate.node("a"), Node::start("b"));
    let keyway = Keyway::sharded("prefer: order, attempt_timeout: 8s", &[&[&a, &b]]);
    warm(&keyway, &["/k"]);
    gate.close(true);
    let gets = [(); 4].map(|()| ask(&keyway, "GET", "/k"));
    for get in gets {
        assert_eq!(get.join().unwrap().0.node(), "b");
    }
    let sent = a.requests().len();
    let mut client = keyway.client();
    until("two trials", || {
        // A POST would be lost with it.
        for method in ["POST", "POST", "POST", "GET"] {
            let begun = Instant::now();
            let reply = client.ask(method, "/k", &[], b"");
            assert_eq!((reply.status, reply.node()), (200, "b"));
            assert!(begun.elapsed() < Duration::from_secs(4));
        }
        a.requests().len() == sent + 2
    });
    let tried = a.requests().split_off(sent);
    assert!(tried.iter().all(|it| it.method() == "GET"));
    gate.close(false);
    until("it to be back", || client.get("/k").node() == "a");
    assert!(is_healthy(&keyway, "a"));
    assert_eq!(suspicions(&keyway), 1);
}

/// Some answers take a third of a second and most none; those come between.
#[test]
fn a_node_that_is_slow_for_some_requests_is_never_suspect() {
    let slowly = |request: &crate::support::Request| {
        if request.target().ends_with("/slow") {
            thread::sleep(Duration::from_millis(300));
        }
        Then::Answer
    };
    let (a, b) = (Node::scripted("a", slowly), Node::start("b"));
    let keyway = Keyway::sharded("prefer: order", &[&[&a, &b]]);
    warm(&keyway, &["/k"]);
    let over = Arc::new(AtomicBool::new(false));
    let fast = [(); 2].map(|()| {
        let (mut client, over) = (keyway.client(), Arc::clone(&over));
        thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                assert_eq!(client.get("/k").node(), "a");
            }
        })
    });
    for _ in 0..5 {
        let slow = [(); 4].map(|()| ask(&keyway, "GET", "/k/slow"));
        for slow in slow {
            let (reply, took) = slow.join().unwrap();
            assert_eq!((reply.status, reply.node()), (200, "a"));
            assert!(took >= Duration::from_millis(300));
        }
    }
    over.store(true, Ordering::SeqCst);
    for fast in fast {
        fast.join().unwrap();
    }
    assert_eq!(suspicions(&keyway), 0);
}

/// What they wait for is behind them.
#[test]
fn where_all_nodes_of_a_shard_are_silent_none_is_suspect() {
    let gate = Gate::default();
    let (a, b) = (gate.node("a"), gate.node("b"));
    let keyway = Keyway::sharded("attempt_timeout: 8s", &[&[&a, &b]]);
    let keys = [
        "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9", "/10", "/11", "/12",
    ];
    warm(&keyway, &keys);
    let of = |node: &str| {
        let mut keys = keys.into_iter();
        keys.find(|it| keyway.get(it).node() == node).unwrap()
    };
    let (of_a, of_b) = (of("a"), of("b"));
    gate.close(true);
    let (at_a, at_b) = (a.requests().len(), b.requests().len());
    let first = ask(&keyway, "GET", of_b);
    until("it to wait at b", || b.requests().len() > at_b);
    let others = [(); 5].map(|()| ask(&keyway, "GET", of_a));
    until("all to wait", || a.requests().len() == at_a + 5);
    // Twice as long as the longest time that could be usual here.
    thread::sleep(Duration::from_secs(1));
    gate.close(false);
    assert_eq!(first.join().unwrap().0.node(), "b");
    for other in others {
        assert_eq!(other.join().unwrap().0.node(), "a");
    }
    assert_eq!(suspicions(&keyway), 0);
}

#[test]
fn an_ejected_node_is_tried_by_what_may_be_repeated() {
    let a = Node::scripted("a", |_| {
        Then::Send(b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    let b = Node::start("b");
    let settings = "prefer: order, eject: { consecutive: 1, base: 500ms, max: 500ms }";
    let keyway = Keyway::sharded(settings, &[&[&a, &b]]);
    let mut client = keyway.client();
    until("three trials", || {
        assert_eq!(client.get("/k").node(), "b");
        for _ in 0..5 {
            assert_eq!(client.ask("POST", "/k", &[], b"").status, 200);
        }
        a.requests().len() == 4
    });
    // Where nothing else comes a POST is lost, or the node would never be back.
    until("a trial by POST", || {
        client.ask("POST", "/k", &[], b"").status == 503
    });
}
