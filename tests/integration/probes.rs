//! Nodes that are probed: what is asked, who is not, and what follows.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Authority, Keyway, Node, Request, Server, Then, topology, until};

fn settings(probe: &str) -> String {
    format!("prefer: order, probe: {{ {probe} }}")
}

fn start(probe: &str, nodes: &[&Node]) -> Keyway {
    Keyway::sharded(&settings(probe), &[nodes])
}

/// The same keyway with other rules of probing.
fn change(keyway: &Keyway, probe: &str) {
    let yaml = std::fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    let (before, rest) = yaml.split_once("probe: { ").unwrap();
    let (_, after) = rest.split_once(" } }\n").unwrap();
    keyway.replace(
        "keyway.yaml",
        &format!("{before}probe: {{ {probe} }} }}\n{after}"),
    );
    let reply = keyway.admin("POST", "/v1/reload", "");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn standing(keyway: &Keyway, node: &str) -> String {
    let state = keyway.admin_json("/v1/state");
    let nodes = state["clusters"][0]["shards"][0]["nodes"].as_array();
    let found = nodes.unwrap().iter().find(|it| it["id"] == node).unwrap();
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    format!("{} {}", text("standing"), text("probed"))
}

fn until_is(keyway: &Keyway, node: &str, expected: &str) {
    until(&format!("{node} is {expected}"), || {
        standing(keyway, node) == expected
    });
}

fn probes(keyway: &Keyway, outcome: &str) -> usize {
    let outcome = format!("outcome=\"{outcome}\"");
    keyway.count("keyway_probes_total", &[&outcome])
}

fn went_down(keyway: &Keyway) -> usize {
    keyway.count("keyway_ejections_total", &["reason=\"probe\""])
}

fn is_probe(request: &Request) -> bool {
    request.target() == "/healthz"
}

fn status(code: u16) -> Then {
    Then::Send(format!("HTTP/1.1 {code} Said\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

#[test]
fn a_node_that_died_is_down_before_a_request_meets_it_and_back_when_it_listens_again() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = start("interval: 200ms, timeout: 200ms", &[&a, &b]);
    for node in ["a", "b"] {
        until_is(&keyway, node, "healthy up");
    }
    a.kill();
    until_is(&keyway, "a", "down down");
    let mut client = keyway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/k").node(), "b");
    }
    let refused = ["side=\"upstream\"", "outcome=\"refused\""];
    assert_eq!(keyway.count("keyway_connections_total", &refused), 0);
    assert_eq!((went_down(&keyway), a.requests().len()), (1, 0));
    let _back = Node::listen("a", a.address, |_| Then::Answer);
    until_is(&keyway, "a", "healthy up");
    assert_eq!(keyway.get("/k").node(), "a");
}

#[test]
fn an_answer_is_good_by_its_status_and_its_body() {
    let says = Arc::new(Mutex::new((200, "role=primary")));
    let answer = Arc::clone(&says);
    let a = Node::scripted("a", move |request| {
        let (status, body) = *answer.lock().unwrap();
        assert_eq!(request.line, "POST /role?full HTTP/1.1");
        let length = body.len();
        let text = format!(
            "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 {status} Said\r\nTransfer-Encoding: chunked\r\n\r\n\
             {length:x}\r\n{body}\r\n0\r\n\r\n"
        );
        Then::Send(text.into_bytes())
    });
    let b = Node::scripted("b", |_| {
        Then::Send(b"HTTP/1.0 204 Fine\r\n\r\nrole=primary".to_vec())
    });
    let keyway = start(
        "interval: 100ms, http: { path: \"/role?full\", method: POST, host: \"users.test:81\", \
         expect: [201, 200-204], body: \"role=(primary|leader)$\" }",
        &[&a, &b],
    );
    until_is(&keyway, "a", "healthy up");
    // A 204 has no body to match.
    until_is(&keyway, "b", "down down");
    for (answer, expected) in [
        ((200, "role=replica"), false),
        ((201, "the role=leader"), true),
        ((205, "role=primary"), false),
        ((204, "role=primary"), false),
    ] {
        *says.lock().unwrap() = answer;
        let before = probes(&keyway, if expected { "ok" } else { "failed" });
        until(&format!("{answer:?} is {expected}"), || {
            probes(&keyway, if expected { "ok" } else { "failed" }) > before + 4
        });
    }
    let seen = &a.requests()[0];
    assert_eq!(seen.field("host"), Some("users.test:81"));
    assert!(seen.field("user-agent").unwrap().starts_with("keyway/"));
}

#[test]
fn another_port_may_be_asked_and_a_node_that_is_needed_stays() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let health = Node::scripted("health", |_| status(200));
    let port = health.address.port();
    let keyway = start(
        &format!("interval: 100ms, port: {port}, http: {{}}"),
        &[&a, &b],
    );
    until_is(&keyway, "a", "healthy up");
    until_is(&keyway, "b", "healthy up");
    assert_eq!((a.accepted(), b.accepted()), (0, 0));
    let host = health.requests()[0].field("host").unwrap().to_owned();
    assert_eq!(host, format!("127.0.0.1:{port}"));
    health.script(|_| status(500));
    // Both are found wanting, and one of them stays.
    let denied = || keyway.count("keyway_ejections_denied_total", &["reason=\"probe\""]);
    until("one is kept", || denied() == 1);
    assert_eq!(went_down(&keyway), 1);
    let failed = probes(&keyway, "failed");
    until("more failures", || probes(&keyway, "failed") > failed + 10);
    assert_eq!((denied(), went_down(&keyway)), (1, 1));
    let reply = keyway.get("/k");
    let stays = reply.node();
    assert!(standing(&keyway, stays).starts_with("healthy"), "{stays}");
}

#[test]
fn other_rules_hold_at_once() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    a.script(|request| status(if is_probe(request) { 500 } else { 200 }));
    let keyway = start("interval: 100ms, http: {}", &[&a, &b]);
    until_is(&keyway, "a", "down down");
    // Of an hour, which is begun anew.
    change(&keyway, "interval: 1h, tcp: {}");
    change(&keyway, "interval: 100ms, tcp: {}");
    until_is(&keyway, "a", "healthy up");
    change(&keyway, "interval: 100ms, http: {}");
    until_is(&keyway, "a", "down down");
    change(&keyway, "when: off, http: {}");
    until_is(&keyway, "a", "healthy unknown");
    let accepted = a.accepted();
    assert_eq!(keyway.get("/k").status, 200);
    assert!(a.accepted() <= accepted + 2);
}

#[test]
fn a_node_that_answers_requests_is_not_probed() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = start("interval: 1s, http: {}", &[&a, &b]);
    let mut client = keyway.client();
    assert_eq!(client.get("/k").node(), "a");
    let probed = || a.requests().iter().filter(|it| is_probe(it)).count();
    let before = probed();
    // b is idle.
    until("both had their turns", || {
        assert_eq!(client.get("/k").node(), "a");
        probes(&keyway, "skipped") >= 3 && b.requests().len() >= 3
    });
    assert_eq!(probed(), before);
    assert!(b.requests().iter().all(is_probe));
}

#[test]
fn who_waits_at_a_node_that_hangs_moves_once_its_probes_fail() {
    let hangs = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&hangs);
    let a = Node::scripted("a", move |_| {
        if now.load(Ordering::SeqCst) {
            Then::Hang
        } else {
            Then::Answer
        }
    });
    let b = Node::start("b");
    let keyway = Keyway::sharded(
        "prefer: order, attempt_timeout: 9s, probe: { interval: 400ms, timeout: 300ms, http: {} }",
        &[&[&a, &b]],
    );
    until_is(&keyway, "a", "healthy up");
    hangs.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let asking: Vec<_> = (0..4)
        .map(|at| {
            let mut client = keyway.client();
            thread::spawn(move || client.get(&format!("/{at}")))
        })
        .collect();
    for reply in asking {
        let reply = reply.join().unwrap();
        assert_eq!((reply.status, reply.node()), (200, "b"));
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    eprintln!("moved after {took:?}");
    let moved = keyway.count("keyway_retries_total", &["reason=\"ejected\""]);
    assert!((1..=4).contains(&moved), "{moved}");
    assert_eq!(standing(&keyway, "a"), "down down");
}

#[test]
fn a_node_that_was_ejected_comes_back_when_its_probes_can_vouch_for_it() {
    let a = Node::start("a");
    let b = Node::start("b");
    let keyway = Keyway::sharded(
        "prefer: order, eject: { base: 60s, consecutive: 2 }, \
         probe: { interval: 200ms, fall: 255, http: {} }",
        &[&[&a, &b]],
    );
    let mut client = keyway.client();
    let mut until_ejected = |then: Then| {
        a.script(move |request| {
            if is_probe(request) {
                status(200)
            } else {
                then.clone()
            }
        });
        until("an ejection", || {
            assert_eq!(client.get("/k").status, 200);
            standing(&keyway, "a").starts_with("ejected")
        });
    };
    let stays = || {
        let before = probes(&keyway, "ok");
        until("more probes", || probes(&keyway, "ok") > before + 8);
        assert!(standing(&keyway, "a").starts_with("ejected"));
    };
    // It broke connections off, and answers again.
    until_ejected(Then::Reset);
    until_is(&keyway, "a", "healthy up");
    // A connection alone does not vouch for an application that failed.
    change(&keyway, "interval: 200ms, tcp: {}");
    until_ejected(Then::Reset);
    stays();
    change(&keyway, "interval: 200ms, http: {}");
    until_is(&keyway, "a", "healthy up");
    // What it answers to requests no probe can tell.
    until_ejected(status(503));
    stays();
}

/// A door that is open or closed.
type Door = Arc<(Mutex<bool>, Condvar)>;

#[test]
fn a_keyway_that_did_not_run_blames_nobody() {
    let door: Door = Arc::new((Mutex::new(true), Condvar::new()));
    let asked = Arc::new(AtomicUsize::new(0));
    let (waits, counts) = (Arc::clone(&door), Arc::clone(&asked));
    let a = Node::scripted("a", move |_| {
        counts.fetch_add(1, Ordering::SeqCst);
        let is_open = waits.0.lock().unwrap();
        drop(waits.1.wait_while(is_open, |it| !*it).unwrap());
        status(200)
    });
    let b = Node::scripted("b", |_| status(200));
    let probe = "interval: 200ms, timeout: 1s, fall: 1, rise: 1, when: always, http: {}";
    let keyway = start(probe, &[&a, &b]);
    until_is(&keyway, "a", "healthy up");
    until_is(&keyway, "b", "healthy up");
    *door.0.lock().unwrap() = false;
    let before = asked.load(Ordering::SeqCst);
    until("a is asked", || asked.load(Ordering::SeqCst) > before);
    keyway.signal("-STOP");
    until("the stop", || keyway.is_stopped());
    // What it is about: its timers go by while it does not run.
    thread::sleep(Duration::from_secs(2));
    keyway.signal("-CONT");
    *door.0.lock().unwrap() = true;
    door.1.notify_all();
    until("a late probe", || probes(&keyway, "late") > 0);
    let good = probes(&keyway, "ok");
    until("good ones after it", || probes(&keyway, "ok") > good + 4);
    assert_eq!((went_down(&keyway), probes(&keyway, "timeout")), (0, 0));
    assert_eq!(standing(&keyway, "a"), "healthy up");
}

#[test]
fn probes_at_once_are_bounded() {
    let node = Node::scripted("n", |_| Then::Hang);
    let nodes = (0..96).map(|at| format!("{{ id: n{at}, address: \"{}\" }}", node.address));
    let nodes: Vec<_> = nodes.collect();
    let shards = nodes.chunks(16).enumerate();
    let shards: Vec<_> = shards
        .map(|(at, nodes)| format!("{{ name: s{at}, nodes: [{}] }}", nodes.join(", ")))
        .collect();
    let keyway = Keyway::start(
        "routes: [{ name: r, match: {}, key: path, cluster: c }]\n\
         clusters: { c: { probe: { interval: 100ms, timeout: 1s, http: {} } } }\n",
        &format!(
            "version: 1\nclusters: {{ c: {{ shards: [{}] }} }}\n",
            shards.join(", ")
        ),
    );
    until("probes wait", || {
        keyway.count("keyway_probes_delayed_total", &["cluster=\"c\""]) > 0
    });
    let accepted = node.accepted();
    let ended = probes(&keyway, "timeout") + probes(&keyway, "late") + probes(&keyway, "failed");
    assert!(accepted <= ended + 64, "{accepted} of {ended}");
    until("each has its turn", || {
        let nodes = keyway.admin_json("/v1/state");
        let down = nodes.to_string().matches("\"probed\":\"down\"").count();
        // One of each shard stays.
        down == 90
    });
}

#[test]
fn probes_are_introduced_as_nobodys() {
    for (version, introduction) in [
        ("v1", &b"PROXY UNKNOWN\r\n"[..]),
        ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("node.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (seen, sees) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") || bytes.len() < 40 {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                bytes.push(byte[0]);
            }
            seen.send(bytes).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        });
        let node = format!("{{ id: a, address: \"unix:{}\" }}", socket.display());
        let keyway = Keyway::start(
            &format!(
                "routes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n\
                 clusters: {{ c: {{ proxy_protocol: {version}, probe: {{ rise: 1, interval: 100ms, http: {{}} }} }} }}\n"
            ),
            &format!(
                "version: 1\nclusters: {{ c: {{ shards: [{{ name: s, nodes: [{node}] }}] }} }}\n"
            ),
        );
        let bytes = sees.recv_timeout(Duration::from_secs(10)).unwrap();
        let request = bytes.strip_prefix(introduction).unwrap();
        let request = String::from_utf8_lossy(request);
        let expected = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
        assert!(request.starts_with(expected), "{request:?}");
        until_is(&keyway, "a", "healthy up");
    }
}

#[test]
fn probes_speak_the_clusters_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for it in [&authority, &stranger] {
        it.certify("node", &["127.0.0.1"], 2040);
    }
    let nginx = |of: &Authority| {
        let path = of.folder().display();
        Server::nginx(&format!(
            "server {{ listen LISTEN ssl http2; ssl_certificate {path}/node.crt;\n\
             ssl_certificate_key {path}/node.key;\n\
             location /healthz {{ return 200 \"$server_protocol\"; }} }}"
        ))
    };
    let (known, unknown) = (nginx(&authority), nginx(&stranger));
    for (protocol, check) in [
        ("auto", "tcp: {}"),
        ("auto", "http: { body: HTTP/2 }"),
        ("http1", "http: { body: HTTP/1.1 }"),
        ("h2", "http: { body: HTTP/2, host: users.test }"),
    ] {
        let keyway = Keyway::start(
            &format!(
                "routes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n\
                 clusters: {{ c: {{ protocol: {protocol}, tls: {{ ca: {} }}, \
                 probe: {{ interval: 100ms, {check} }} }} }}\n",
                authority.path("ca.crt").display()
            ),
            &format!(
                "version: 1\nclusters: {{ c: {{ shards: [{{ name: s, nodes: [\
                 {{ id: known, address: \"{}\" }}, {{ id: unknown, address: \"{}\" }}] }}] }} }}\n",
                known.address, unknown.address
            ),
        );
        until_is(&keyway, "known", "healthy up");
        until_is(&keyway, "unknown", "down down");
    }
}

#[test]
fn by_default_an_idle_node_is_asked_for_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let a = Node::start("a");
    let nodes = topology(&[&[&a]]).replace(&a.address.to_string(), &address.to_string());
    // The file says nothing of probes.
    let keyway = Keyway::start_probing(
        "routes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &nodes,
    );
    let (mut stream, _) = listener.accept().unwrap();
    let mut nothing = Vec::new();
    stream.read_to_end(&mut nothing).unwrap();
    assert_eq!(nothing, b"");
    until("it is counted", || probes(&keyway, "ok") > 0);
}
