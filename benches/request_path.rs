//! What does keyway add to a request? The same GETs go to a node directly and through keyway, in
//! turns, so that a noisy machine troubles both alike; the ratio of their latencies is printed, and
//! keyway's CPU time a request by the kernel's own account.
//!
//! `cargo bench --bench request_path`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, fails by panicking and reads the clock"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const REQUESTS: usize = 4000;
const BODY: usize = 1024;

fn main() {
    let node = start_node();
    let folder = std::env::temp_dir().join(format!("keyway-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (mut keyway, address) = start_keyway(&folder, node);
    let pid = keyway.id();
    let (mut direct, mut through, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let plain = median_latency(node);
        let before = cpu_time(pid);
        let proxied = median_latency(address);
        let used = cpu_time(pid).saturating_sub(before);
        // The first round warms both up.
        if round > 0 {
            direct.push(plain);
            through.push(proxied);
            cpu.push(used / u32::try_from(REQUESTS).unwrap());
        }
    }
    keyway.kill().unwrap();
    keyway.wait().unwrap();
    fs::remove_dir_all(folder).unwrap();
    let ratios = direct
        .iter()
        .zip(&through)
        .map(|(plain, proxied)| proxied.as_secs_f64() / plain.as_secs_f64());
    let mut ratios: Vec<_> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "GET with {BODY} bytes, one keep-alive connection, median of {ROUNDS} rounds of {REQUESTS}"
    );
    println!("  directly        {:>8.1?}", median(direct));
    println!("  through keyway  {:>8.1?}", median(through));
    println!("  ratio           {:>8.2}", ratios[ratios.len() / 2]);
    println!("  keyway's CPU    {:>8.1?} a request", median(cpu));
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The median latency of a round of GETs on one connection.
fn median_latency(address: SocketAddr) -> Duration {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let latencies = (0..REQUESTS).map(|at| {
        let request = format!(
            "GET /{at} HTTP/1.1\r\nHost: bench\r\nx-key: {}\r\n\r\n",
            at % 1000
        );
        let began = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let mut read = 0;
        // The body is all x; a head ends before it.
        while !ends_with_body(&buffer[..read]) {
            read += stream.read(&mut buffer[read..]).unwrap();
        }
        began.elapsed()
    });
    median(latencies.collect())
}

fn ends_with_body(bytes: &[u8]) -> bool {
    let head = bytes.windows(4).position(|it| it == b"\r\n\r\n");
    head.is_some_and(|at| bytes.len() == at + 4 + BODY)
}

/// A node that answers at once.
fn start_node() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n{}",
        "x".repeat(BODY)
    );
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line == "\r\n" && stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

fn start_keyway(folder: &std::path::Path, node: SocketAddr) -> (Child, SocketAddr) {
    let config = folder.join("keyway.yaml");
    let text = "listeners: [{ name: app, address: \"127.0.0.1:0\" }]\nadmin: { address: \"127.0.0.1:0\" }\nthreads: 1\n\
                routes: [{ name: r, match: {}, key: \"header:x-key\", cluster: c }]\n";
    fs::write(&config, text).unwrap();
    let text =
        format!("version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{node}\" }}] }} }}\n");
    fs::write(folder.join("topology.yaml"), text).unwrap();
    let mut keyway = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .args(["run", "--log-format", "json", "--config"])
        .arg(config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(keyway.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let address = log.map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap());
    let mut listening = address.filter(|event| event["message"] == "listening");
    let address = listening.next().unwrap()["address"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    thread::spawn(move || listening.count());
    (keyway, address)
}

/// The CPU time of all of a process's threads (Linux, `schedstat`).
fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = tasks.map(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}
