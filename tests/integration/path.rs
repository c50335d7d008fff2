//! What goes through: bytes, fields, bodies and framing.

use crate::support::{Keyway, Node, Then, topology, until};

#[test]
fn a_request_reaches_the_node_of_its_key_and_comes_back() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let reply = keyway
        .client()
        .ask("PUT", "/k/x%2Fy?q=%41", &[("X-A", "1")], b"hello");
    assert_eq!(
        (reply.status, reply.node(), reply.text().as_str()),
        (200, "a", "a")
    );
    let [seen] = node.requests().try_into().unwrap();
    assert_eq!(seen.line, "PUT /k/x%2Fy?q=%41 HTTP/1.1");
    assert_eq!(seen.field("host"), Some("app.test"));
    assert_eq!(seen.field("x-a"), Some("1"));
    assert_eq!(seen.body, b"hello");
}

#[test]
fn hop_by_hop_fields_stay_and_via_is_added() {
    let node = Node::scripted("a", |_| {
        Then::Send(b"HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Stays: 1\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    let keyway = Keyway::sharded("", &[&[&node]]);
    let reply = keyway.client().ask(
        "GET",
        "/k",
        &[
            ("Connection", "keep-alive, X-Drop, Cookie"),
            ("X-Drop", "1"),
            ("Cookie", "a=b"),
            ("Upgrade", "h2c"),
            ("TE", "trailers, gzip"),
            ("Proxy-Authorization", "Basic eDp5"),
        ],
        b"",
    );
    assert_eq!(reply.field("x-hop"), None);
    assert_eq!(reply.field("keep-alive"), None);
    assert_eq!(reply.field("x-stays"), Some("1"));
    assert!(reply.field("via").unwrap().starts_with("1.1 keyway-"));
    let [seen] = node.requests().try_into().unwrap();
    for gone in ["connection", "x-drop", "upgrade", "proxy-authorization"] {
        assert_eq!(seen.field(gone), None, "{gone}");
    }
    assert_eq!(seen.field("cookie"), Some("a=b"));
    assert_eq!(seen.field("te"), Some("trailers"));
    assert!(seen.field("via").unwrap().starts_with("1.1 keyway-"));
}

#[test]
fn a_request_that_passed_this_keyway_is_a_loop() {
    let node = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&node]]);
    let via = keyway.get("/k").field("via").unwrap().to_owned();
    let reply = keyway.client().ask("GET", "/k", &[("Via", &via)], b"");
    assert_eq!((reply.status, reply.error()), (508, "loop"));
    assert_eq!(node.requests().len(), 1);
}

/// What keyway routed by is what the node reads: Connection cannot take it away.
#[test]
fn connection_hides_nothing_that_the_route_goes_by() {
    let node = Node::start("a");
    let keyway = Keyway::start(
        "routes: [{ name: r, match: { headers: { x-version: \"2\" } }, key: \"{header:x-user}-\", cluster: c }]\n",
        &topology(&[&[&node]]),
    );
    let ask = |connection: &str| {
        let fields = [
            ("Connection", connection),
            ("X-Version", "2"),
            ("X-User", "7"),
        ];
        let reply = keyway.client().ask("GET", "/", &fields, b"");
        (reply.status, reply.error().to_owned())
    };
    let bad = (400, "bad_request".to_owned());
    assert_eq!(ask("keep-alive, x-user"), bad);
    assert_eq!(ask("X-Version"), bad);
    assert_eq!(ask("x-other").0, 200);
    assert_eq!(node.requests().len(), 1);
}

/// keyway with a cluster that wants normal forms, and one that does not, and a node of each.
fn normalizing() -> (Keyway, Node, Node) {
    let (tidy, raw) = (Node::start("tidy"), Node::start("raw"));
    let nodes = [("tidy", &tidy), ("raw", &raw)];
    let clusters = nodes.map(|(name, node)| {
        format!(
            "  {name}: {{ nodes: [{{ id: {name}, address: \"{}\" }}] }}\n",
            node.address
        )
    });
    let keyway = Keyway::start(
        "access_log: json\nroutes:\n\
         \x20 - { name: raw, match: { path: \"/raw/**\" }, key: path, cluster: raw }\n\
         \x20 - { name: users, match: { path: \"/users/{id}/**\" }, key: \"path:id\", cluster: tidy }\n\
         \x20 - { name: all, match: {}, key: path, cluster: tidy }\n\
         clusters: { tidy: { path: normalize, annotate: { response: [shard] } } }\n",
        &format!("version: 1\nclusters:\n{}", clusters.concat()),
    );
    (keyway, tidy, raw)
}

/// What is routed and keyed is what the node sees: the normal form, where the cluster wants that.
#[test]
fn a_cluster_may_want_normal_forms() {
    let (keyway, tidy, raw) = normalizing();
    let mut client = keyway.client();
    for (target, seen) in [
        ("/users/42/x?a=/../%41", "/users/42/x?a=/../%41"),
        ("//users/./%34%32/y/../x?a=/../%41", "/users/42/x?a=/../%41"),
        ("/a/../users/42?", "/users/42?"),
        ("http://app.test//users//42", "/users/42"),
        ("/raw/%41/../b", "/raw/%41/../b"),
    ] {
        assert_eq!(client.get(target).status, 200, "{target}");
        let node = if seen.starts_with("/raw") {
            &raw
        } else {
            &tidy
        };
        assert_eq!(node.requests().pop().unwrap().target(), seen, "{target}");
    }
    for (target, detail) in [
        ("/a/../../b", "above its root"),
        ("/users/%00", "%00"),
        ("/users/%zz", "hex digits"),
        // By the bytes it is for one cluster, by what the node would read for another.
        ("/users/../raw/b", "two clusters"),
    ] {
        let reply = client.get(target);
        assert_eq!(
            (reply.status, reply.error()),
            (400, "bad_request"),
            "{target}"
        );
        assert!(reply.text().contains(detail), "{target}: {}", reply.text());
    }
    let output = std::process::Command::new("curl")
        .args(["-sSf", "--http2-prior-knowledge", "--path-as-is"])
        .arg(format!("http://{}//users/%34%32/./x?q=%41", keyway.address))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(tidy.requests().pop().unwrap().target(), "/users/42/x?q=%41");
    until("the access log tells what went on", || {
        let events = keyway.events();
        let has = |target: &str| events.iter().any(|it| it["target"] == target);
        has("/users/42/x?q=%41") && has("/users/42?") && has("/raw/%41/../b")
    });
}

/// RFC 9112 3.2.4: the whole server, however a proxy is asked for it.
#[test]
fn options_may_be_asked_of_the_server() {
    let node = Node::start("a");
    let routes = "routes: [{ name: r, match: {}, key: host, cluster: c }]\n";
    let keyway = Keyway::start(routes, &topology(&[&[&node]]));
    for (target, seen) in [
        ("*", "*"),
        ("http://app.test", "*"),
        ("http://app.test/", "/"),
        ("http://app.test?", "/?"),
    ] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        assert_eq!(keyway.client().send(request).reply().status, 200);
        let line = node.requests().pop().unwrap().line;
        assert_eq!(line, format!("OPTIONS {seen} HTTP/1.1"), "{target}");
    }
}
