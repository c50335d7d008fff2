//! The access log: every request is a line while somebody reads, and nobody waits when nobody does.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Keyway, Node, Then, topology, until};

fn logging(format: &str, node: &Node) -> Keyway {
    let route = "{ name: r, match: { path: \"/{key}/**\" }, key: \"path:key\", cluster: c }";
    Keyway::start(
        &format!(
            "access_log: {format}\nthreads: 2\ndrain_timeout: 300ms\nroutes: [{route}]\n\
             limits: {{ head_bytes: 64KiB, target_bytes: 32KiB }}\n"
        ),
        &topology(&[&[node]]),
    )
}

/// The requests that are logged so far, by their targets.
fn targets(keyway: &Keyway) -> Vec<String> {
    let targets = keyway.events().into_iter();
    let targets = targets.filter_map(|it| Some(it.get("target")?.as_str()?.to_owned()));
    // keyway's own log names its modules so.
    targets.filter(|it| it.starts_with('/')).collect()
}

/// A target that makes a line of 30 KiB.
fn long(at: usize) -> String {
    format!("/k/{at}/{}", "x".repeat(30 << 10))
}

fn dropped(keyway: &Keyway) -> usize {
    keyway.count("keyway_access_log_dropped_total", &[])
}

#[test]
fn ten_thousand_requests_are_as_many_lines_in_order() {
    const CONNECTIONS: usize = 4;
    const EACH: usize = 2500;
    let node = Node::start("a");
    let mut keyway = logging("json", &node);
    let clients = (0..CONNECTIONS).map(|at| {
        let mut client = keyway.client();
        thread::spawn(move || {
            for request in 0..EACH {
                assert_eq!(client.get(&format!("/{at}/{request}")).status, 200);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    until("every line", || {
        targets(&keyway).len() == CONNECTIONS * EACH
    });
    let targets = targets(&keyway);
    for at in 0..CONNECTIONS {
        let sign = format!("/{at}/");
        let found = targets.iter().filter_map(|it| it.strip_prefix(&sign));
        let expected = (0..EACH).map(|it| it.to_string());
        assert!(found.eq(expected), "the lines of connection {at}");
    }
}

#[test]
fn what_the_end_cuts_is_logged() {
    let (_release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let node = Node::scripted("a", move |_| {
        let _released = held.lock().unwrap().recv();
        Then::Answer
    });
    let mut keyway = logging("text", &node);
    let mut clients = [keyway.client(), keyway.client(), keyway.client()];
    for client in &mut clients {
        client.send("GET /k/cut HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    until("the requests in flight", || {
        keyway.count("keyway_requests_in_flight", &[]) == clients.len()
    });
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    until("their lines", || {
        let log = keyway.log();
        let cut = |it: &&String| it.contains("\"GET /k/cut HTTP/1.1\" - 0 ");
        let lines: Vec<_> = log.iter().filter(cut).collect();
        lines.len() == clients.len() && lines.iter().all(|it| it.contains("class=aborted"))
    });
}

#[test]
fn a_reader_that_stalls_costs_lines_and_delays_no_request() {
    const REQUESTS: usize = 400;
    let node = Node::start("a");
    let keyway = logging("json", &node);
    let reader = keyway.reader();
    let stalled = reader.lock().unwrap();
    let mut client = keyway.client();
    for at in 0..REQUESTS {
        assert_eq!(client.get(&long(at)).status, 200);
    }
    until("dropped lines", || dropped(&keyway) > 0);
    drop(stalled);
    until("every line, written or dropped", || {
        targets(&keyway).len() + dropped(&keyway) == REQUESTS
    });
    // What is written is whole and in order.
    let number = |it: &String| it.split('/').nth(2).unwrap().parse::<usize>().unwrap();
    let numbers: Vec<_> = targets(&keyway).iter().map(number).collect();
    assert!(numbers.is_sorted() && numbers.len() > 100, "{numbers:?}");
    assert!(targets(&keyway).iter().all(|it| *it == long(number(it))));
    // The reader is back, and so are the lines.
    assert_eq!(client.get("/k/after").status, 200);
    until("a line", || targets(&keyway).contains(&"/k/after".into()));
}

#[test]
fn the_end_waits_for_a_slow_reader() {
    let node = Node::start("a");
    let mut keyway = logging("json", &node);
    let reader = keyway.reader();
    let stalled = reader.lock().unwrap();
    // More than the pipe holds.
    for at in 0..20 {
        assert_eq!(keyway.get(&long(at)).status, 200);
    }
    keyway.signal("-TERM");
    // Longer than everything else takes, and less than it waits.
    thread::sleep(Duration::from_millis(300));
    drop(stalled);
    assert!(keyway.wait().success());
    until("every line", || targets(&keyway).len() == 20);
}

#[test]
fn a_reader_that_stalls_does_not_hold_up_the_end() {
    let node = Node::start("a");
    let mut keyway = logging("json", &node);
    let reader = keyway.reader();
    let _stalled = reader.lock().unwrap();
    let mut client = keyway.client();
    for at in 0..20 {
        assert_eq!(client.get(&long(at)).status, 200);
    }
    let began = Instant::now();
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_reader_that_left_ends_nothing() {
    let node = Node::start("a");
    let mut keyway = logging("text", &node);
    keyway.hang_up();
    until("dropped lines", || {
        assert_eq!(keyway.get("/k/1").status, 200);
        dropped(&keyway) > 0
    });
    let told = |it: &Value| it["message"] == "the output takes no more lines: they are dropped";
    until("a warning", || keyway.events().iter().any(told));
    assert_eq!(keyway.get("/k/1").status, 200);
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    assert_eq!(keyway.events().iter().filter(|it| told(it)).count(), 1);
}

/// keyway with `access_log` as these keys say.
fn keyed(access_log: &str, cluster: &str, nodes: &[&Node]) -> Keyway {
    Keyway::start(
        &format!(
            "access_log: {{ {access_log} }}\n\
             routes: [{{ name: r, match: {{ path: \"/{{key}}/**\" }}, key: \"path:key\", cluster: c }}]\n\
             clusters:\n  c: {{ {cluster} }}\n"
        ),
        &topology(&[nodes]),
    )
}

fn lines(keyway: &Keyway, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(keyway.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_template_goes_to_a_file_that_may_be_moved() {
    let node = Node::start("a");
    let keyway = keyed(
        "format: \"%{method} %{path} %{status} %{bytes} %{nodes}\", to: access.log",
        "prefer: key",
        &[&node],
    );
    assert_eq!(keyway.get("/k/1?q=2").status, 200);
    until("a line", || {
        lines(&keyway, "access.log") == ["GET /k/1 200 1 a"]
    });
    std::fs::rename(keyway.path("access.log"), keyway.path("access.log.1")).unwrap();
    assert_eq!(keyway.get("/k/2").status, 200);
    until("a line in a new file", || {
        lines(&keyway, "access.log") == ["GET /k/2 200 1 a"]
    });
    assert_eq!(lines(&keyway, "access.log.1"), ["GET /k/1 200 1 a"]);
    // Another file by a reload.
    let yaml = std::fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    keyway.replace("keyway.yaml", &yaml.replace("access.log", "other.log"));
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
    assert_eq!(keyway.get("/k/3").status, 200);
    until("a line in another file", || {
        lines(&keyway, "other.log") == ["GET /k/3 200 1 a"]
    });
}

#[test]
fn a_full_disk_costs_lines_and_delays_no_request() {
    let node = Node::start("a");
    let keyway = keyed("format: text, to: /dev/full", "prefer: key", &[&node]);
    until("dropped lines", || {
        assert_eq!(keyway.get("/k/1").status, 200);
        dropped(&keyway) > 0
    });
}

#[test]
fn a_line_tells_of_each_attempt_and_of_the_time() {
    let (a, b) = (Node::down("a"), Node::start("b"));
    let keyway = keyed("format: json, to: access.log", "prefer: order", &[&a, &b]);
    let busy = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
    let reply = keyway.client().ask("PUT", "/k/put", &[], b"twelve bytes");
    assert_eq!(reply.node(), "b");
    b.script(|_| Then::Send(busy.to_vec()));
    // What is told depends on whether the first is tried last.
    assert!(keyway.get("/k/busy").status >= 502);
    let events = || -> Vec<Value> {
        let lines = lines(&keyway, "access.log");
        lines
            .iter()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect()
    };
    until("both lines", || events().len() == 2);
    // Each thread has lines of its own.
    let of = |target: &str| events().into_iter().find(|it| it["target"] == target);
    let (put, busy) = (of("/k/put").unwrap(), of("/k/busy").unwrap());
    let tried = |it: &Value| {
        let nodes = it["nodes"].as_array().unwrap().clone();
        let each = |it: &Value| format!("{} {}", it["node"], it["failed"]).replace('"', "");
        nodes.iter().map(each).collect::<Vec<_>>()
    };
    assert_eq!(tried(&put), ["a connect", "b null"]);
    assert_eq!(
        (&put["attempts"], &put["bytes_received"]),
        (&2.into(), &12.into())
    );
    assert!(tried(&busy).contains(&"b 503".to_owned()), "{busy}");
    let seconds = |name: &str| put[name].as_f64().unwrap();
    let (whole, head) = (seconds("duration_seconds"), seconds("first_byte_seconds"));
    let own = seconds("overhead_seconds");
    assert!(
        0.0 < own && own < whole && 0.0 < head && head <= whole,
        "{put}"
    );
}

#[test]
fn time_at_a_node_is_no_overhead() {
    let node = Node::scripted("a", |_| {
        thread::sleep(Duration::from_millis(200));
        Then::Answer
    });
    let keyway = keyed(
        "format: \"%{overhead_seconds} %{first_byte_seconds}\", to: access.log",
        "prefer: order",
        &[&node],
    );
    assert_eq!(keyway.get("/k/1").status, 200);
    until("a line", || !lines(&keyway, "access.log").is_empty());
    let line = lines(&keyway, "access.log").remove(0);
    let (own, head) = line.split_once(' ').unwrap();
    let (own, head): (f64, f64) = (own.parse().unwrap(), head.parse().unwrap());
    assert!(head >= 0.2 && own < 0.2, "{line}");
}

#[test]
fn only_what_is_asked_for_is_logged() {
    let node = Node::scripted("a", |request| match request.target() {
        "/k/bad" => Then::Send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "/k/slow" => {
            thread::sleep(Duration::from_millis(300));
            Then::Answer
        }
        _ => Then::Answer,
    });
    for (only, expected) in [
        ("all", &["/k/fine", "/k/bad", "/k/slow", "//", "/k/end"][..]),
        ("errors", &["/k/bad", "//"]),
        ("slow:300ms", &["/k/slow"]),
    ] {
        let format = "format: \"%{target}\", to: access.log";
        let mut keyway = keyed(&format!("{format}, only: \"{only}\""), "", &[&node]);
        let mut client = keyway.client();
        for target in ["/k/fine", "/k/bad", "/k/slow", "//", "/k/end"] {
            client.get(target);
        }
        keyway.signal("-TERM");
        assert!(keyway.wait().success());
        assert_eq!(lines(&keyway, "access.log"), expected, "{only}");
    }
}

#[test]
fn what_is_no_request_is_a_line_too() {
    let node = Node::start("a");
    let keyway = logging("json", &node);
    let mut client = keyway.client();
    client.send("what is this?\r\n\r\n");
    assert_eq!(client.reply().status, 400);
    let mut client = keyway.client();
    client.send("GET /k/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(client.reply().status, 400);
    let mut found = Vec::new();
    until("both lines", || {
        found = keyway.events();
        found.retain(|it| it["reason"] == "bad_request");
        found.len() == 2
    });
    // The second could be read, and says two things. Each thread writes its own lines in order.
    found.retain(|it| it["method"] != "GET");
    let [line] = &found[..] else {
        panic!("one line of what could not be read: {found:?}");
    };
    assert_eq!(line["method"], Value::Null);
    assert_eq!(line["target"], "");
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["status"], 400);
    assert_eq!(line["class"], "4xx");
}

#[test]
fn a_trace_is_sampled_as_a_whole() {
    let node = Node::start("a");
    let format = "format: \"%{path}\", to: access.log";
    let mut keyway = keyed(&format!("{format}, sample: 25%"), "", &[&node]);
    let mut client = keyway.client();
    let mut expected = Vec::new();
    for at in 0..64_u64 {
        // Every 64th of the numbers that a trace may have.
        let trace = format!("00-{:018x}{:014x}-00f067aa0ba902b7-01", at + 1, at << 50);
        for _ in 0..2 {
            let target = format!("/k/{at}");
            client.ask("GET", &target, &[("traceparent", &trace)], b"");
            expected.extend((at < 16).then_some(target));
        }
    }
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    assert_eq!(lines(&keyway, "access.log"), expected);
}
