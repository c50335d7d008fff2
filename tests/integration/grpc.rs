//! gRPC by grpcio on both ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Keyway, until};

const ROUTES: &str = "routes: [{ name: r, match: {}, key: \"header:x-user\", cluster: c }]\n";

fn python() -> PathBuf {
    crate::support::python("python")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/grpc")
        .join(name)
}

/// A node of grpcio.
struct Node {
    process: Child,
    port: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Node {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, options: &[&str]) -> Self {
        let mut process = Command::new(python())
            .arg(script("server.py"))
            .arg(name)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let port = first.strip_prefix("port ").unwrap().to_owned();
        let said = Arc::<Mutex<Vec<_>>>::default();
        let log = Arc::clone(&said);
        thread::spawn(move || lines.for_each(|it| log.lock().unwrap().extend(it)));
        Self {
            process,
            port,
            said,
        }
    }

    fn cancelled(&self) -> usize {
        self.said.lock().unwrap().len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn topology(nodes: &[&Node]) -> String {
    let nodes: Vec<_> = nodes
        .iter()
        .enumerate()
        .map(|(at, it)| format!("{{ id: n{at}, address: \"127.0.0.1:{}\" }}", it.port))
        .collect();
    format!(
        "version: 1\nclusters: {{ c: {{ shards: [{{ name: s, nodes: [{}] }}] }} }}\n",
        nodes.join(", ")
    )
}

fn run_client(keyway: &Keyway) {
    let client = Command::new(python())
        .arg(script("client.py"))
        .arg(keyway.address.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{said}");
}

#[test]
fn every_kind_of_call_by_grpcio_on_both_ends() {
    let node = Node::start("a");
    let keyway = Keyway::start(ROUTES, &topology(&[&node]));
    run_client(&keyway);
    // Both calls that never end on their own were ended at the node too.
    until("cancelled calls", || node.cancelled() == 2);
    keyway.until_idle();
    assert_eq!(
        keyway.count("keyway_attempts_total", &["class=\"error\""]),
        0
    );
}

/// Nor does a stream that was there before, and goes on.
#[test]
fn nodes_are_probed_by_their_health_service() {
    let (first, second) = (Node::start("a"), Node::start("b"));
    let yaml = |service: &str| {
        format!(
            "{ROUTES}listeners: [{{ name: app, address: \"127.0.0.1:0\" }}]\n\
             admin: {{ address: \"127.0.0.1:0\" }}\n\
             clusters: {{ c: {{ probe: {{ interval: 100ms, grpc: {{ service: \"{service}\" }} }} }} }}\n"
        )
    };
    let keyway = Keyway::start(&yaml(""), &topology(&[&first, &second]));
    let probed = |verdict: &str| {
        let state = keyway.admin_json("/v1/state").to_string();
        state.matches(&format!("\"probed\":\"{verdict}\"")).count()
    };
    until("both serve", || probed("up") == 2);
    for (service, down) in [("asleep", 1), ("t.T", 0), ("unknown", 1), ("", 0)] {
        keyway.replace("keyway.yaml", &yaml(service));
        assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
        // One of them stays whatever it says.
        until(&format!("{service:?}"), || {
            (probed("down"), probed("up")) == (down, 2 - down)
        });
    }
}

#[test]
fn a_node_that_says_goaway_fails_no_call() {
    let node = Node::start_with("a", &["100"]);
    let keyway = Keyway::start(ROUTES, &topology(&[&node]));
    let client = Command::new(python())
        .arg("-c")
        .arg(
            "import grpc, queue, sys\n\
             channel, key = grpc.insecure_channel(sys.argv[1]), (('x-user', '7'),)\n\
             call = channel.unary_unary('/t.T/Unary')\n\
             said = queue.Queue()\n\
             stream = channel.stream_stream('/t.T/Echo')(iter(said.get, None), metadata=key)\n\
             for at in range(1500):\n    \
                 assert call(b'x', metadata=key) == b'x'\n    \
                 said.put(b'%d' % at)\n    \
                 assert next(stream) == b'%d' % at\n\
             said.put(None)\n\
             assert list(stream) == []\n",
        )
        .arg(keyway.address.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&client.stderr);
    assert!(client.status.success(), "{said}");
    // It was said more than once.
    let made = ["side=\"upstream\"", "outcome=\"ok\""];
    assert!(keyway.count("keyway_connections_total", &made) > 3);
}
