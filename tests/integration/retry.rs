//! What is tried again, where, how often, and what is not.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, Reply, Then, until};

/// Nodes are tried as they are written, so that a test knows whose turn it is.
const ORDER: &str = "prefer: order";

const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nX-Node: a\r\nContent-Length: 4\r\n\r\nbusy";

fn retries(keyway: &Keyway, reason: &str) -> usize {
    keyway.count("keyway_retries_total", &[&format!("reason=\"{reason}\"")])
}

fn denied(keyway: &Keyway, reason: &str) -> usize {
    let reason = format!("reason=\"{reason}\"");
    keyway.count("keyway_retries_denied_total", &[&reason])
}

fn errors(keyway: &Keyway, reason: &str) -> usize {
    let reason = format!("reason=\"{reason}\"");
    keyway.count("keyway_errors_total", &["route=\"r\"", &reason])
}

fn ask(keyway: &Keyway, method: &str) -> Reply {
    let body: &[u8] = if method == "GET" { b"" } else { b"body" };
    keyway.client().ask(method, "/k", &[], body)
}

/// How often a node saw this method.
fn seen(node: &Node, method: &str) -> usize {
    let requests = node.requests();
    requests.iter().filter(|it| it.method() == method).count()
}

/// A key of the shard whose only node is `node`.
fn key_of(keyway: &Keyway, node: &Node) -> String {
    let mut keys = (0..200).map(|at| format!("/key-{at}"));
    keys.find(|key| keyway.get(key).node() == node.id).unwrap()
}

#[test]
fn a_refused_connection_leads_to_the_next_node_whatever_the_method() {
    for method in ["GET", "POST"] {
        let (a, b) = (Node::down("a"), Node::start("b"));
        let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
        let reply = ask(&keyway, method);
        assert_eq!((reply.status, reply.node()), (200, "b"), "{method}");
        assert_eq!(retries(&keyway, "connect"), 1);
        assert_eq!(keyway.count("keyway_failovers_total", &["rank=\"1\""]), 1);
        keyway.until_idle();
    }
}

#[test]
fn killing_a_node_fails_no_get() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = keyway.client();
                    let mut after_failover = 0;
                    while after_failover < 100 {
                        let reply = client.get("/k");
                        assert_eq!(reply.status, 200, "{}", reply.error());
                        after_failover += usize::from(reply.node() == "b");
                    }
                })
            })
            .collect();
        until("requests at a", || a.requests().len() > 200);
        a.kill();
        for client in clients {
            client.join().unwrap();
        }
    });
    assert!(b.requests().len() >= 800);
    keyway.until_idle();
}

#[test]
fn a_reset_before_the_head_repeats_idempotent_methods_only() {
    let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    for method in ["GET", "PUT"] {
        let reply = ask(&keyway, method);
        assert_eq!((reply.status, reply.node()), (200, "b"), "{method}");
        assert_eq!((seen(&a, method), seen(&b, method)), (1, 1), "{method}");
    }
    assert_eq!(retries(&keyway, "reset"), 2);
    let reply = ask(&keyway, "POST");
    assert_eq!((reply.status, reply.error()), (502, "upstream_reset"));
    assert_eq!((seen(&a, "POST"), seen(&b, "POST")), (1, 0));
    assert_eq!(denied(&keyway, "method"), 1);
    assert_eq!(errors(&keyway, "upstream_reset"), 1);
    keyway.until_idle();
}

#[test]
fn a_read_is_not_lost_to_a_stale_connection_of_every_node() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    // One connection, so that one thread has an idle connection to each node.
    let mut client = keyway.client();
    a.script(|_| Then::Reset);
    assert_eq!(client.get("/k").node(), "b");
    a.script(|_| Then::Answer);
    assert_eq!(client.get("/k").node(), "a");
    let used = [a.accepted(), b.accepted()];
    for (node, used) in [&a, &b].into_iter().zip(used) {
        node.script(move |request| match request.connection {
            stale if stale < used => Then::Reset,
            _ => Then::Answer,
        });
    }
    let reply = client.get("/k");
    assert_eq!(
        (reply.status, reply.node()),
        (200, "b"),
        "{}",
        reply.error()
    );
    keyway.until_idle();
}

#[test]
fn a_node_that_hangs_is_left_after_the_attempt_timeout_by_safe_methods_only() {
    let (a, b) = (Node::scripted("a", |_| Then::Hang), Node::start("b"));
    let keyway = Keyway::sharded(&format!("{ORDER}, attempt_timeout: 300ms"), &[&[&a, &b]]);
    let started = Instant::now();
    let reply = ask(&keyway, "GET");
    assert_eq!((reply.status, reply.node()), (200, "b"));
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(retries(&keyway, "timeout"), 1);
    for method in ["PUT", "POST"] {
        let reply = ask(&keyway, method);
        let found = (reply.status, reply.error());
        assert_eq!(found, (504, "attempt_timeout"), "{method}");
        assert_eq!((seen(&a, method), seen(&b, method)), (1, 0), "{method}");
    }
    assert_eq!(denied(&keyway, "method"), 2);
    keyway.until_idle();
}

#[test]
fn an_unavailable_node_is_left_by_get_and_its_answer_to_post_passes() {
    let a = Node::scripted("a", |_| Then::Send(UNAVAILABLE.to_vec()));
    let b = Node::start("b");
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    let reply = ask(&keyway, "GET");
    assert_eq!((reply.status, reply.node()), (200, "b"));
    let reply = ask(&keyway, "POST");
    assert_eq!((reply.status, reply.text().as_str()), (503, "busy"));
    assert_eq!(reply.error(), "-");
    assert_eq!((seen(&a, "POST"), seen(&b, "POST")), (1, 0));
    assert_eq!(keyway.count("keyway_errors_total", &[]), 0);
    keyway.until_idle();
    // That its answer was not wanted does not make it another.
    let attempts = |class| keyway.count("keyway_attempts_total", &["node=\"a\"", class]);
    assert_eq!(attempts("class=\"5xx\""), 2);
    assert_eq!(attempts("class=\"aborted\""), 0);
}

#[test]
fn the_last_unavailable_node_answers_with_its_own_body() {
    let nodes = ["a", "b"].map(|id| Node::scripted(id, |_| Then::Send(UNAVAILABLE.to_vec())));
    let keyway = Keyway::sharded(ORDER, &[&[&nodes[0], &nodes[1]]]);
    let reply = ask(&keyway, "GET");
    assert_eq!((reply.status, reply.text().as_str()), (503, "busy"));
    // No node is asked twice.
    assert_eq!(nodes.each_ref().map(|it| seen(it, "GET")), [1, 1]);
    assert_eq!(denied(&keyway, "no_candidate"), 1);
    keyway.until_idle();
}

#[test]
fn nodes_that_all_refuse_are_no_healthy_node() {
    let (a, b) = (Node::down("a"), Node::down("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    let reply = ask(&keyway, "POST");
    assert_eq!((reply.status, reply.error()), (503, "no_healthy_node"));
    assert_eq!(reply.field("retry-after"), Some("1"));
    let kind = reply.field("content-type");
    assert_eq!(kind, Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["status"], 503);
    assert_eq!(problem["reason"], "no_healthy_node");
    assert_eq!(errors(&keyway, "no_healthy_node"), 1);
    let class = keyway.count(
        "keyway_requests_total",
        &["class=\"5xx\"", "method=\"POST\""],
    );
    assert_eq!(class, 1);
    keyway.until_idle();
}

#[test]
fn a_shards_only_node_is_tried_again_after_a_refusal() {
    let a = Node::down("a");
    let keyway = Keyway::sharded("retry: { attempts: 4 }", &[&[&a]]);
    let reply = ask(&keyway, "POST");
    assert_eq!((reply.status, reply.error()), (503, "no_healthy_node"));
    let refused = keyway.count("keyway_attempts_total", &["class=\"error\""]);
    assert_eq!(refused, 4);
    assert_eq!(denied(&keyway, "attempts"), 1);
}

#[test]
fn a_refusal_after_something_was_sent_is_not_no_healthy_node() {
    let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::down("b"));
    let keyway = Keyway::sharded(&format!("{ORDER}, retry: {{ attempts: 2 }}"), &[&[&a, &b]]);
    let reply = ask(&keyway, "GET");
    assert_eq!((reply.status, reply.error()), (502, "connect_failed"));
    keyway.until_idle();
}

#[test]
fn the_routes_timeout_ends_every_attempt() {
    let nodes = ["a", "b"].map(|id| Node::scripted(id, |_| Then::Hang));
    let keyway = Keyway::keyed(
        "key: \"path:key\", timeout: 2s",
        &format!("{ORDER}, attempt_timeout: 1200ms"),
        &[&[&nodes[0], &nodes[1]]],
    );
    let started = Instant::now();
    let reply = ask(&keyway, "GET");
    assert_eq!((reply.status, reply.error()), (504, "timeout"));
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert!(started.elapsed() < Duration::from_secs(6));
    assert_eq!(nodes.each_ref().map(|it| seen(it, "GET")), [1, 1]);
    assert_eq!(errors(&keyway, "timeout"), 1);
    keyway.until_idle();
}

#[test]
fn one_attempt_is_no_retry() {
    let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
    let keyway = Keyway::sharded(&format!("{ORDER}, retry: {{ attempts: 1 }}"), &[&[&a, &b]]);
    let reply = ask(&keyway, "GET");
    assert_eq!((reply.status, reply.error()), (502, "upstream_reset"));
    assert_eq!(denied(&keyway, "attempts"), 1);
    assert_eq!(seen(&b, "GET"), 0);
}

#[test]
fn a_small_body_arrives_whole_at_the_second_node() {
    let body: Vec<u8> = (0..=250).cycle().take(10 << 10).collect();
    // However it came, and whether the first node read it or not.
    for chunked in [false, true] {
        let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
        let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
        let mut client = keyway.client();
        let reply = if chunked {
            client.send("PUT /k HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(1000) {
                client.send(format!("{:x}\r\n", chunk.len()));
                client.send(chunk).send("\r\n");
            }
            client.send("0\r\n\r\n").reply()
        } else {
            client.ask("PUT", "/k", &[], &body)
        };
        assert_eq!((reply.status, reply.node()), (200, "b"));
        for node in [&a, &b] {
            assert!(node.requests()[0].body == body, "at {}", node.id);
        }
        keyway.until_idle();
    }
}

#[test]
fn a_body_of_which_the_first_node_got_a_part_arrives_whole_at_the_second() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    let mut client = keyway.client();
    client.send("PUT /k HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nhello");
    until("a is reached", || a.accepted() == 1);
    a.kill();
    until("b is reached", || b.accepted() == 1);
    let reply = client.send("world").reply();
    assert_eq!((reply.status, reply.node()), (200, "b"));
    assert_eq!(b.requests()[0].body, b"helloworld");
    assert_eq!(a.requests().len(), 0);
    keyway.until_idle();
}

#[test]
fn a_body_larger_than_what_is_kept_is_not_repeated() {
    let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    let body = vec![b'x'; 100 << 10];
    let reply = keyway.client().ask("PUT", "/k", &[], &body);
    assert_eq!((reply.status, reply.error()), (502, "upstream_reset"));
    assert_eq!(denied(&keyway, "body"), 1);
    assert_eq!((seen(&a, "PUT"), seen(&b, "PUT")), (1, 0));
    keyway.until_idle();
}

#[test]
fn a_large_body_of_which_nothing_was_sent_goes_to_the_next_node() {
    let (a, b) = (Node::down("a"), Node::start("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    let body = vec![b'x'; 1 << 20];
    let reply = keyway.client().ask("POST", "/k", &[], &body);
    assert_eq!((reply.status, reply.node()), (200, "b"));
    assert!(b.requests()[0].body == body);
}

#[test]
fn a_spent_budget_denies() {
    let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
    let budget = "{ ratio: 0%, min_per_second: 1, window: 1s }";
    let keyway = Keyway::sharded(
        &format!("{ORDER}, eject: {{ consecutive: off }}, retry: {{ budget: {budget} }}"),
        &[&[&a, &b]],
    );
    let started = Instant::now();
    let replies: Vec<_> = (0..20).map(|_| ask(&keyway, "GET")).collect();
    let granted = replies.iter().filter(|it| it.status == 200).count();
    let refused = replies.iter().filter(|it| it.status == 502).count();
    assert_eq!(granted + refused, 20);
    // One to start with, and one a second.
    let most = 1 + usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!((1..=most).contains(&granted), "{granted} of {most}");
    assert_eq!(retries(&keyway, "reset"), granted);
    assert_eq!(denied(&keyway, "budget"), refused);
    assert_eq!(b.requests().len(), granted);
}

#[test]
fn an_honoured_idempotency_key_lets_a_post_be_repeated() {
    for (setting, status) in [("honour", 200), ("ignore", 502)] {
        let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
        let route = format!("key: \"path:key\", idempotency_key: {setting}");
        let keyway = Keyway::keyed(&route, ORDER, &[&[&a, &b]]);
        let fields = [("Idempotency-Key", "\"1\"")];
        let reply = keyway.client().ask("POST", "/k", &fields, b"body");
        assert_eq!(reply.status, status, "{setting}");
        assert_eq!(ask(&keyway, "POST").status, 502, "without the key");
    }
}

#[test]
fn a_connection_that_the_node_closed_is_not_written_to() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    let mut client = keyway.client();
    for round in 0..100 {
        let reply = client.ask("POST", "/k", &[], b"body");
        assert_eq!((reply.status, reply.error()), (200, "-"), "{round}");
        a.close_connections();
    }
    assert_eq!((seen(&a, "POST"), a.accepted()), (100, 100));
    keyway.until_idle();
}

#[test]
fn a_connection_that_closes_while_its_next_request_waits_is_not_written_to() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    let mut client = keyway.client();
    assert_eq!(client.get("/k").status, 200);
    for round in 0..20 {
        // keyway wakes to both at once, and hears of the request first.
        keyway.signal("-STOP");
        until("keyway is stopped", || keyway.is_stopped());
        client.send("POST /k HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbody");
        a.close_connections();
        keyway.signal("-CONT");
        let reply = client.reply();
        assert_eq!((reply.status, reply.error()), (200, "-"), "{round}");
    }
    assert_eq!((seen(&a, "POST"), a.accepted()), (20, 21));
    // It was not even tried.
    assert_eq!(keyway.count("keyway_retries_total", &[]), 0);
}

#[test]
fn a_connection_that_stays_open_is_used_again() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    let mut client = keyway.client();
    for _ in 0..20 {
        assert_eq!(client.ask("POST", "/k", &[], b"body").status, 200);
        assert_eq!(client.get("/k").status, 200);
    }
    assert_eq!(a.accepted(), 1);
}

#[test]
fn a_node_that_refused_is_passed_by_until_it_is_back() {
    let (a, b) = (Node::down("a"), Node::start("b"));
    let keyway = Keyway::sharded(ORDER, &[&[&a, &b]]);
    let started = Instant::now();
    let mut client = keyway.client();
    for _ in 0..100 {
        assert_eq!(client.get("/k").node(), "b");
    }
    // Back-offs take at least 50 ms, and the one after the trial no less.
    let most = 1 + usize::try_from(started.elapsed().as_millis()).unwrap() / 50;
    let tried = retries(&keyway, "connect");
    assert!((1..=most.min(50)).contains(&tried), "{tried} of {most}");
    let suspect = ["node=\"a\"", "standing=\"suspect\""];
    assert_eq!(keyway.count("keyway_node_standing", &suspect), 1);

    let back = Node::listen("a", a.address, |_| Then::Answer);
    until("a serves again", || client.get("/k").node() == "a");
    for _ in 0..20 {
        assert_eq!(client.get("/k").node(), "a");
    }
    let healthy = ["node=\"a\"", "standing=\"healthy\""];
    assert_eq!(keyway.count("keyway_node_standing", &healthy), 1);
    assert_eq!(back.requests().len(), 21);
}

#[test]
fn a_shard_that_is_down_fails_its_own_keys_only() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded("", &[&[&a], &[&b]]);
    let (of_a, of_b) = (key_of(&keyway, &a), key_of(&keyway, &b));
    a.kill();
    let reply = keyway.get(&of_a);
    assert_eq!((reply.status, reply.error()), (503, "no_healthy_node"));
    assert_eq!(keyway.get(&of_b).node(), "b");
}

#[test]
fn a_cache_may_ask_the_next_shard() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded("when_shard_down: next_shard", &[&[&a], &[&b]]);
    let (of_a, of_b) = (key_of(&keyway, &a), key_of(&keyway, &b));
    a.kill();
    for key in [of_a, of_b] {
        let reply = keyway.get(&key);
        assert_eq!((reply.status, reply.node()), (200, "b"), "{key}");
    }
    keyway.until_idle();
}
