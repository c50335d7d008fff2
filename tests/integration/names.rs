//! Nodes with names: what a name server says or does not say moves no key and keeps no request.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Authority, Keyway, Kind, NameServer, Node, Record, Says, Server, Then, until,
};

/// Keys of which it is asked where they are.
const KEYS: usize = 40;

/// A node's id and its address as written.
type Named<'a> = (&'a str, String);

/// Keyway that asks `dns`, with one cluster `c` of these shards, keyed by the path's first segment.
fn start(dns: &NameServer, cluster: &str, shards: &[&[Named<'_>]]) -> Keyway {
    let keyway = format!(
        "resolver: {{ nameservers: [\"{}\"] }}\n\
         routes:\n  - {{ name: r, match: {{ path: \"/{{key}}/**\" }}, cluster: c, key: \"path:key\" }}\n\
         clusters:\n  c: {{ {cluster} }}\n",
        dns.address
    );
    Keyway::start(&keyway, &topology(shards))
}

fn topology(shards: &[&[Named<'_>]]) -> String {
    let mut text = "version: 1\nclusters:\n  c:\n    shards:\n".to_owned();
    for (at, nodes) in shards.iter().enumerate() {
        text += &format!("      - name: s{at}\n        nodes:\n");
        for (id, address) in *nodes {
            text += &format!("          - {{ id: {id}, address: \"{address}\" }}\n");
        }
    }
    text
}

/// Answers with what is where the first node is, at another address of loopback.
fn beside(node: &Node, id: &str, address: &str) -> Node {
    let id = id.to_owned();
    let address = SocketAddr::new(address.parse().unwrap(), node.address.port());
    Node::listen(&id, address, |_| Then::Answer)
}

fn is_resolved(keyway: &Keyway, node: &str) -> bool {
    let labels = [&format!("node=\"{node}\""), "standing=\"unresolved\""];
    keyway.metric("keyway_node_standing", &labels) == 0.0
}

fn lookups(keyway: &Keyway, outcome: &str) -> usize {
    let label = format!("outcome=\"{outcome}\"");
    keyway.count("keyway_dns_lookups_total", &[&label])
}

/// The shard of each of some keys, and every candidate in its order.
fn places(keyway: &Keyway) -> Vec<Value> {
    let explain = |key| {
        let told = keyway.admin_json(&format!("/v1/explain?cluster=c&key=k{key}"));
        let candidates = told["candidates"].as_array().unwrap().iter();
        let nodes = candidates.map(|it| it["node"].clone());
        Value::Array([told["shard"].clone()].into_iter().chain(nodes).collect())
    };
    (0..KEYS).map(explain).collect()
}

/// The addresses that are known of the first node.
fn resolved(keyway: &Keyway) -> Value {
    keyway.admin_json("/v1/state")["clusters"][0]["shards"][0]["nodes"][0]["resolved"].clone()
}

#[test]
fn the_last_good_answer_stays_whatever_the_name_server_does() {
    let nodes = ["gone", "failing", "empty", "blocked", "silent"].map(Node::start);
    let dns = NameServer::start(|_, _| Says::addresses(&["127.0.0.1"]));
    let named = |it: &Node| {
        let name = format!("{}.test:{}", it.id, it.address.port());
        [(it.id.clone(), name)]
    };
    let shards = nodes.each_ref().map(named);
    let shards = shards
        .each_ref()
        .map(|[it]| [(it.0.as_str(), it.1.clone())]);
    let shards: Vec<_> = shards.iter().map(<[_; 1]>::as_slice).collect();
    let keyway = start(&dns, "", &shards);
    for node in &nodes {
        until("the name resolves", || is_resolved(&keyway, &node.id));
    }
    let before = places(&keyway);
    let serving: Vec<_> = (0..KEYS)
        .map(|key| keyway.get(&format!("/k{key}")).node().to_owned())
        .collect();

    dns.script(|name, _| match name {
        "gone.test" => Says::NoSuchName,
        "failing.test" => Says::ServFail,
        "empty.test" => Says::Records(1, Vec::new()),
        "blocked.test" => Says::addresses(&["0.0.0.0"]),
        _ => Says::Silence,
    });
    until("every lookup failed in its way", || {
        let failed = ["empty", "failed", "timeout"].map(|it| lookups(&keyway, it));
        failed[0] >= 6 && failed[1] >= 1 && failed[2] >= 1
    });
    assert_eq!(places(&keyway), before);
    for (key, node) in serving.iter().enumerate() {
        let reply = keyway.get(&format!("/k{key}"));
        assert_eq!((reply.status, reply.node()), (200, node.as_str()));
    }
    for node in &nodes {
        assert!(is_resolved(&keyway, &node.id), "{}", node.id);
        assert!(!node.requests().is_empty(), "{} owns a key", node.id);
        let labels = [&*format!("node=\"{}\"", node.id)];
        assert_eq!(keyway.count("keyway_node_addresses", &labels), 1);
        let age = keyway.metric("keyway_node_addresses_age_seconds", &labels);
        assert!(age > 1.0, "{} was last seen {age} s ago", node.id);
    }
    assert_eq!(keyway.count("keyway_ring_generation", &[]), 1);
}

/// Old and new address both serve: only the name server says which one is the node.
#[test]
fn a_node_that_moves_is_followed_without_a_failed_request() {
    let a = Node::start("a");
    let b = beside(&a, "b", "127.0.0.2");
    let dns = NameServer::start(|_, _| Says::addresses(&["127.0.0.1"]));
    let name = format!("moves.test:{}", a.address.port());
    let keyway = start(&dns, "retry: { attempts: 1 }", &[&[("n", name)]]);
    until("the name resolves", || is_resolved(&keyway, "n"));
    let before = places(&keyway);
    let mut client = keyway.client();
    assert_eq!(client.get("/k").node(), "a");
    dns.script(|_, _| Says::addresses(&["127.0.0.2"]));
    until("the new address serves", || {
        let reply = client.get("/k");
        assert_eq!(reply.status, 200);
        reply.node() == "b"
    });
    let upstream = ["side=\"upstream\""];
    until("the old address is left", || {
        keyway.count("keyway_connections", &upstream) == 1
    });
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
    assert_eq!(places(&keyway), before);
    assert_eq!(keyway.count("keyway_errors_total", &[]), 0);
}

#[test]
fn a_thousand_records_in_any_order_are_the_same_few() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let turn = AtomicUsize::new(0);
    let dns = NameServer::start(move |_, _| {
        let mut records: Vec<_> = (0..999_u32)
            .map(|at| Record::A((0x7f01_0000 + at).into()))
            .collect();
        records.push(Record::A([127, 0, 0, 1].into()));
        records.rotate_left(turn.fetch_add(379, Ordering::SeqCst) % 1000);
        Says::Records(1, records)
    });
    let many = format!("many.test:{}", a.address.port());
    let few = b.address.to_string();
    let keyway = start(&dns, "", &[&[("a", many)], &[("b", few)]]);
    until("the name resolves", || is_resolved(&keyway, "a"));
    let (known, before) = (resolved(&keyway), places(&keyway));
    assert_eq!(known.as_array().unwrap().len(), 32);
    let seen = dns.asked("many.test", Kind::A);
    until("two more answers", || lookups(&keyway, "ok") >= 3);
    assert!(dns.asked("many.test", Kind::A) > seen);
    assert_eq!((resolved(&keyway), places(&keyway)), (known, before));
    let cut = keyway.count("keyway_dns_addresses_cut_total", &[]);
    assert_eq!(cut % 968, 0);
    assert!(cut >= 3 * 968);
    for key in 0..KEYS {
        assert_eq!(keyway.get(&format!("/k{key}")).status, 200);
    }
    assert!(!a.requests().is_empty() && !b.requests().is_empty());
}

#[test]
fn no_request_waits_for_a_name_server() {
    let b = Node::start("b");
    let dns = NameServer::start(|_, _| Says::Silence);
    let shards: [&[Named<'_>]; 2] = [
        &[("a", "silent.test:80".to_owned())],
        &[("b", b.address.to_string())],
    ];
    let keyway = start(&dns, "", &shards);
    until("it is asked", || dns.asked("silent.test", Kind::A) > 0);
    let begun = Instant::now();
    let replies: Vec<_> = (0..KEYS)
        .map(|key| keyway.get(&format!("/k{key}")))
        .collect();
    // A lookup takes five seconds to fail.
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let of = |status| replies.iter().filter(|it| it.status == status).count();
    assert!(of(200) > 0 && of(503) > 0);
    assert_eq!(of(200) + of(503), KEYS);
    assert!(
        replies
            .iter()
            .all(|it| it.status == 200 || it.error() == "no_healthy_node")
    );
}

#[test]
fn without_name_servers_the_system_is_asked() {
    let a = Node::start("a");
    let keyway = Keyway::start(
        "routes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &topology(&[&[("a", format!("localhost:{}", a.address.port()))]]),
    );
    until("the name resolves", || is_resolved(&keyway, "a"));
    assert_eq!(keyway.get("/k").node(), "a");
}

#[test]
fn a_slow_name_delays_no_other() {
    let b = Node::start("b");
    let dns = NameServer::start(|name, _| match name {
        "quick.test" => Says::addresses(&["127.0.0.1"]),
        _ => Says::Silence,
    });
    let slow = |at: usize| (["a", "c", "d"][at], format!("slow-{at}.test:80"));
    let quick = ("b", format!("quick.test:{}", b.address.port()));
    let keyway = start(&dns, "", &[&[slow(0), slow(1), slow(2), quick]]);
    until("the quick name resolves", || is_resolved(&keyway, "b"));
    assert_eq!(lookups(&keyway, "timeout"), 0);
    assert_eq!(keyway.get("/k").node(), "b");
}

#[test]
fn a_family_that_is_not_answered_for_keeps_nobody() {
    let a = Node::start("a");
    let dns = NameServer::start(|_, kind| match kind {
        Kind::A => Says::addresses(&["127.0.0.1"]),
        _ => Says::Silence,
    });
    let begun = Instant::now();
    let keyway = start(
        &dns,
        "",
        &[&[("a", format!("a.test:{}", a.address.port()))]],
    );
    until("the name resolves", || is_resolved(&keyway, "a"));
    // The question that is not answered takes five seconds to fail.
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(lookups(&keyway, "timeout"), 0);
    assert_eq!(keyway.get("/k").node(), "a");
}

#[test]
fn a_dead_family_fails_no_request() {
    let a = Node::start("a");
    let port = a.address.port();
    let dns = NameServer::start(|_, kind| match kind {
        Kind::Aaaa => Says::Records(1, vec![Record::Aaaa(Ipv6Addr::LOCALHOST)]),
        _ => Says::addresses(&["127.0.0.1"]),
    });
    let keyway = start(&dns, "", &[&[("a", format!("a.test:{port}"))]]);
    let both = json!([format!("[::1]:{port}"), format!("127.0.0.1:{port}")]);
    until("both families are known", || resolved(&keyway) == both);
    assert_eq!(keyway.get("/k").node(), "a");
}

#[test]
fn a_dead_address_fails_no_request_and_the_live_one_stays_first() {
    let a = Node::start("a");
    let b = beside(&a, "b", "127.0.0.2");
    a.kill();
    let dns = NameServer::start(|_, _| Says::addresses(&["127.0.0.1", "127.0.0.2"]));
    let name = format!("two.test:{}", a.address.port());
    let keyway = start(&dns, "", &[&[("two", name)]]);
    until("the name resolves", || is_resolved(&keyway, "two"));
    assert_eq!(keyway.get("/k").node(), "b");
    let (address, id) = (a.address, a.id.clone());
    drop(a);
    let a = Node::listen(&id, address, |_| Then::Answer);
    for _ in 0..3 {
        b.close_connections();
        until("the connection is seen to be closed", || {
            keyway.count("keyway_connections", &["side=\"upstream\""]) == 0
        });
        assert_eq!(keyway.get("/k").node(), "b");
    }
    assert!(a.requests().is_empty());
    b.kill();
    assert_eq!(keyway.get("/k").node(), "a");
    assert_eq!(keyway.count("keyway_retries_total", &[]), 0);
}

#[test]
fn a_silent_address_costs_part_of_the_time_to_connect() {
    // Nobody accepts, and the queue is full: the system drops what comes.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    silent.bind(&any.into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let _fills = std::net::TcpStream::connect(address).unwrap();
    let live = SocketAddr::new("127.0.0.2".parse().unwrap(), address.port());
    let b = Node::listen("b", live, |_| Then::Answer);
    let dns = NameServer::start(|_, _| Says::addresses(&["127.0.0.1", "127.0.0.2"]));
    let name = format!("two.test:{}", address.port());
    let keyway = start(&dns, "connect_timeout: 8s", &[&[("two", name)]]);
    until("the name resolves", || is_resolved(&keyway, "two"));
    let begun = Instant::now();
    assert_eq!(keyway.get("/k").node(), "b");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(240), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert_eq!(b.accepted(), 1);
}

#[test]
fn names_and_name_servers_follow_the_files() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let first =
        NameServer::start(|_, _| Says::Records(300, vec![Record::A([127, 0, 0, 1].into())]));
    let second = NameServer::start(|_, _| Says::addresses(&["127.0.0.1"]));
    let named = |node: &Node, name: &str| format!("{name}.test:{}", node.address.port());
    let keyway = start(&first, "prefer: order", &[&[("a", named(&a, "a"))]]);
    until("the name resolves", || is_resolved(&keyway, "a"));

    let asked = first.asked("a.test", Kind::A);
    let text = topology(&[&[("b", named(&b, "b")), ("a2", named(&a, "a"))]]);
    assert_eq!(keyway.reload_topology(&text).status, 200);
    until("the new name resolves", || is_resolved(&keyway, "b"));
    // A new node of a name that is known need not wait.
    assert!(is_resolved(&keyway, "a2"));
    assert_eq!(keyway.get("/k").node(), "b");
    assert!(asked >= 1);

    let text = std::fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    let other = text.replace(&first.address.to_string(), &second.address.to_string());
    keyway.replace("keyway.yaml", &other);
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
    until("the other name server is asked", || {
        second.asked("b.test", Kind::A) > 0
    });
}

/// A record for a target `ID.test` where that node is.
fn target(priority: u16, weight: u16, node: &Node) -> Record {
    let name = format!("{}.test", node.id);
    Record::Srv(priority, weight, node.address.port(), name)
}

#[test]
fn a_service_is_its_targets_in_their_order() {
    let nodes = ["a", "b", "c"].map(Node::start);
    let [a, b, c] = &nodes;
    let records = [target(2, 9, c), target(1, 1, b), target(1, 5, a)];
    let turn = AtomicUsize::new(0);
    let dns = NameServer::start(move |name, kind| match (name, kind) {
        ("_http._tcp.users.test", Kind::Srv) => {
            let mut records = records.to_vec();
            records.rotate_left(turn.fetch_add(1, Ordering::SeqCst) % 3);
            Says::Records(1, records)
        }
        ("a.test" | "b.test" | "c.test", _) => Says::addresses(&["127.0.0.1"]),
        _ => Says::NoSuchName,
    });
    let service = "srv:_http._tcp.users.test".to_owned();
    let cluster = "authority: node, retry: { attempts: 1 }";
    let keyway = start(&dns, cluster, &[&[("n", service)]]);
    until("the service resolves", || is_resolved(&keyway, "n"));
    let addresses = nodes.each_ref().map(|it| it.address.to_string());
    until("some more answers", || lookups(&keyway, "ok") >= 3);
    assert_eq!(resolved(&keyway), json!(addresses));
    for node in &nodes {
        assert_eq!(keyway.get("/k").node(), node.id);
        assert_eq!(node.requests()[0].field("host"), Some("users.test"));
        node.kill();
        until("the connection is seen to be closed", || {
            keyway.count("keyway_connections", &["side=\"upstream\""]) == 0
        });
    }
}

#[test]
fn a_service_keeps_what_it_had_of_a_target_that_fails() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let records = vec![target(1, 0, &a), target(2, 0, &b)];
    let both = json!([a.address.to_string(), b.address.to_string()]);
    let services = records.clone();
    let dns = NameServer::start(move |_, kind| match kind {
        Kind::Srv => Says::Records(1, services.clone()),
        _ => Says::addresses(&["127.0.0.1"]),
    });
    let keyway = start(
        &dns,
        "",
        &[&[("n", "srv:_http._tcp.users.test".to_owned())]],
    );
    until("the service resolves", || resolved(&keyway) == both);
    dns.script(move |name, kind| match (name, kind) {
        (_, Kind::Srv) => Says::Records(1, vec![records[1].clone(), records[0].clone()]),
        ("a.test", _) => Says::ServFail,
        _ => Says::addresses(&["127.0.0.1"]),
    });
    let ok = lookups(&keyway, "ok");
    until("more answers", || lookups(&keyway, "ok") >= ok + 2);
    dns.script(|_, _| Says::NoSuchName);
    until("the service is gone", || lookups(&keyway, "empty") > 0);
    assert_eq!(resolved(&keyway), both);
    assert_eq!(keyway.get("/k").node(), "a");
}

#[test]
fn under_tls_a_service_is_its_domain_not_its_target() {
    for (certified, status) in [("users.test", 200), ("target.test", 503)] {
        let authority = Authority::new();
        authority.certify("node", &[certified], 2040);
        let path = authority.folder().display();
        let server = Server::nginx(&format!(
            "server {{ listen LISTEN ssl; ssl_certificate {path}/node.crt;\n\
             ssl_certificate_key {path}/node.key;\n\
             location / {{ return 200 \"$ssl_server_name\"; }} }}"
        ));
        let port = server.address.port();
        let dns = NameServer::start(move |_, kind| match kind {
            Kind::Srv => Says::Records(9, vec![Record::Srv(0, 0, port, "target.test".to_owned())]),
            _ => Says::addresses(&["127.0.0.1"]),
        });
        let cluster = format!("tls: {{ ca: {path}/ca.crt }}");
        let service = "srv:_https._tcp.users.test".to_owned();
        let keyway = start(&dns, &cluster, &[&[("n", service)]]);
        until("the service resolves", || is_resolved(&keyway, "n"));
        let reply = keyway.get("/k");
        assert_eq!(reply.status, status, "a certificate for {certified}");
        if status == 200 {
            assert_eq!(reply.text(), "users.test");
        }
    }
}
