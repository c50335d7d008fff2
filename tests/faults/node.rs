//! A node: a process of its own, this very binary, so that killing, stopping and starting it are
//! real.
//!
//! It answers with its shard, its id and the request's id, and appends a line to its record for
//! each request before it answers, in one write to a file: a kill -9 takes nothing of that away.

mod serve;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

pub use serve::serve;

use crate::support::until;

/// A node's place, and its process while there is one. Dropping it kills the process.
pub struct Node {
    pub id: String,
    pub shard: String,
    /// Where it listens.
    pub address: SocketAddr,
    pub record: PathBuf,
    /// Whether its process lives in a network namespace of its own.
    pub apart: bool,
    process: Mutex<Option<Process>>,
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Node {
    pub fn new(id: String, shard: String, address: SocketAddr, record: PathBuf) -> Self {
        Self {
            id,
            shard,
            address,
            record,
            apart: false,
            process: Mutex::default(),
        }
    }

    /// Starts its process and waits until it listens.
    pub fn start(&self) {
        let binary = std::env::current_exe().unwrap();
        let mut command = if self.apart {
            let mut command = Command::new("unshare");
            command.args(["--net", "--"]).arg(binary);
            command
        } else {
            Command::new(binary)
        };
        let listen = if self.apart {
            SocketAddr::from(([0, 0, 0, 0], self.address.port()))
        } else {
            self.address
        };
        let mut child = command
            .args(["node", &self.id, &self.shard, &listen.to_string()])
            .arg(&self.record)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Process {
            child,
            input,
            output,
        };
        assert_eq!(process.line(), "listens", "node {}", self.id);
        *self.process.lock().unwrap() = Some(process);
    }

    /// kill -9.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.child.kill().unwrap();
            process.child.wait().unwrap();
        }
    }

    /// SIGSTOP: the kernel still accepts for it, and nobody answers.
    pub fn stop(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.pid());
        until("the stop", || {
            std::fs::read_to_string(&stat).unwrap().contains(") T ")
        });
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Has it behave differently from now on: `delay MS`, `fail STATUS PATH`, `heal`,
    /// `capacity REQUESTS`; or asks it: `peak`.
    pub fn tell(&self, command: &str) -> String {
        let mut process = self.process.lock().unwrap();
        let process = process.as_mut().unwrap();
        writeln!(process.input, "{command}").unwrap();
        process.line()
    }

    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap().as_ref().unwrap().child.id()
    }

    fn signal(&self, signal: &str) {
        crate::network::signal(self.pid(), signal);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// What a node answers to request `id`, with so many bytes behind it.
pub fn answer(shard: &str, node: &str, id: &str, filler: usize) -> String {
    format!("{shard} {node} {id}\n{}", "x".repeat(filler))
}

/// How many bytes a path asks for behind the answer: `/KEY/body/4096`, `/KEY/chunked/4096`.
pub fn filler(path: &str) -> usize {
    let asked = path.split_once("/body/");
    let asked = asked.or_else(|| path.split_once("/chunked/"));
    asked.map_or(0, |(_, bytes)| bytes.parse().unwrap_or(0))
}
