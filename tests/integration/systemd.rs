//! As a service of systemd: what it is told, and the sockets that it passes on.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Client, Keyway, Node, topology};

const ROUTE: &str = "routes:\n  - { name: r, match: {}, key: path, cluster: c }\nclusters: { c: { probe: { when: off } } }\n";

fn files(listen: &str, admin: &str, node: Option<&Node>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let keyway = format!(
        "listeners: [{{ name: app, address: \"{listen}\" }}]\nadmin: {{ address: \"{admin}\" }}\n\
         pre_drain: 0s\ndrain_timeout: 5s\n{ROUTE}"
    );
    std::fs::write(folder.path().join("keyway.yaml"), keyway).unwrap();
    if let Some(node) = node {
        std::fs::write(folder.path().join("topology.yaml"), topology(&[&[node]])).unwrap();
    }
    folder
}

fn keyway(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
    command.arg("run").arg("--config");
    command.arg(folder.path().join("keyway.yaml"));
    command.stdin(Stdio::null());
    command
}

/// What a supervisor is told.
struct Told(UnixDatagram);

impl Told {
    fn next(&self) -> String {
        let mut read = [0; 512];
        let length = self.0.recv(&mut read).unwrap();
        String::from_utf8(read[..length].to_vec()).unwrap()
    }

    /// The next word that is not the watchdog's.
    fn news(&self) -> String {
        loop {
            let told = self.next();
            if told != "WATCHDOG=1" {
                return told;
            }
        }
    }
}

/// Listens as systemd would, for the process that `command` starts.
fn supervise(command: &mut Command, folder: &TempDir) -> Told {
    let path = folder.path().join("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    command.env("NOTIFY_SOCKET", path);
    Told(told)
}

#[test]
fn systemd_is_told_how_it_is() {
    let node = Node::start("a");
    let folder = files("127.0.0.1:0", "127.0.0.1:0", None);
    let mut command = keyway(&folder);
    let told = supervise(&mut command, &folder);
    let mut keyway = Keyway::launch(folder, command);
    assert_eq!(told.next(), "STATUS=waiting for a valid topology");
    keyway.replace("topology.yaml", &topology(&[&[&node]]));
    assert_eq!(told.next(), "READY=1\nSTATUS=serving");
    keyway.signal("-HUP");
    let reloading = told.next();
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(at.unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(told.next(), "READY=1\nSTATUS=serving");
    keyway.signal("-TERM");
    assert_eq!(told.next(), "STOPPING=1\nSTATUS=draining");
    assert!(keyway.wait().success());
}

#[test]
fn the_watchdog_is_kept_quiet() {
    let node = Node::start("a");
    let folder = files("127.0.0.1:0", "127.0.0.1:0", Some(&node));
    let mut command = keyway(&folder);
    let told = supervise(&mut command, &folder);
    command.env("WATCHDOG_USEC", "200000");
    let mut keyway = Keyway::launch(folder, command);
    // For longer than a thread that stood still would be believed in.
    let quiet = (0..45).filter(|_| told.next() == "WATCHDOG=1").count();
    assert!(quiet >= 44, "{quiet}");
    keyway.signal("-TERM");
    assert_eq!(told.news(), "STOPPING=1\nSTATUS=draining");
    assert!(keyway.wait().success());
}

#[test]
fn a_watchdog_that_is_another_process_is_left_alone() {
    let node = Node::start("a");
    let folder = files("127.0.0.1:0", "127.0.0.1:0", Some(&node));
    let mut command = keyway(&folder);
    let told = supervise(&mut command, &folder);
    command
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1");
    let keyway = Keyway::launch(folder, command);
    assert_eq!(told.next(), "READY=1\nSTATUS=serving");
    keyway.signal("-TERM");
    assert_eq!(told.next(), "STOPPING=1\nSTATUS=draining");
}

/// keyway by a shell that passes it its own standard input and output as descriptors 3 and 4, as systemd
/// passes sockets on.
fn activated(folder: &TempDir, names: &str, app: &TcpListener, admin: &TcpListener) -> Command {
    let pass = |it: &TcpListener| Stdio::from(OwnedFd::from(it.try_clone().unwrap()));
    let script = "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"";
    let mut command = Command::new("sh");
    command.args([
        "-c",
        script,
        "sh",
        env!("CARGO_BIN_EXE_keyway"),
        "run",
        "--config",
    ]);
    command.arg(folder.path().join("keyway.yaml"));
    command.env("LISTEN_FDNAMES", names);
    command.stdin(pass(app)).stdout(pass(admin));
    command
}

#[test]
fn sockets_that_systemd_listens_on_outlive_the_process() {
    let node = Node::start("a");
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [app, admin] = &sockets;
    let addresses = sockets.each_ref().map(|it| it.local_addr().unwrap());
    let start = || {
        // Their ports are others than what is configured: the socket's name counts.
        let folder = files("127.0.0.1:1", "127.0.0.1:1", Some(&node));
        let command = activated(&folder, "app:admin", app, admin);
        let mut keyway = Keyway::adopt(folder, command);
        keyway.logged("ready");
        keyway
    };
    let mut first = start();
    assert_eq!([first.address, first.admin], addresses);
    assert_eq!(first.get("/k").status, 200);
    first.signal("-TERM");
    assert!(first.wait().success());
    // Nobody accepts now; nobody is refused either.
    let mut waiting = Client::on(TcpStream::connect(addresses[0]).unwrap());
    waiting.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
    let second = start();
    assert_eq!(waiting.reply().status, 200);
    assert_eq!(second.admin("GET", "/readyz", "").status, 200);
}

#[test]
fn a_socket_that_nobody_knows_ends_the_start() {
    let node = Node::start("a");
    let folder = files("127.0.0.1:0", "127.0.0.1:0", Some(&node));
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [app, other] = &sockets;
    let ended = activated(&folder, "app:keyway.socket", app, other)
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    assert_eq!(
        last,
        "keyway: systemd passed on the socket \"keyway.socket\": expected FileDescriptorName= to be admin or the name of a listener (app)"
    );
}

/// By systemd's own checks: that the units are right, and how much a keyway that was broken into could do.
#[test]
fn the_units_are_right_and_hardened() {
    let shown = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd");
    let folder = tempfile::tempdir().unwrap();
    for unit in ["keyway.service", "keyway.socket"] {
        let text = std::fs::read_to_string(shown.join(unit)).unwrap();
        // What it starts must be there.
        let text = text.replace("/usr/local/bin/keyway", env!("CARGO_BIN_EXE_keyway"));
        std::fs::write(folder.path().join(unit), text).unwrap();
    }
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(arguments)
            .arg(folder.path().join("keyway.service"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (right, said) = analyze(&[
        "verify",
        "--man=no",
        folder.path().join("keyway.socket").to_str().unwrap(),
    ]);
    let ours: Vec<_> = said.lines().filter(|it| it.contains("keyway.")).collect();
    assert!(right && ours.is_empty(), "{said}");
    // Of 10: below 2 is what systemd calls safe enough to say OK.
    let (hardened, said) = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"]);
    assert!(hardened, "{said}");
}
