//! A keyway process under test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::{Client, Node, Reply};

/// How long a test waits for something to become true.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running keyway, with its files in a folder of its own. Dropping it kills it.
pub struct Keyway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: TempDir,
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Whether standard output and error are to be closed.
    hung_up: [Arc<AtomicBool>; 2],
}

impl Keyway {
    /// Starts keyway on these files. `keyway_yaml` is completed by a listener, the admin server and
    /// short drains, all on free ports, and where it says nothing of probes there are none.
    pub fn start(keyway_yaml: &str, topology_yaml: &str) -> Self {
        Self::start_probing(&without_probes(keyway_yaml), topology_yaml)
    }

    /// The same, but for the probes.
    pub fn start_probing(keyway_yaml: &str, topology_yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keyway.yaml"), complete(keyway_yaml)).unwrap();
        std::fs::write(folder.path().join("topology.yaml"), topology_yaml).unwrap();
        let config = folder.path().join("keyway.yaml");
        Self::run(folder, &["run", "--config", config.to_str().unwrap()])
    }

    /// The same, the process being what `wrapper` ends in.
    pub fn start_by(wrapper: &[&str], keyway_yaml: &str, topology_yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = complete(&without_probes(keyway_yaml));
        std::fs::write(folder.path().join("keyway.yaml"), text).unwrap();
        std::fs::write(folder.path().join("topology.yaml"), topology_yaml).unwrap();
        let config = folder.path().join("keyway.yaml");
        let run = [env!("CARGO_BIN_EXE_keyway"), "run", "--config"];
        let [program, arguments @ ..] = &*[wrapper, &run].concat() else {
            panic!("there is a command");
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(config).stdin(Stdio::null());
        Self::launch(folder, command)
    }

    /// One route for everything, keyed by the path's first segment, to one cluster `c` of `shards`,
    /// each a list of nodes. `cluster` are the cluster's settings.
    pub fn sharded(cluster: &str, shards: &[&[&Node]]) -> Self {
        Self::keyed("key: \"path:key\"", cluster, shards)
    }

    /// The same with these settings of the route, the key's source among them.
    pub fn keyed(route: &str, cluster: &str, shards: &[&[&Node]]) -> Self {
        let keyway = format!(
            "routes:\n  - {{ name: r, match: {{ path: \"/{{key}}/**\" }}, cluster: c, {route} }}\n\
             clusters:\n  c: {{ {cluster} }}\n"
        );
        Self::start(&keyway, &topology(shards))
    }

    /// Starts keyway with `arguments`.
    pub fn run(folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.args(arguments).stdin(Stdio::null());
        Self::launch(folder, command)
    }

    /// Starts keyway by `command`, which may become it.
    pub fn launch(folder: TempDir, mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        Self::adopt(folder, command)
    }

    /// The same, and its standard output is what `command` says.
    pub fn adopt(folder: TempDir, command: Command) -> Self {
        Self::spawn(folder, command, |keyway| {
            keyway.address = keyway.logged_address("listening");
        })
    }

    fn spawn(folder: TempDir, mut command: Command, ready: impl FnOnce(&mut Self)) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let hung_up: [Arc<AtomicBool>; 2] = Default::default();
        let stderr = Box::new(process.stderr.take().unwrap()) as Box<dyn std::io::Read + Send>;
        let [output, errors] = &hung_up;
        let mut pipes = vec![(stderr, Arc::clone(errors))];
        if let Some(stdout) = process.stdout.take() {
            pipes.push((Box::new(stdout), Arc::clone(output)));
        }
        for (pipe, hung_up) in pipes {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    log.lock().unwrap().push(line);
                    if hung_up.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        let unset = "127.0.0.1:1".parse().unwrap();
        let mut keyway = Self {
            address: unset,
            admin: unset,
            folder,
            process,
            log,
            hung_up,
        };
        keyway.admin = keyway.logged_address("the admin server listens");
        ready(&mut keyway);
        keyway
    }

    /// Starts keyway with `arguments` that make it listen on a Unix socket only.
    pub fn run_on_socket(folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped());
        Self::spawn(folder, command, |keyway| {
            keyway.logged("listening");
        })
    }

    fn logged_address(&mut self, message: &str) -> SocketAddr {
        self.logged(message)["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Waits for an event of the log.
    pub fn logged(&mut self, message: &str) -> Value {
        let mut found = None;
        until(&format!("{message:?} in the log"), || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("keyway ended with {status}: {:#?}", self.log());
            }
            found = self
                .events()
                .into_iter()
                .find(|it| it["message"] == message);
            found.is_some()
        });
        found.unwrap()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> Reply {
        self.client().get(target)
    }

    pub fn admin(&self, method: &str, target: &str, body: &str) -> Reply {
        let mut client = Client::connect(self.admin);
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.reply_to(method)
    }

    pub fn admin_json(&self, target: &str) -> Value {
        serde_json::from_slice(&self.admin("GET", target, "").body).unwrap()
    }

    /// The sum of a family's samples whose labels include `labels` (as written, `name="value"`).
    pub fn metric(&self, family: &str, labels: &[&str]) -> f64 {
        let text = self.admin("GET", "/metrics", "").text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, found) = series.split_once('{').unwrap_or((series, ""));
            let matches = name == family && labels.iter().all(|it| found.contains(it));
            matches.then(|| value.parse::<f64>().unwrap())
        });
        samples.sum()
    }

    /// The same for what is counted in whole numbers.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "asserted before"
    )]
    pub fn count(&self, family: &str, labels: &[&str]) -> usize {
        let value = self.metric(family, labels);
        assert!(value >= 0.0 && value.fract() == 0.0, "{family} is {value}");
        value as usize
    }

    /// Waits until nothing is under way, neither at a node nor on a route.
    pub fn until_idle(&self) {
        for gauge in ["keyway_node_in_flight", "keyway_requests_in_flight"] {
            until(&format!("{gauge} 0"), || self.count(gauge, &[]) == 0);
        }
    }

    /// The most memory that the process ever held, in bytes.
    pub fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak.unwrap().trim().parse::<usize>().unwrap() << 10
    }

    /// Whether a SIGSTOP has reached every thread.
    pub fn is_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let mut stats = tasks.map(|it| std::fs::read_to_string(it.unwrap().path().join("stat")));
        stats.all(|it| it.unwrap().contains(") T "))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file as a careful writer does: by renaming over it.
    pub fn replace(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Replaces the topology and has it taken up; the outcome of `/v1/reload`.
    pub fn reload_topology(&self, text: &str) -> Reply {
        self.replace("topology.yaml", text);
        self.admin("POST", "/v1/reload", "")
    }

    pub fn generation(&self) -> f64 {
        self.metric("keyway_ring_generation", &[])
    }

    /// Every line logged so far, on standard error and output.
    pub fn log(&self) -> Vec<String> {
        // A test that fails while it stalls the readers still shows what they read.
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// What reads the log puts each line here: holding it stalls both readers.
    pub fn reader(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.log)
    }

    /// Closes standard output's reading end after its next line.
    pub fn hang_up(&self) {
        self.hung_up[0].store(true, Ordering::SeqCst);
    }

    /// Closes standard error's reading end after its next line.
    pub fn hang_up_errors(&self) {
        self.hung_up[1].store(true, Ordering::SeqCst);
    }

    /// The log's events.
    pub fn events(&self) -> Vec<Value> {
        let lines = self.log();
        lines
            .iter()
            .filter_map(|it| serde_json::from_str(it).ok())
            .collect()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of the process", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Keyway {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
        if thread::panicking() {
            eprintln!("keyway logged:\n{}", self.log().join("\n"));
        }
    }
}

/// A topology of cluster `c` with these shards, named `s0`, `s1` and so on.
pub fn topology(shards: &[&[&Node]]) -> String {
    let mut text = "version: 1\nclusters:\n  c:\n    shards:\n".to_owned();
    for (at, nodes) in shards.iter().enumerate() {
        text += &format!("      - name: s{at}\n        nodes:\n");
        for node in *nodes {
            text += &format!(
                "          - {{ id: {}, address: \"{}\" }}\n",
                node.id, node.address
            );
        }
    }
    text
}

/// Adds what a test does not care about.
fn complete(keyway_yaml: &str) -> String {
    let mut text = keyway_yaml.to_owned();
    for (key, line) in [
        (
            "listeners:",
            "listeners: [{ name: app, address: \"127.0.0.1:0\" }]",
        ),
        ("admin:", "admin: { address: \"127.0.0.1:0\" }"),
        ("pre_drain:", "pre_drain: 0s"),
        ("drain_timeout:", "drain_timeout: 5s"),
    ] {
        if !keyway_yaml.contains(key) {
            text += &format!("{line}\n");
        }
    }
    text
}

/// Nodes of cluster `c` see nothing but what a test sends, unless it is about probes.
fn without_probes(keyway_yaml: &str) -> String {
    const OFF: &str = "probe: { when: off }";
    let cluster = keyway_yaml.find("clusters:").map(|at| {
        let inner = keyway_yaml[at..].find("c: {");
        inner.map(|inner| at + inner + "c: {".len())
    });
    match cluster {
        _ if keyway_yaml.contains("probe:") => keyway_yaml.to_owned(),
        None => format!("{keyway_yaml}clusters: {{ c: {{ {OFF} }} }}\n"),
        Some(None) => keyway_yaml.to_owned(),
        Some(Some(at)) => {
            let (before, after) = keyway_yaml.split_at(at);
            format!("{before} {OFF},{after}")
        }
    }
}

/// Waits until `condition` holds, and fails the test when it does not in time.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
