//! A network of this run's own, where Linux lets it have one, and what is done to packets there.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use tokio::net::{TcpListener, TcpSocket};

/// Says, in the environment, that this process is in a namespace of its own.
const ISOLATED: &str = "KEYWAY_FAULTS_ISOLATED";

/// What is run there first.
const ENTER: &str = "ip link set lo up && nft list ruleset >/dev/null";

/// Becomes this same program in a network namespace of its own, where nothing else listens and
/// packets can be dropped. Returns where that is not possible, and whether it has happened.
pub fn isolate(arguments: &[String]) -> bool {
    if std::env::var_os(ISOLATED).is_some() {
        return true;
    }
    let binary = std::env::current_exe().unwrap();
    for how in [&["--net"][..], &["--map-root-user", "--net"]] {
        let mut trial = Command::new("unshare");
        trial.args(how).args(["--", "sh", "-c", ENTER]);
        trial.stdin(Stdio::null()).stderr(Stdio::null());
        if trial.status().is_ok_and(|it| it.success()) {
            let mut command = Command::new("unshare");
            let enter = format!("{ENTER} && exec \"$0\" \"$@\"");
            command.args(how).args(["--", "sh", "-c", &enter]);
            command.arg(binary).args(arguments).env(ISOLATED, "1");
            panic!("unshare must run again: {}", command.exec());
        }
    }
    false
}

/// A network of loopback that no other run uses at the same time, namespace or not.
pub fn address(host: u8) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 64 + high % 64, low, host], 7000))
}

/// Listens, with a queue that takes all that may come while nobody accepts. By default it holds
/// 128, and a node that hangs would soon refuse.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// Sends a signal, named as kill names it.
pub fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success(), "kill {signal} {pid}");
}

/// What is done to packets; dropping it lets all of them pass.
pub struct Filter {
    chain: &'static str,
}

impl Filter {
    /// Nothing yet.
    pub fn new() -> Self {
        nft("add table inet faults");
        let chain = "inet faults input";
        nft(&format!(
            "add chain {chain} {{ type filter hook input priority 0; }}"
        ));
        Self { chain }
    }

    /// Attempts to connect to `node` are not answered.
    pub fn swallow_connects(&self, node: SocketAddr) {
        self.add(&format!(
            "{} tcp flags & (syn | ack) == syn drop",
            Self::to(node)
        ));
    }

    /// Whatever is sent to `node` is answered by a RST.
    pub fn reject(&self, node: SocketAddr) {
        self.add(&format!("{} reject with tcp reset", Self::to(node)));
    }

    /// The connections to `node` that there are carry nothing any more, either way.
    pub fn swallow_open(&self, node: SocketAddr) {
        let ports: Vec<_> = ports_of(node).iter().map(ToString::to_string).collect();
        if !ports.is_empty() {
            let ports = ports.join(", ");
            self.add(&format!("{} tcp sport {{ {ports} }} drop", Self::to(node)));
            self.add(&format!(
                "{} tcp dport {{ {ports} }} drop",
                Self::from(node)
            ));
        }
    }

    /// One packet of ten is lost, each way.
    pub fn lose(&self, node: SocketAddr) {
        for packets in [Self::to(node), Self::from(node)] {
            self.add(&format!("{packets} numgen random mod 10 == 0 drop"));
        }
    }

    /// Lets all packets pass.
    pub fn clear(&self) {
        nft(&format!("flush chain {}", self.chain));
    }

    fn add(&self, rule: &str) {
        nft(&format!("add rule {} {rule}", self.chain));
    }

    fn to(node: SocketAddr) -> String {
        format!("ip daddr {} tcp dport {}", node.ip(), node.port())
    }

    fn from(node: SocketAddr) -> String {
        format!("ip saddr {} tcp sport {}", node.ip(), node.port())
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _gone = Command::new("nft")
            .args(["delete", "table", "inet", "faults"])
            .status();
    }
}

/// A cable between this namespace and that of process `pid`.
pub struct Cable {
    /// The other namespace, as nsenter takes it.
    inside: String,
}

impl Cable {
    /// This end has `here`, the other one `there`.
    pub fn plug(pid: u32, here: SocketAddr, there: SocketAddr) -> Self {
        let namespace = pid.to_string();
        let inside = format!("--net=/proc/{pid}/ns/net");
        run(
            "ip",
            &[
                "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", &namespace,
            ],
        );
        run(
            "ip",
            &["addr", "add", &format!("{}/30", here.ip()), "dev", "here"],
        );
        run("ip", &["link", "set", "here", "up"]);
        let address = format!("{}/30", there.ip());
        run(
            "nsenter",
            &[&inside, "ip", "addr", "add", &address, "dev", "there"],
        );
        let cable = Self { inside };
        cable.set(true);
        cable
    }

    /// Puts its other end in, or pulls it out.
    pub fn set(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        run(
            "nsenter",
            &[&self.inside, "ip", "link", "set", "there", state],
        );
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let mut delete = Command::new("ip");
        // It goes with the other namespace, which may be faster.
        delete.args(["link", "del", "here"]).stderr(Stdio::null());
        let _gone = delete.status();
    }
}

/// The local ports of open connections to `node`.
fn ports_of(node: SocketAddr) -> Vec<u16> {
    let SocketAddr::V4(node) = node else {
        return Vec::new();
    };
    let wanted = format!(
        "{:08X}:{:04X}",
        u32::from_le_bytes(node.ip().octets()),
        node.port()
    );
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|it| it.split_whitespace().collect());
    let open = rows.filter_map(|row: Vec<&str>| {
        let [_, local, remote, state, ..] = row[..] else {
            return None;
        };
        let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
        (remote == wanted && state == "01").then_some(port)
    });
    open.collect()
}

fn nft(command: &str) {
    run("nft", &[command]);
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
