//! The commands: what they print, and how they end.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Keyway, Node, until};

const TOPOLOGY: &str = "version: 1\nclusters:\n  c:\n    shards:\n\
    \x20     - { name: s0, nodes: [{ id: a, address: \"127.0.0.1:1\" }, { id: b, address: \"127.0.0.1:2\" }] }\n\
    \x20     - { name: s1, weight: 3, nodes: [{ id: d, address: \"127.0.0.1:3\" }] }\n\
    \x20   pins: { big: s1 }\n";

fn keyway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output)
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect()
}

fn topology_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn usage_errors_are_2() {
    assert_eq!(keyway(&[]).status.code(), Some(2));
    assert_eq!(keyway(&["run"]).status.code(), Some(2));
    assert_eq!(keyway(&["ring", "locate"]).status.code(), Some(2));
    assert_eq!(
        keyway(&[
            "run", "--listen", "x", "--key", "path", "--config", "f", "--node", "a=b"
        ])
        .status
        .code(),
        Some(2)
    );
    assert!(keyway(&["--version"]).status.success());
    for command in [
        "run",
        "demo",
        "check",
        "ring",
        "explain",
        "health",
        "schema",
        "completions",
    ] {
        assert!(keyway(&[command, "--help"]).status.success(), "{command}");
    }
}

#[test]
fn locate_tells_token_shard_and_candidates() {
    let file = topology_file(TOPOLOGY);
    let located = |keys: &[&str]| {
        let fixed = [
            "ring",
            "locate",
            "--output",
            "json",
            "--cluster",
            "c",
            "--topology",
            path(&file),
        ];
        json_lines(&keyway(&[&fixed[..], keys].concat()))
    };
    let lines = located(&["big", "42", ""]);
    assert_eq!(lines[0]["key"], "big");
    assert_eq!(
        (&lines[0]["shard"], &lines[0]["candidates"]),
        (&"s1".into(), &serde_json::json!(["d"]))
    );
    assert_eq!(lines[1]["token"].as_str().unwrap().len(), 16);
    let of_s0 = (0..100)
        .map(|it| it.to_string())
        .find(|key| located(&[key])[0]["shard"] == "s0");
    let candidates = located(&[&of_s0.unwrap()])[0]["candidates"].clone();
    let mut names: Vec<_> = candidates
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    let wrong = keyway(&[
        "ring",
        "locate",
        "--cluster",
        "x",
        "--topology",
        path(&file),
        "k",
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("expected one of c, found x"),
        "{}",
        stderr(&wrong)
    );
}

#[test]
fn locate_reads_keys_of_any_bytes_from_standard_input() {
    let file = topology_file(TOPOLOGY);
    let mut process = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args([
            "ring",
            "locate",
            "--output",
            "json",
            "--cluster",
            "c",
            "--keys",
            "-",
            "--topology",
            path(&file),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process
        .stdin
        .take()
        .unwrap()
        .write_all(b"plain\n\xff\x00\n")
        .unwrap();
    let lines = json_lines(&process.wait_with_output().unwrap());
    assert_eq!(lines[0]["key"], "plain");
    assert_eq!(lines[1]["key_base64"], "/wA=");
    assert!(lines[1].get("key").is_none());
}

#[test]
fn diff_is_exact_and_stats_add_up() {
    let old = topology_file(TOPOLOGY);
    let new = topology_file(&TOPOLOGY.replace("weight: 3", "weight: 1"));
    let same = json_lines(&keyway(&[
        "ring",
        "diff",
        "--output",
        "json",
        path(&old),
        path(&old),
    ]));
    assert_eq!(
        same[0]["clusters"]["c"],
        serde_json::json!({ "moved": 0.0, "pairs": [] })
    );
    let diff = json_lines(&keyway(&[
        "ring",
        "diff",
        "--output",
        "json",
        path(&old),
        path(&new),
    ]));
    let diff = &diff[0]["clusters"]["c"];
    let moved = diff["moved"].as_f64().unwrap();
    assert!((0.23..0.27).contains(&moved), "{moved}");
    assert_eq!(diff["pairs"][0]["from"], "s1");
    assert_eq!(diff["pairs"][0]["fraction"].as_f64(), Some(moved));
    let stats = json_lines(&keyway(&["ring", "stats", "--output", "json", path(&old)]));
    let shards = stats[0]["clusters"]["c"]["shards"].as_array().unwrap();
    let owned: f64 = shards
        .iter()
        .map(|it| it["ownership"].as_f64().unwrap())
        .sum();
    assert!((owned - 1.0).abs() < 1e-9);
    assert_eq!(shards[1]["share_of_weight"], 0.75);
    assert!(stdout(&keyway(&["ring", "stats", path(&old)])).contains("s1"));
    assert!(stdout(&keyway(&["ring", "diff", path(&old), path(&new)])).contains("s1 -> s0"));
}

#[test]
fn check_says_everything_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let check = |name: &str, more: &[&str]| {
        let file = folder.path().join(name);
        keyway(&[&["check", file.to_str().unwrap()][..], more].concat())
    };
    write("topology.yaml", TOPOLOGY);
    write(
        "keyway.yaml",
        "listeners: [{ name: app, address: \"127.0.0.1:0\" }]\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n",
    );
    let output = check("keyway.yaml", &[]);
    assert!(output.status.success() && stderr(&output).is_empty());
    assert!(check("topology.yaml", &[]).status.success());
    write(
        "keyway.yaml",
        "listeners: [{ name: app, address: \"127.0.0.1:0\" }]\nroutes: [{ name: r, match: {}, key: \"header:TE\", cluster: c }]\n",
    );
    let output = check("keyway.yaml", &[]);
    assert!(output.status.success());
    assert!(
        stderr(&output).contains("warning: route \"r\" goes by te, "),
        "{}",
        stderr(&output)
    );
    let output = check("keyway.yaml", &["--output", "json"]);
    assert_eq!(
        json_lines(&output)[0]["warnings"].as_array().unwrap().len(),
        1
    );
    write(
        "keyway.yaml",
        "listeners: [{ name: app, address: \"127.0.0.1:0\" }]\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n\
         clusters: { c: { eject: { keep: 2 }, probe: { interval: 1s, timeout: 2s } } }\n",
    );
    let said = stderr(&check("keyway.yaml", &[]));
    assert!(said.contains("none of them is ever ejected"), "{said}");
    assert!(
        said.contains("gives a probe 2s and begins one every 1s"),
        "{said}"
    );
    write(
        "keyway.yaml",
        "listeners: [{ name: app, adress: \"127.0.0.1:0\" }]\npre_drain: 5\nroutes: [{ name: r, match: {}, key: pth, cluster: c }]\n",
    );
    let output = check("keyway.yaml", &[]);
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "keyway.yaml:1:",
        "keyway.yaml:2:12 pre_drain: expected a duration",
        "keyway.yaml:3:",
    ] {
        assert!(stderr(&output).contains(line), "{}", stderr(&output));
    }
    let output = check("keyway.yaml", &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json_lines(&output)[0]["ok"], false);
    assert_eq!(check("gone.yaml", &[]).status.code(), Some(1));
}

#[test]
fn a_start_that_fails_names_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let start = |listen: &str| {
        keyway(&[
            "run",
            "--listen",
            listen,
            "--admin",
            "127.0.0.1:0",
            "--key",
            "path",
            "--node",
            "a=127.0.0.1:1",
        ])
    };
    let output = start(&address);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    let output = start("unix:/no/such/folder/app.sock");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("/no/such/folder/app.sock"),
        "{}",
        stderr(&output)
    );
    let output = start("nonsense");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nonsense"), "{}", stderr(&output));
    let output = keyway(&["run", "--config", "/no/such/keyway.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("/no/such/keyway.yaml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn flags_alone_serve() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let nodes = [&a, &b].map(|it| format!("{}={}", it.id, it.address));
    let keyway = Keyway::run(
        tempfile::tempdir().unwrap(),
        &[
            "run",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--key",
            "header:x-user-id",
            "--node",
            &nodes[0],
            "--node",
            &nodes[1],
        ],
    );
    let mut client = keyway.client();
    let ask = |client: &mut crate::support::Client, user: &str| {
        client
            .ask("GET", "/", &[("X-User-Id", user)], b"")
            .node()
            .to_owned()
    };
    let first: Vec<_> = (0..20)
        .map(|it| ask(&mut client, &it.to_string()))
        .collect();
    let again: Vec<_> = (0..20)
        .map(|it| ask(&mut client, &it.to_string()))
        .collect();
    assert_eq!(first, again);
    assert!(first.contains(&"a".to_owned()) && first.contains(&"b".to_owned()));
    assert_eq!(client.get("/").error(), "missing_key");
}

#[test]
fn health_and_explain_ask_a_running_keyway() {
    let a = Node::start("a");
    let running = Keyway::sharded("", &[&[&a]]);
    let admin = running.admin.to_string();
    assert!(keyway(&["health", "--admin", &admin]).status.success());
    assert_eq!(
        keyway(&["health", "--admin", "127.0.0.1:1"]).status.code(),
        Some(1)
    );
    let fixed = ["explain", "--admin", &admin, "--cluster", "c"];
    let text = stdout(&keyway(&[&fixed[..], &["k"]].concat()));
    assert!(
        text.contains("shard s0") && text.contains("healthy"),
        "{text}"
    );
    let json = json_lines(&keyway(
        &[&fixed[..], &["--output", "json", "k/ä?"]].concat(),
    ));
    assert_eq!(json[0]["candidates"][0]["node"], "a");
    let _held_open = running.client();
    running.replace(
        "keyway.yaml",
        &fs::read_to_string(running.path("keyway.yaml"))
            .unwrap()
            .replace("pre_drain: 0s", "pre_drain: 60s"),
    );
    assert_eq!(running.admin("POST", "/v1/reload", "").status, 200);
    running.signal("-TERM");
    until("unready", || {
        keyway(&["health", "--admin", &admin]).status.code() == Some(1)
    });
}

#[test]
fn unix_sockets_serve_and_are_left_clean() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    // What a killed keyway leaves behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let a = Node::start("a");
    let node = format!("a={}", a.address);
    let listen = format!("unix:{}", socket.display());
    let mut running = Keyway::run_on_socket(
        folder,
        &[
            "run",
            "--listen",
            &listen,
            "--admin",
            "127.0.0.1:0",
            "--key",
            "path",
            "--node",
            &node,
        ],
    );
    let curl = |socket: &Path| {
        let output = Command::new("curl")
            .args(["-sS", "http://a/k", "--unix-socket"])
            .arg(socket)
            .output();
        stdout(&output.unwrap())
    };
    assert_eq!(curl(&socket), "a");
    let second = keyway(&[
        "run",
        "--listen",
        &listen,
        "--admin",
        "127.0.0.1:0",
        "--key",
        "path",
        "--node",
        &node,
    ]);
    assert_eq!(second.status.code(), Some(1), "the socket is in use");
    running.signal("-TERM");
    assert!(running.wait().success());
    assert!(!socket.exists());
}

#[test]
fn schemas_and_completions_are_printed() {
    for file in ["keyway", "topology"] {
        let schema: Value = serde_json::from_str(&stdout(&keyway(&["schema", file]))).unwrap();
        assert_eq!(schema["title"], format!("{file}.yaml"));
    }
    assert!(stdout(&keyway(&["completions", "bash"])).contains("keyway"));
}
