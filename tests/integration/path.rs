//! What goes through: bytes, fields, bodies and framing.

use crate::support::{Keyway, Node, Then};

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
        ],
        b"",
    );
    assert_eq!(reply.field("x-hop"), None);
    assert_eq!(reply.field("keep-alive"), None);
    assert_eq!(reply.field("x-stays"), Some("1"));
    assert!(reply.field("via").unwrap().starts_with("1.1 keyway-"));
    let [seen] = node.requests().try_into().unwrap();
    for gone in ["connection", "x-drop", "upgrade"] {
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
