//! The process's own log: hot, bounded, and never in the way.

use serde_json::Value;

use crate::support::{Keyway, Node, topology, until};

const ROUTE: &str =
    "routes: [{ name: r, match: { path: \"/{key}/**\" }, key: \"path:key\", cluster: c }]\n";

/// keyway of one node that is down: each request is told of at level debug.
fn failing(log: &str) -> Keyway {
    let node = Node::down("a");
    let once = "clusters: { c: { retry: { attempts: 1 } } }\n";
    let keyway = format!("log: {{ {log} }}\n{ROUTE}{once}");
    Keyway::start(&keyway, &topology(&[&[&node]]))
}

fn told(keyway: &Keyway, message: &str) -> usize {
    let says = |it: &Value| it["message"] == message;
    keyway.events().iter().filter(|it| says(it)).count()
}

const DRAINED: &str = "an operator drains a node or takes it back";
const ATTEMPT: &str = "an attempt failed";

fn dropped(keyway: &Keyway, reason: &str) -> usize {
    let reason = format!("reason=\"{reason}\"");
    keyway.count("keyway_log_dropped_total", &[&reason])
}

fn set(keyway: &Keyway, log: &str) {
    let text = std::fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    let lines = text.lines().map(|line| {
        let line = if line.starts_with("log:") {
            format!("log: {{ {log} }}")
        } else {
            line.to_owned()
        };
        line + "\n"
    });
    keyway.replace("keyway.yaml", &lines.collect::<String>());
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
}

#[test]
fn the_file_says_what_is_logged_until_an_operator_does() {
    let keyway = failing("level: info");
    assert_eq!(keyway.get("/1").status, 503);
    set(&keyway, "level: debug");
    assert_eq!(keyway.get("/1").status, 503);
    until("a line of the second", || told(&keyway, ATTEMPT) == 1);
    assert_eq!(keyway.admin("PUT", "/v1/log-level", "info").status, 200);
    assert_eq!(keyway.get("/1").status, 503);
    // A change of something else leaves the operator's word alone.
    set(&keyway, "level: debug }\nlimits: { body_wait: 29s");
    assert_eq!(keyway.get("/1").status, 503);
    set(&keyway, "level: \"warn,keyway::proxy=debug\"");
    assert_eq!(keyway.get("/1").status, 503);
    until("a line of the last", || told(&keyway, ATTEMPT) == 2);
}

#[test]
fn the_format_is_hot() {
    let keyway = failing("level: debug, format: json");
    set(&keyway, "level: debug, format: text");
    assert_eq!(keyway.get("/1").status, 503);
    until("a line of text", || {
        let is_text =
            |it: &String| it.contains("DEBUG") && it.contains(ATTEMPT) && !it.starts_with('{');
        keyway.log().iter().any(is_text)
    });
    assert_eq!(told(&keyway, ATTEMPT), 0);
}

#[test]
fn a_reader_that_stalls_costs_lines_and_delays_no_request() {
    let keyway = failing("level: debug");
    let reader = keyway.reader();
    let stalled = reader.lock().unwrap();
    let mut client = keyway.client();
    until("dropped lines", || {
        for _ in 0..500 {
            assert_eq!(client.get("/1").status, 503);
        }
        dropped(&keyway, "output") > 0
    });
    drop(stalled);
    // A line that none was like before; the first ones may still find no room.
    until("lines again", || {
        assert_eq!(keyway.admin("POST", "/v1/nodes/a/drain", "").status, 200);
        keyway.log().iter().any(|it| it.contains(DRAINED))
    });
}

#[test]
fn a_reader_that_left_ends_nothing() {
    let mut keyway = failing("level: debug");
    keyway.hang_up_errors();
    until("dropped lines", || {
        assert_eq!(keyway.get("/1").status, 503);
        dropped(&keyway, "output") > 0
    });
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
}

#[test]
fn repeats_are_left_out_and_counted() {
    let keyway = failing("level: info");
    for _ in 0..14 {
        assert_eq!(keyway.admin("POST", "/v1/nodes/a/drain", "").status, 200);
    }
    assert_eq!(keyway.admin("POST", "/v1/nodes/a/undrain", "").status, 200);
    assert_eq!(dropped(&keyway, "repeat"), 4);
    until("ten lines and another one", || told(&keyway, DRAINED) == 11);
    let says = |it: &Value| it["repeated"] == DRAINED && it["lines"] == 4;
    until("what was left out", || keyway.events().iter().any(says));
}

#[test]
fn the_last_lines_are_written() {
    let mut keyway = failing("level: info");
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    until("the last line", || {
        told(&keyway, "drained: no connection is left") == 1
    });
}
