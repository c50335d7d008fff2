//! From a request to its key, and from the key to one shard; what happens without one.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use crate::support::{Client, Keyway, Node, Reply, Then, topology};

/// Three shards of one node each.
struct Shards {
    nodes: [Node; 3],
    keyway: Keyway,
}

impl Shards {
    /// A keyway whose route has these settings.
    fn start(route: &str) -> Self {
        let nodes = ["a", "b", "c"].map(Node::start);
        let [a, b, c] = &nodes;
        let keyway = Keyway::keyed(route, "", &[&[a], &[b], &[c]]);
        Self { nodes, keyway }
    }

    /// The node that keyway says owns this key, given as a query's value.
    fn owner(&self, key: &str) -> String {
        owner(&self.keyway, key)
    }

    fn send(&self, request: impl AsRef<[u8]>) -> Reply {
        self.keyway.client().send(request).reply()
    }

    /// How many requests the nodes saw.
    fn served(&self) -> usize {
        self.nodes.iter().map(|it| it.requests().len()).sum()
    }

    /// The last body that this node saw.
    fn last_body(&self, node: &str) -> Vec<u8> {
        let node = self.nodes.iter().find(|it| it.id == node).unwrap();
        node.requests().pop().unwrap().body
    }

    fn missing(&self, policy: &str) -> usize {
        let policy = format!("policy=\"{policy}\"");
        self.keyway
            .count("keyway_missing_keys_total", &["route=\"r\"", &policy])
    }

    fn errors(&self, route: &str, reason: &str) -> usize {
        let labels = [format!("route=\"{route}\""), format!("reason=\"{reason}\"")];
        let labels = labels.each_ref().map(String::as_str);
        self.keyway.count("keyway_errors_total", &labels)
    }
}

fn owner(keyway: &Keyway, key: &str) -> String {
    let explained = keyway.admin_json(&format!("/v1/explain?cluster=c&key={key}"));
    let node = &explained["candidates"][0]["node"];
    node.as_str().unwrap().to_owned()
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")
}

fn put(fields: &str, body: &str) -> String {
    let length = body.len();
    format!("PUT /k HTTP/1.1\r\nHost: app.test\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

/// A body with this member, and this long.
fn body_with_id(id: &str, length: usize) -> String {
    let start = format!("{{\"id\":\"{id}\",\"rest\":\"");
    let rest = "x".repeat(length - start.len() - 2);
    start + &rest + "\"}"
}

/// Two ids of differing owners.
fn strangers(shards: &Shards) -> (String, String) {
    let first = shards.owner("id-0");
    let ids = (1..100).map(|at| format!("id-{at}"));
    let other = ids.into_iter().find(|id| shards.owner(id) != first);
    ("id-0".to_owned(), other.unwrap())
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn every_source_leads_to_the_owner_of_its_key() {
    type Text = fn(&str) -> String;
    // The source; a request with a value there; the key, as a query's value.
    let table: &[(&str, Text, Text)] = &[
        (
            "\"header:x-user\"",
            |v| get("/k", &format!("X-UsER:  {v} \r\n")),
            str::to_owned,
        ),
        (
            "\"cookie:id\"",
            |v| get("/k", &format!("Cookie: xid=1; id=a%20{v}; id2=3\r\n")),
            |v| format!("a%20{v}"),
        ),
        (
            "\"query:id\"",
            |v| get(&format!("/k?id2=1&id=a%20{v}+&x"), ""),
            |v| format!("a%20{v}%2B"),
        ),
        (
            "\"raw:query:id\"",
            |v| get(&format!("/k?id=a%20{v}"), ""),
            |v| format!("a%2520{v}"),
        ),
        (
            "\"path:key\"",
            |v| get(&format!("/a%2F{v}/rest?q"), ""),
            |v| format!("a%2F{v}"),
        ),
        (
            "path",
            |v| get(&format!("/k/%7e{v}?q=1"), ""),
            |v| format!("%2Fk%2F%257e{v}"),
        ),
        (
            "target",
            |v| get(&format!("/k/%7e{v}?q=1"), ""),
            |v| format!("%2Fk%2F%257e{v}%3Fq=1"),
        ),
        (
            "host",
            |v| format!("GET /k HTTP/1.1\r\nHost: {v}.TEST:8080\r\n\r\n"),
            |v| format!("{v}.test"),
        ),
        (
            "\"body:/user/id\"",
            |v| put("", &format!("{{\"id\":1,\"user\":{{\"id\":\"{v}\"}}}}")),
            str::to_owned,
        ),
        (
            "\"{header:x-tenant}/{path:key}\"",
            |v| get(&format!("/{v}"), "X-Tenant: t\r\n"),
            |v| format!("t%2F{v}"),
        ),
        (
            "[\"header:x-user\", \"query:id\"]",
            |v| get("/k?id=other", &format!("X-User: {v}\r\n")),
            str::to_owned,
        ),
        (
            "[\"header:x-user\", \"query:id\"]",
            |v| get(&format!("/k?id={v}"), "X-User:\r\n"),
            str::to_owned,
        ),
        (
            "[\"header:x-user\", \"body:/id\"]",
            |v| put("", &format!("{{\"id\":\"{v}\"}}")),
            str::to_owned,
        ),
    ];
    for (source, request, key) in table {
        let shards = Shards::start(&format!("key: {source}"));
        let mut owners = HashSet::new();
        for value in (0..16).map(|at| format!("u{at}")) {
            let owner = shards.owner(&key(&value));
            for _ in 0..2 {
                let reply = shards.send(request(&value));
                let found = (reply.status, reply.node());
                assert_eq!(found, (200, &*owner), "{source} of {value}");
            }
            owners.insert(owner);
        }
        assert!(owners.len() > 1, "{source}: all keys on {owners:?}");
    }
}

#[test]
fn a_clients_address_is_its_key() {
    let shards = Shards::start("key: client_ip");
    let mut owners = HashSet::new();
    for at in 1..=16 {
        let address = format!("127.0.0.{at}");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from: SocketAddr = format!("{address}:0").parse().unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&shards.keyway.address.into()).unwrap();
        let reply = Client::on(socket.into()).get("/k");
        let owner = shards.owner(&address);
        assert_eq!((reply.status, reply.node()), (200, &*owner), "{address}");
        owners.insert(owner);
    }
    assert!(owners.len() > 1, "all clients on {owners:?}");
}

#[test]
fn keys_are_any_bytes() {
    let shards = Shards::start("key: \"path:key\"");
    let mut owners = BTreeSet::new();
    for at in 0..16 {
        let key = format!("%00%FF%c3%28{at}%2f%25");
        let reply = shards.send(get(&format!("/{key}/x"), ""));
        let owner = shards.owner(&key);
        assert_eq!((reply.status, reply.node()), (200, &*owner), "{key}");
        owners.insert(owner.clone());
        // And it arrives as it came.
        let node = shards.nodes.iter().find(|it| it.id == owner).unwrap();
        assert_eq!(
            node.requests().last().unwrap().target(),
            format!("/{key}/x")
        );
    }
    assert!(owners.len() > 1, "all keys on {owners:?}");

    let shards = Shards::start("key: \"header:x-user\"");
    for at in 0..16 {
        let at = at.to_string();
        let request = [
            b"GET /k HTTP/1.1\r\nHost: app.test\r\nX-User: \xff\x80".as_slice(),
            at.as_bytes(),
            b"\r\n\r\n",
        ];
        let reply = shards.send(request.concat());
        let owner = shards.owner(&format!("%FF%80{at}"));
        assert_eq!((reply.status, reply.node()), (200, &*owner));
        let node = shards.nodes.iter().find(|it| it.id == owner).unwrap();
        let requests = node.requests();
        let arrived = requests.last().unwrap().field("x-user").unwrap();
        assert_eq!(arrived, format!("\u{ff}\u{80}{at}"));
    }
}

#[test]
fn a_body_is_read_for_its_key_and_arrives_whole() {
    let shards = Shards::start("key: \"body:/id\"");
    let mut client = shards.keyway.client();
    let mut owners = HashSet::new();
    for at in 0..16 {
        // The last is as large as may be read.
        let (id, length) = (
            format!("id-{at}"),
            if at < 15 { 100 << (at % 9) } else { 64 << 10 },
        );
        let body = body_with_id(&id, length);
        let owner = shards.owner(&id);
        let reply = client.ask("PUT", "/k", &[], body.as_bytes());
        assert_eq!((reply.status, reply.node()), (200, &*owner), "{id}");
        assert!(shards.last_body(&owner) == body.as_bytes(), "{id}");
        owners.insert(owner);
    }
    assert!(owners.len() > 1, "all keys on {owners:?}");
    assert_eq!(shards.missing("reject"), 0);
}

#[test]
fn a_number_is_a_key_as_written() {
    let shards = Shards::start("key: \"body:/id\"");
    for number in ["7", "7.0", "70e-1", "-7", "123456789012345678901234567890"] {
        let reply = shards.send(put("", &format!("{{\"id\": {number} }}")));
        assert_eq!(reply.node(), shards.owner(number), "{number}");
    }
}

#[test]
fn a_body_in_chunks_is_read_for_its_key_and_arrives_whole() {
    let shards = Shards::start("key: \"body:/id\"");
    let (one, other) = strangers(&shards);
    for id in [one, other] {
        let body = body_with_id(&id, 1000);
        let mut client = shards.keyway.client();
        client.send("PUT /k HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in body.as_bytes().chunks(7) {
            client.send(format!("{:x}\r\n", chunk.len()));
            client.send(chunk).send("\r\n");
        }
        let reply = client.send("0\r\n\r\n").reply();
        let owner = shards.owner(&id);
        assert_eq!((reply.status, reply.node()), (200, &*owner));
        assert!(shards.last_body(&owner) == body.as_bytes());
    }
}

#[test]
fn a_client_that_expects_100_is_asked_for_the_body_that_has_its_key() {
    let shards = Shards::start("key: \"body:/id\"");
    let (one, other) = strangers(&shards);
    let mut client = shards.keyway.client();
    for id in [one, other] {
        let body = body_with_id(&id, 100);
        client.send("PUT /k HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n");
        assert_eq!(client.reply().status, 100);
        let reply = client.send(&body).reply();
        let owner = shards.owner(&id);
        assert_eq!((reply.status, reply.node()), (200, &*owner));
        // keyway has answered it: the node is not asked once more.
        let node = shards.nodes.iter().find(|it| it.id == owner).unwrap();
        assert_eq!(node.requests().last().unwrap().field("expect"), None);
        assert!(shards.last_body(&owner) == body.as_bytes());
    }
}

#[test]
fn a_body_that_was_read_for_its_key_can_be_sent_again() {
    let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
    let keyway = Keyway::keyed("key: \"body:/id\"", "prefer: order", &[&[&a, &b]]);
    let body = body_with_id("x", 10 << 10);
    let reply = keyway.client().ask("PUT", "/k", &[], body.as_bytes());
    assert_eq!((reply.status, reply.node()), (200, "b"));
    for node in [&a, &b] {
        assert!(node.requests()[0].body == body.as_bytes(), "at {}", node.id);
    }
}

/// Bodies without a key at `/id`, though `id` is in them.
fn keyless_bodies(id: &str) -> Vec<String> {
    vec![
        String::new(),
        body_with_id(id, (64 << 10) + 1),
        body_with_id(id, 1 << 20),
        format!("{{\"id\":\"{id}\""),
        format!("id={id}"),
        format!("{{\"id\":\"{id}\"}} trailing"),
        format!("{{\"ID\":\"{id}\"}}"),
        format!("{{\"id\":{{\"id\":\"{id}\"}}}}"),
        "{\"id\":true}".to_owned(),
        "{\"id\":null}".to_owned(),
        "{\"id\":\"\"}".to_owned(),
    ]
}

#[test]
fn a_body_without_a_key_is_rejected() {
    let shards = Shards::start("key: \"body:/id\"");
    let bodies = keyless_bodies("x");
    for body in &bodies {
        let reply = shards
            .keyway
            .client()
            .ask("PUT", "/k", &[], body.as_bytes());
        let found = (reply.status, reply.error());
        assert_eq!(found, (400, "missing_key"), "{body:.40}");
    }
    assert_eq!(shards.served(), 0);
    assert_eq!(shards.missing("reject"), bodies.len());
}

#[test]
fn a_body_without_a_key_goes_where_its_route_says() {
    for policy in ["spread", "value:anon"] {
        let route = format!("key: \"body:/id\", on_missing_key: \"{policy}\"");
        let shards = Shards::start(&route);
        let anon = shards.owner("anon");
        let mut ids = (0..100).map(|at| format!("id-{at}"));
        let id = ids.find(|id| shards.owner(id) != anon).unwrap();
        let bodies = keyless_bodies(&id);
        for body in &bodies {
            let reply = shards
                .keyway
                .client()
                .ask("PUT", "/k", &[], body.as_bytes());
            assert_eq!(reply.status, 200, "{body:.40}");
            if policy != "spread" {
                assert_eq!(reply.node(), anon, "{body:.40}");
            }
            assert!(shards.last_body(reply.node()) == body.as_bytes());
        }
        let label = policy.split(':').next().unwrap();
        assert_eq!(shards.missing(label), bodies.len());
        // With a key nothing changes.
        assert_eq!(
            shards.send(put("", &body_with_id(&id, 50))).node(),
            shards.owner(&id)
        );
    }
}

#[test]
fn a_body_that_does_not_come_is_the_clients_fault() {
    let shards = Shards::start("key: \"body:/id\", timeout: 500ms");
    let head = "PUT /k HTTP/1.1\r\nHost: app.test\r\n";
    let reply = shards.send(format!("{head}Content-Length: 10\r\n\r\n{{\"id\""));
    assert_eq!((reply.status, reply.error()), (408, "request_timeout"));
    let reply = shards.send(format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\nZZ\r\n"
    ));
    assert_eq!((reply.status, reply.error()), (400, "bad_request"));
    shards.keyway.until_idle();
    assert_eq!(shards.served(), 0);
    assert_eq!(shards.keyway.count("keyway_attempts_total", &[]), 0);
}

#[test]
fn a_missing_key_is_rejected() {
    let shards = Shards::start("key: [\"header:x-user\", \"{query:a}-{query:b}\"]");
    let keyless = [
        get("/k", ""),
        get("/k", "X-User:\r\n"),
        get("/k", "X-User:  \r\n"),
        get("/k?a=1", ""),
        get("/k?a=1&b=", ""),
        get("/k?a=1&c=2", "X-Other: 1\r\n"),
    ];
    for request in &keyless {
        let reply = shards.send(request);
        let found = (reply.status, reply.error());
        assert_eq!(found, (400, "missing_key"), "{request}");
    }
    assert_eq!(shards.served(), 0);
    assert_eq!(shards.missing("reject"), keyless.len());
    assert_eq!(shards.errors("r", "missing_key"), keyless.len());
    assert_eq!(shards.send(get("/k?a=1&b=2", "")).status, 200);
    assert_eq!(shards.missing("reject"), keyless.len());
}

#[test]
fn a_missing_key_spreads_or_is_replaced() {
    let shards = Shards::start("key: \"header:x-user\", on_missing_key: spread");
    let replies: Vec<_> = (0..60).map(|_| shards.send(get("/k", ""))).collect();
    assert!(replies.iter().all(|it| it.status == 200));
    let nodes: HashSet<_> = replies.iter().map(Reply::node).collect();
    assert_eq!(nodes.len(), 3);
    assert_eq!(shards.missing("spread"), 60);

    let shards = Shards::start("key: \"header:x-user\", on_missing_key: \"value:a b\"");
    let owner = shards.owner("a%20b");
    for _ in 0..10 {
        assert_eq!(shards.send(get("/k", "")).node(), owner);
    }
    assert_eq!(shards.missing("value"), 10);
    assert_eq!(shards.keyway.count("keyway_errors_total", &[]), 0);
}

#[test]
fn a_key_given_twice_is_one_only_when_both_are_equal() {
    for (source, equal, differing) in [
        (
            "header:x-user",
            get("/k", "X-User: 1\r\nX-User: 1\r\n"),
            get("/k", "X-User: 1\r\nX-User: 2\r\n"),
        ),
        (
            "cookie:id",
            get("/k", "Cookie: id=1; id=1\r\n"),
            get("/k", "Cookie: id=1\r\nCookie: id=2\r\n"),
        ),
        (
            "query:id",
            get("/k?id=1&id=%31", ""),
            get("/k?id=1&id=2", ""),
        ),
        (
            "body:/id",
            put("", "{\"id\":\"1\",\"id\":\"1\"}"),
            put("", "{\"id\":\"1\",\"id\":\"2\"}"),
        ),
    ] {
        let shards = Shards::start(&format!("key: \"{source}\", on_missing_key: spread"));
        let reply = shards.send(equal);
        assert_eq!((reply.status, reply.node()), (200, &*shards.owner("1")));
        let reply = shards.send(differing);
        let found = (reply.status, reply.error());
        assert_eq!(found, (400, "bad_request"), "{source}");
        assert_eq!(shards.served(), 1);
        assert_eq!(shards.errors("r", "bad_request"), 1);
        assert_eq!(shards.missing("spread"), 0);
    }
}

#[test]
fn a_request_without_a_route_is_told_so_in_its_own_terms() {
    let shards = Shards::start("key: \"path:key\"");
    let reply = shards.send(get("/", ""));
    assert_eq!((reply.status, reply.error()), (404, "no_route"));
    let kind = reply.field("content-type");
    assert_eq!(kind, Some("application/problem+json"));
    assert_eq!(reply.field("grpc-status"), None);
    let reply = shards.send(get("/", "Content-Type: application/grpc+proto\r\n"));
    assert_eq!((reply.status, reply.error()), (200, "no_route"));
    assert_eq!(reply.field("grpc-status"), Some("12"));
    assert_eq!(reply.field("content-type"), Some("application/grpc"));
    assert_eq!(reply.body, b"");
    assert_eq!(shards.errors("", "no_route"), 2);
    assert_eq!(shards.served(), 0);
}

#[test]
fn a_request_has_one_host() {
    let shards = Shards::start("key: \"path:key\"");
    for hosts in [
        "",
        "Host: a.test\r\nHost: a.test\r\n",
        "Host: a.test\r\nHost: b.test\r\n",
        "Host: a.test, b.test\r\n",
        "Host: u@a.test\r\n",
        "Host: a.test:x\r\n",
    ] {
        let reply = shards.send(format!("GET /k HTTP/1.1\r\n{hosts}\r\n"));
        let found = (reply.status, reply.error());
        assert_eq!(found, (400, "bad_request"), "{hosts:?}");
        // A target that names one replaces it, and needs it all the same (RFC 9112 3.2, 3.2.2).
        let reply = shards.send(format!("GET http://a.test/k HTTP/1.1\r\n{hosts}\r\n"));
        let found = (reply.status, reply.error());
        assert_eq!(found, (400, "bad_request"), "{hosts:?}");
    }
    assert_eq!(shards.served(), 0);
    let reply = shards.send("GET /k HTTP/1.0\r\n\r\n");
    assert_eq!(reply.status, 200, "HTTP/1.0 needs none");
}

#[test]
fn methods_that_are_not_for_proxies_like_this_one_are_refused() {
    let shards = Shards::start("key: \"path:key\"");
    for request in [
        "TRACE /k HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n",
    ] {
        let reply = shards.send(request);
        let found = (reply.status, reply.error());
        assert_eq!(found, (405, "method_not_allowed"), "{request}");
        let allowed = reply.field("allow").unwrap();
        assert!(allowed.contains("GET") && allowed.contains("PATCH"));
        assert!(!allowed.contains("TRACE") && !allowed.contains("CONNECT"));
    }
    assert_eq!(shards.served(), 0);
    // Methods that nobody knows are the node's business.
    let reply = shards.send("BREW /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(reply.status, 200);
    assert_eq!(
        shards
            .keyway
            .count("keyway_requests_total", &["method=\"_OTHER\""]),
        2
    );
}

#[test]
fn a_pin_comes_before_the_placement() {
    let nodes = ["a", "b", "c"].map(Node::start);
    let [a, b, c] = &nodes;
    let shards: &[&[&Node]] = &[&[a], &[b], &[c]];
    let keyway = Keyway::keyed("key: \"path:key\"", "", shards);
    // Some keys of another shard than the last.
    let keys = (0..100).map(|at| format!("k {at}"));
    let escaped = |key: &String| key.replace(' ', "%20");
    let strays: Vec<_> = keys
        .filter(|key| owner(&keyway, &escaped(key)) != "c")
        .collect();
    let (pinned, others) = strays.split_at(10);
    let mut text = topology(shards) + "    pins:\n";
    for key in pinned {
        text += &format!("      \"{key}\": s2\n");
    }
    assert_eq!(keyway.reload_topology(&text).status, 200);
    for key in pinned {
        let reply = keyway.get(&format!("/{}", escaped(key)));
        assert_eq!((reply.status, reply.node()), (200, "c"), "{key}");
    }
    for key in others {
        let reply = keyway.get(&format!("/{}", escaped(key)));
        assert_ne!(reply.node(), "c", "{key}");
    }
}
