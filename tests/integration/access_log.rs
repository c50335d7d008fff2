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
