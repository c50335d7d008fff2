//! The start: ready when there is a topology to serve by, and clear words when there is no start.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Client, Keyway, Node, topology, until};

const ROUTE: &str = "routes:\n  - { name: r, match: {}, key: path, cluster: c }\n";

/// What is no topology, or none for the route; `None`: there is no file.
const BROKEN: [Option<&str>; 5] = [
    None,
    Some(""),
    Some("version: 1\nclusters: [\n"),
    Some("version: 1\nclusters: {}\n"),
    // It can be read, and not placed.
    Some(
        "version: 1\nclusters:\n  c:\n    zone_spread: strict\n    replication_factor: 2\n    nodes:\n      \
         - { id: a, address: \"127.0.0.1:1\" }\n      - { id: b, address: \"127.0.0.1:2\" }\n",
    ),
];

fn start(settings: &str, topology: Option<&str>) -> Keyway {
    let folder = tempfile::tempdir().unwrap();
    let keyway = format!(
        "listeners: [{{ name: app, address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
         pre_drain: 0s\ndrain_timeout: 5s\n{settings}\n{ROUTE}clusters: {{ c: {{ probe: {{ when: off }} }} }}\n"
    );
    std::fs::write(folder.path().join("keyway.yaml"), keyway).unwrap();
    if let Some(topology) = topology {
        std::fs::write(folder.path().join("topology.yaml"), topology).unwrap();
    }
    let config = folder.path().join("keyway.yaml");
    Keyway::run(folder, &["run", "--config", config.to_str().unwrap()])
}

fn keyway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn wait(admin: &str, timeout: &str) -> Output {
    keyway(&["wait", "--admin", admin, "--timeout", timeout])
}

#[test]
fn waits_for_a_topology_and_then_serves_who_waited() {
    for broken in BROKEN {
        let node = Node::start("a");
        let keyway = start("", broken);
        let ready = keyway.admin("GET", "/readyz", "");
        assert_eq!(
            (ready.status, ready.text().trim()),
            (503, "waiting for a valid topology"),
            "{broken:?}"
        );
        assert_eq!(keyway.admin("GET", "/livez", "").status, 200);
        assert_eq!(keyway.count("keyway_config_last_reload_successful", &[]), 0);
        let mut early = keyway.client();
        early.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
        keyway.replace("topology.yaml", &topology(&[&[&node]]));
        assert_eq!(early.reply().text(), "a", "{broken:?}");
        assert_eq!(keyway.admin("GET", "/readyz", "").status, 200);
    }
}

#[test]
fn a_change_that_is_no_cure_is_waited_over() {
    let node = Node::start("a");
    let keyway = start("", None);
    assert_eq!(keyway.reload_topology("version: 2\n").status, 422);
    // What is there is still wrong.
    assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 422);
    assert_eq!(keyway.admin("GET", "/readyz", "").status, 503);
    assert_eq!(keyway.reload_topology(&topology(&[&[&node]])).status, 200);
    until("ready", || keyway.admin("GET", "/readyz", "").status == 200);
}

#[test]
fn serves_without_a_topology_where_that_is_asked_for() {
    for broken in BROKEN {
        let node = Node::start("a");
        let keyway = start("start: serve", broken);
        until("ready", || keyway.admin("GET", "/readyz", "").status == 200);
        let mut client = keyway.client();
        let refused = client.get("/k");
        assert_eq!(
            (refused.status, refused.field("x-keyway-error")),
            (503, Some("no_healthy_node")),
            "{broken:?}"
        );
        assert!(refused.field("retry-after").is_some());
        let reloaded = keyway.reload_topology(&topology(&[&[&node]]));
        assert_eq!(reloaded.status, 200, "{}", reloaded.text());
        assert_eq!(client.get("/k").text(), "a");
    }
}

/// Nothing was there before, so nothing moves.
#[test]
fn the_first_topology_moves_no_key() {
    let node = Node::start("a");
    let keyway = start("start: serve", None);
    let text = std::fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    let guarded = text.replace("c: { probe", "c: { max_moved: 1%, probe");
    assert_ne!(text, guarded);
    keyway.replace("keyway.yaml", &guarded);
    assert_eq!(keyway.reload_topology(&topology(&[&[&node]])).status, 200);
    assert_eq!(keyway.get("/k").text(), "a");
}

#[test]
fn a_signal_ends_the_wait() {
    let mut keyway = start("", None);
    let mut early = keyway.client();
    let asked = Instant::now();
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(early.is_closed());
}

#[test]
fn wait_ends_when_it_is_ready() {
    let node = Node::start("a");
    let keyway = start("", None);
    let admin = keyway.admin.to_string();
    let late = wait(&admin, "200ms");
    let said = String::from_utf8(late.stderr).unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert_eq!(
        said.trim_end(),
        format!("keyway: {admin}: not ready within 200ms: waiting for a valid topology")
    );
    let waiting = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(["wait", "--admin", &admin])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    keyway.replace("topology.yaml", &topology(&[&[&node]]));
    let waited = waiting.wait_with_output().unwrap();
    assert!(waited.status.success());
    assert_eq!(waited.stdout, b"ready\n");
}

#[test]
fn wait_tells_why_nobody_answers() {
    let late = wait("127.0.0.1:1", "100ms");
    let said = String::from_utf8(late.stderr).unwrap();
    assert_eq!(late.status.code(), Some(1));
    assert!(
        said.contains("refused") && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(wait("127.0.0.1:1", "soon").status.code(), Some(2));
}

#[test]
fn a_start_that_fails_says_why_on_one_screen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.yaml");
    let path = file.to_str().unwrap();
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let ended = keyway(&["run", "--config", path]);
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8(ended.stderr).unwrap()
    };
    let unknown: Vec<_> = (0..60).map(|at| format!("unknown{at}: 1")).collect();
    let many = run(&unknown.join("\n"));
    assert_eq!(many.lines().count(), 21, "{many}");
    assert!(
        many.contains(&format!("and 41 more; `keyway check {path}` tells all")),
        "{many}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let busy = run(&format!(
        "listeners: [{{ name: app, address: \"{address}\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n"
    ));
    let last = busy.lines().last().unwrap();
    assert_eq!(
        last,
        format!(
            "keyway: listener \"app\" cannot listen on {address}: Address already in use (os error 98)"
        )
    );

    std::fs::remove_file(&file).unwrap();
    let missing = keyway(&["run", "--config", path]);
    assert_eq!(
        String::from_utf8(missing.stderr).unwrap(),
        format!(
            "keyway: {path}: expected a readable YAML file, found No such file or directory (os error 2)\n"
        )
    );
    drop(Client::connect(address));
}
