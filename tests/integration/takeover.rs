//! The upgrade in place: the listening sockets go to a new process, and nobody who connects notices.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Client, Keyway, Node, topology, until};

/// The files of keyways that succeed each other.
struct Dynasty {
    folder: TempDir,
    node: Node,
}

impl Dynasty {
    fn new() -> Self {
        Self::listening("127.0.0.1:0")
    }

    fn listening(address: &str) -> Self {
        let node = Node::start("a");
        let folder = tempfile::tempdir().unwrap();
        let dynasty = Self { folder, node };
        dynasty.write("topology.yaml", &topology(&[&[&dynasty.node]]));
        dynasty.write("keyway.yaml", &dynasty.keyway_yaml(address));
        dynasty
    }

    fn keyway_yaml(&self, address: &str) -> String {
        format!(
            "listeners: [{{ name: app, address: \"{address}\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
             pre_drain: 60s\ndrain_timeout: 5s\nupgrade: unix:{}\n\
             routes:\n  - {{ name: r, match: {{}}, key: path, cluster: c }}\n\
             clusters: {{ c: {{ probe: {{ when: off }} }} }}\n",
            self.path("upgrade.sock").display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let new = self.path("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    fn arguments(&self) -> [String; 3] {
        let config = self.path("keyway.yaml");
        ["run", "--config", config.to_str().unwrap()].map(str::to_owned)
    }

    /// The next keyway, once the file of the socket is its own.
    fn next(&self) -> Keyway {
        let before = self.inode();
        let arguments = self.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut keyway = Keyway::run(tempfile::tempdir().unwrap(), &arguments);
        keyway.logged("ready");
        until("the socket", || self.inode() != before);
        keyway
    }

    fn inode(&self) -> Option<u64> {
        let found = fs::metadata(self.path("upgrade.sock")).ok()?;
        Some(std::os::unix::fs::MetadataExt::ino(&found))
    }

    /// A keyway that cannot succeed.
    fn fail(&self) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_keyway"))
            .args(self.arguments())
            .stdin(Stdio::null())
            .output();
        output.unwrap()
    }

    /// Asks for the sockets by hand; the first line of the answer.
    fn ask(&self) -> (BufReader<UnixStream>, String) {
        let stream = UnixStream::connect(self.path("upgrade.sock")).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        (stream, line)
    }
}

/// Clients that connect, ask once, and go: some hundred a second.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<thread::JoinHandle<Vec<String>>>,
    answered: Arc<AtomicUsize>,
}

impl Load {
    /// Each of eight clients asks every 16 ms: 500 a second, where the machine lets them.
    fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let (mut faults, began) = (Vec::new(), Instant::now());
                let mut next = Duration::ZERO;
                while !stop.load(SeqCst) {
                    match post(address) {
                        Ok(()) => drop(answered.fetch_add(1, SeqCst)),
                        Err(fault) => faults.push(fault),
                    }
                    next += Duration::from_millis(16);
                    thread::sleep(next.saturating_sub(began.elapsed()));
                }
                faults
            })
        };
        let clients = (0..8).map(client).collect();
        Self {
            stop,
            clients,
            answered,
        }
    }

    /// How many requests were answered, and how the others failed.
    fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, SeqCst);
        let faults = self.clients.into_iter().flat_map(|it| it.join().unwrap());
        let faults = faults.collect();
        (self.answered.load(SeqCst), faults)
    }
}

fn post(address: SocketAddr) -> Result<(), String> {
    let stream = TcpStream::connect(address);
    let mut stream = stream.map_err(|error| format!("connect: {error}"))?;
    let request = b"POST /k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    let mut read = Vec::new();
    let answered = stream
        .write_all(request)
        .and_then(|()| stream.read_to_end(&mut read));
    answered.map_err(|error| format!("answer: {error}"))?;
    if read.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&read).into_owned())
    }
}

/// `KEYWAY_UPGRADES=100` for more.
#[test]
fn nobody_who_connects_notices_an_upgrade() {
    let upgrades = std::env::var("KEYWAY_UPGRADES").map_or(5, |it| it.parse().unwrap());
    let dynasty = Dynasty::new();
    let mut keyway = dynasty.next();
    let (address, admin) = (keyway.address, keyway.admin);
    let load = Load::start(address);
    let began = Instant::now();
    for _ in 0..upgrades {
        let next = dynasty.next();
        assert_eq!((next.address, next.admin), (address, admin));
        assert!(keyway.wait().success());
        keyway = next;
    }
    let took = began.elapsed();
    let (answered, faults) = load.stop();
    eprintln!(
        "{upgrades} upgrades in {took:?}: {answered} requests answered, {} faults",
        faults.len()
    );
    assert!(faults.is_empty(), "{faults:?}");
    assert!(answered > 10 * upgrades);
    assert_eq!(keyway.admin("GET", "/readyz", "").status, 200);
    // What is last goes down as one that was alone.
    assert!(dynasty.path("upgrade.sock").exists());
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    assert!(!dynasty.path("upgrade.sock").exists());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn what_the_old_one_has_under_way_it_finishes() {
    let dynasty = Dynasty::new();
    let mut old = dynasty.next();
    let mut client = old.client();
    client.send("POST /k HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha");
    until("the request", || {
        old.count("keyway_requests_in_flight", &[]) == 1
    });
    let new = dynasty.next();
    // Who asks from now on asks the new one, which has no request under way.
    assert_eq!(new.count("keyway_requests_in_flight", &[]), 0);
    client.send("lf");
    let reply = client.reply();
    assert_eq!(
        (reply.status, reply.field("connection")),
        (200, Some("close"))
    );
    assert!(old.wait().success());
    assert_eq!(new.get("/k").status, 200);
}

#[test]
fn a_unix_socket_passes_over_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let dynasty = Dynasty::listening(&format!("unix:{}", path.display()));
    let start = || {
        let before = dynasty.inode();
        let arguments = dynasty.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let keyway = Keyway::run_on_socket(tempfile::tempdir().unwrap(), &arguments);
        until("the socket", || dynasty.inode() != before);
        keyway
    };
    let mut old = start();
    let new = start();
    assert!(old.wait().success());
    let mut client = UnixStream::connect(&path).unwrap();
    client
        .write_all(b"GET /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut read = String::new();
    client.read_to_string(&mut read).unwrap();
    assert!(read.starts_with("HTTP/1.1 200 "), "{read}");
    let mut new = new;
    new.signal("-TERM");
    assert!(new.wait().success());
    assert!(!path.exists());
}

#[test]
fn the_socket_is_its_users_alone_and_a_stale_one_is_replaced() {
    let dynasty = Dynasty::new();
    let path = dynasty.path("upgrade.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let keyway = dynasty.next();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Killed, it leaves a stale one.
    drop(keyway);
    let _next = dynasty.next();
}

/// As root only can one be somebody else.
#[test]
fn another_user_gets_nothing() {
    let dynasty = Dynasty::new();
    let keyway = dynasty.next();
    let path = dynasty.path("upgrade.sock");
    let open =
        |path: &std::path::Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777));
    open(&path).unwrap();
    open(dynasty.folder.path()).unwrap();
    if chown(&path, Some(65534), None).is_err() {
        eprintln!("not root: another user cannot be tried");
        return;
    }
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nprint(len(s.recv(10)))";
    let asked = Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .uid(65534)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(asked.stdout).unwrap().trim(), "0");
    until("a word of it", || {
        let error = |it: &serde_json::Value| it["error"].as_str().unwrap_or_default().to_owned();
        keyway
            .events()
            .iter()
            .any(|it| error(it).contains("found one of 65534"))
    });
    assert_eq!(keyway.get("/k").status, 200);
}

#[test]
fn a_new_one_that_cannot_start_changes_nothing() {
    let dynasty = Dynasty::new();
    let mut old = dynasty.next();
    let (address, right) = (old.address, dynasty.keyway_yaml("127.0.0.1:0"));
    let says = |output: Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    dynasty.write("keyway.yaml", "listeners: 7\n");
    assert!(says(dynasty.fail()).contains("keyway.yaml:1:"));
    // A second listener on a port that is taken.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let two = right.replace(
        " }]\nadmin",
        &format!(" }}, {{ name: other, address: \"{taken}\" }}]\nadmin"),
    );
    dynasty.write("keyway.yaml", &two);
    assert!(says(dynasty.fail()).contains("\"other\" cannot listen"));
    drop(held);
    dynasty.write("keyway.yaml", &right);
    let topology = fs::read_to_string(dynasty.path("topology.yaml")).unwrap();
    fs::remove_file(dynasty.path("topology.yaml")).unwrap();
    assert!(says(dynasty.fail()).contains("serves on"));
    dynasty.write("topology.yaml", &topology);
    assert_eq!(Client::connect(address).get("/k").status, 200);
    // After all that it is still the one that can be succeeded.
    let new = dynasty.next();
    assert_eq!(new.address, address);
    assert!(old.wait().success());
    assert_eq!(new.get("/k").status, 200);
}

#[test]
fn a_new_one_that_dies_midway_changes_nothing() {
    let dynasty = Dynasty::new();
    let mut old = dynasty.next();
    let given_up = |count: usize| {
        until("the old one going on", || {
            let goes_on = "the process did not take over; this one serves on";
            let events = old.events();
            events.iter().filter(|it| it["message"] == goes_on).count() == count
        });
        assert_eq!(old.get("/k").status, 200);
        assert_eq!(old.admin("GET", "/readyz", "").status, 200);
    };
    // With the sockets in its hands.
    let (stream, line) = dynasty.ask();
    assert!(
        line.contains("\"app\"") && line.contains("\"admin\""),
        "{line}"
    );
    drop(stream);
    given_up(1);
    // When it was ready, and was let begin.
    let (mut stream, _) = dynasty.ask();
    let ready = b"{\"ready\":{\"taken\":[\"app\"]}}\n";
    stream.get_mut().write_all(ready).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "\"go\"\n");
    drop(stream);
    given_up(2);
    // Or says something else.
    let (mut stream, _) = dynasty.ask();
    stream.get_mut().write_all(b"hello\n").unwrap();
    assert_eq!(stream.read_line(&mut line).unwrap(), 0);
    given_up(3);
    let new = dynasty.next();
    assert!(old.wait().success());
    assert_eq!(new.get("/k").status, 200);
}

#[test]
fn a_new_one_that_says_nothing_is_given_up() {
    let dynasty = Dynasty::new();
    let mut old = dynasty.next();
    let asked = Instant::now();
    let (mut stream, _) = dynasty.ask();
    assert_eq!(old.get("/k").status, 200);
    let mut line = String::new();
    assert_eq!(stream.read_line(&mut line).unwrap(), 0);
    assert!(
        (9..15).contains(&asked.elapsed().as_secs()),
        "{:?}",
        asked.elapsed()
    );
    let new = dynasty.next();
    assert!(old.wait().success());
    assert_eq!(new.get("/k").status, 200);
}
