//! What an operator, a probe and Prometheus see, and who may change something.

use std::fs;

use crate::support::{Client, Keyway, Node, Then, until};

#[test]
fn the_state_and_the_reasons_are_told() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded("prefer: order", &[&[&a, &b]]);
    let state = keyway.admin_json("/v1/state");
    let nodes = &state["clusters"][0]["shards"][0]["nodes"];
    assert_eq!(
        (nodes[0]["id"].as_str(), nodes[0]["standing"].as_str()),
        (Some("a"), Some("healthy"))
    );
    a.kill();
    assert_eq!(keyway.get("/k").node(), "b");
    let explained = keyway.admin_json("/v1/explain?cluster=c&key=k");
    assert_eq!(explained["shard"], "s0");
    assert_eq!(
        explained["slot"],
        u64::from_str_radix(explained["token"].as_str().unwrap(), 16).unwrap() >> 48
    );
    assert_eq!(explained["candidates"][0]["node"], "a");
    assert_eq!(explained["candidates"][0]["skipped"], "suspect");
    assert_eq!(
        explained["candidates"][1]["skipped"],
        serde_json::Value::Null
    );
    assert_eq!(
        keyway
            .admin("GET", "/v1/explain?cluster=x&key=k", "")
            .status,
        404
    );
    assert_eq!(keyway.admin("GET", "/v1/explain?cluster=c", "").status, 400);
}

#[test]
fn the_configuration_is_shown_without_what_the_environment_gave() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    let yaml = fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    // PATH is set everywhere, and nobody's secret here.
    keyway.replace("keyway.yaml", &(yaml + "zone: \"z-${PATH}\"\n"));
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
    let config = keyway.admin_json("/v1/config");
    assert_eq!(config["keyway"]["zone"], "z-${PATH}");
    assert_eq!(config["topology"]["version"], 1);
    assert!(
        keyway.admin_json("/v1/state")["zone"]
            .as_str()
            .unwrap()
            .starts_with("z-/")
    );
}

#[test]
fn only_this_machine_and_no_page_from_elsewhere_changes_anything() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    let ask = |host: &str, more: &str| {
        let mut client = Client::connect(keyway.admin);
        client.send(format!(
            "POST /v1/nodes/a/drain HTTP/1.1\r\nHost: {host}\r\n{more}Content-Length: 0\r\n\r\n"
        ));
        client.reply().status
    };
    assert_eq!(ask("evil.test", ""), 403);
    assert_eq!(ask("localhost", "Origin: http://evil.test\r\n"), 403);
    assert_eq!(
        keyway.admin_json("/v1/state")["clusters"][0]["shards"][0]["nodes"][0]["drained"],
        false
    );
    assert_eq!(ask("localhost", "Origin: http://localhost\r\n"), 200);
    assert_eq!(keyway.admin("GET", "/v1/reload", "").status, 405);
    assert_eq!(keyway.admin("GET", "/nothing", "").status, 404);
}

#[test]
fn the_log_level_is_hot() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    a.script(|_| Then::Reset);
    assert_eq!(keyway.get("/k").status, 502);
    let debugged = || {
        keyway
            .events()
            .iter()
            .any(|it| it["message"] == "an attempt failed")
    };
    assert!(!debugged());
    assert_eq!(
        keyway
            .admin("PUT", "/v1/log-level", "info,keyway=debug")
            .status,
        200
    );
    assert_eq!(keyway.get("/k").status, 502);
    until("a debug line", debugged);
    assert_eq!(
        keyway.admin("PUT", "/v1/log-level", "no=such=level").status,
        400
    );
}

/// A log in a folder that is watched would else never end.
#[test]
fn what_watches_files_is_not_traced() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    assert_eq!(keyway.admin("PUT", "/v1/log-level", "trace").status, 200);
    let yaml = fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    keyway.replace("keyway.yaml", &(yaml + "zone: z\n"));
    until("the change", || {
        keyway.admin_json("/v1/state")["zone"] == "z"
    });
    let log = keyway.log();
    assert!(!log.iter().any(|it| it.contains("\"target\":\"notify")));
}

/// Nor a target, whatever else is told of what went wrong.
#[test]
fn no_field_key_or_body_is_logged() {
    let a = Node::start("a");
    let keyway = Keyway::keyed("key: \"header:x-key\"", "", &[&[&a]]);
    let level = keyway.admin("PUT", "/v1/log-level", "debug");
    assert_eq!(level.status, 200);
    let fields = "Host: a\r\nX-Key: hush-key\r\nAuthorization: hush-field\r\n";
    let requests = [
        format!("PUT /hush-path HTTP/1.1\r\n{fields}Content-Length: 9\r\n\r\nhush-body"),
        format!("GET /hush-path HTTP/1.1\r\n{fields}X: hush\0\r\n\r\n"),
        format!("PUT /hush-path HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\nhush\r\n"),
    ];
    let send = || {
        for request in &requests {
            keyway.client().send(request).reply();
        }
    };
    send();
    a.script(|_| Then::Send(b"hush-answer\r\n\r\n".to_vec()));
    send();
    until("what went wrong is told", || {
        let mut events = keyway.events().into_iter();
        events.any(|it| it["message"] == "an attempt failed")
    });
    let log = keyway.log().concat();
    assert!(!log.contains("hush"), "{log}");
}

#[test]
fn the_access_log_has_one_line_a_request() {
    let a = Node::start("a");
    let keyway = Keyway::sharded("", &[&[&a]]);
    let yaml = fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    for (format, sign) in [
        ("json", "\"target\":\"/k?q=1\""),
        ("text", "\"GET /k?q=1 HTTP/1.1\" 200 1 "),
    ] {
        keyway.replace("keyway.yaml", &format!("{yaml}access_log: {format}\n"));
        assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
        let before = keyway.log().len();
        keyway.get("/k?q=1");
        let lines = || {
            let log = keyway.log();
            log[before..]
                .iter()
                .filter(|it| it.contains(sign))
                .cloned()
                .collect::<Vec<_>>()
        };
        until("the line", || lines().len() == 1);
        let [line] = lines().try_into().unwrap();
        for part in ["s0", "a", "2xx", "r"] {
            assert!(line.contains(part), "{line}");
        }
    }
}

#[test]
fn metrics_follow_what_happened() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded("prefer: order", &[&[&a, &b]]);
    a.script(|_| Then::Send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec()));
    assert_eq!(keyway.get("/k").node(), "b");
    keyway.get("/nope/../x");
    let metric = |family: &str, labels: &[&str]| keyway.metric(family, labels);
    let until_is = |family: &str, labels: &[&str], expected: f64| {
        until(family, || metric(family, labels) == expected);
    };
    until_is(
        "keyway_requests_total",
        &["route=\"r\"", "method=\"GET\"", "class=\"2xx\""],
        2.0,
    );
    until_is(
        "keyway_attempts_total",
        &["node=\"a\"", "class=\"5xx\""],
        2.0,
    );
    until_is(
        "keyway_attempts_total",
        &["node=\"b\"", "class=\"2xx\""],
        2.0,
    );
    until_is("keyway_retries_total", &["reason=\"status\""], 2.0);
    until_is("keyway_failovers_total", &["rank=\"1\""], 2.0);
    until_is(
        "keyway_request_duration_seconds_count",
        &["route=\"r\""],
        2.0,
    );
    until_is("keyway_requests_in_flight", &[], 0.0);
    assert_eq!(
        metric("keyway_ring_ownership_ratio", &["shard=\"s0\""]),
        1.0
    );
    assert_eq!(metric("keyway_build_info", &[]), 1.0);
    assert!(metric("process_resident_memory_bytes", &[]) > 1e6);
    assert_eq!(
        metric("keyway_node_standing", &["node=\"a\""]),
        1.0,
        "exactly one standing"
    );
}
