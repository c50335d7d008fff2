//! `ketama` against the nginx that is installed.
//!
//! Nothing listens on the upstreams' addresses, which are all loopback or Unix sockets: nginx
//! picks one, is refused, and tells in its answer whom it tried.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use keyway::placement::{Algorithm, Member, Placement, Replication};
use tempfile::TempDir;

/// More than 10 000 in all.
const KEYS_PER_TOPOLOGY: usize = 2_500;

/// How many requests are written before their answers are read.
const PIPELINED: usize = 50;

/// A server as nginx's configuration has it, the address that it tries, and its weight.
type Server = (String, String, u16);

#[test]
fn places_every_key_where_nginx_does() {
    let dir = tempfile::tempdir().unwrap();
    let topologies = topologies(dir.path());
    let nginx = Nginx::start(&dir, &topologies);
    for (at, servers) in topologies.iter().enumerate() {
        let placement = placement(servers);
        let mut reached = HashSet::new();
        for (key, tried) in nginx.tried(at, &keys(at)) {
            let owner = placement.owner(placement.token(key.as_bytes())).as_usize();
            assert_eq!(tried, servers[owner].1, "key {key:?} of topology {at}");
            reached.insert(owner);
        }
        assert!(
            reached.len() > servers.len() / 2,
            "topology {at} must use its servers"
        );
    }
}

fn placement(servers: &[Server]) -> Placement {
    let member = |(at, (hash_key, _, weight)): (usize, &Server)| Member {
        name: format!("member-{at}"),
        weight: *weight,
        hash_key: Some(hash_key.clone()),
        zone: None,
    };
    let members: Vec<_> = servers.iter().enumerate().map(member).collect();
    Placement::build(Algorithm::Ketama, &members, Replication::NONE).unwrap()
}

fn topologies(dir: &Path) -> Vec<Vec<Server>> {
    let v4 = |host: usize, port, weight| {
        let address = format!("127.0.{}.{}:{port}", host / 200, 1 + host % 200);
        (address.clone(), address, weight)
    };
    let v6 = |port: u16, weight| {
        let address = format!("[::1]:{port}");
        (address.clone(), address, weight)
    };
    let portless = |host: &str, weight| (host.to_owned(), format!("{host}:80"), weight);
    let socket = |scheme: &str, name: &str, weight| {
        let path = dir.join(name).display().to_string();
        (
            format!("{scheme}:{path}"),
            format!("{scheme}:{path}"),
            weight,
        )
    };
    vec![
        (0..3).map(|host| v4(host, 1, 1)).collect(),
        (0..7)
            .map(|host| v4(host, 2, [1, 2, 4, 1, 10, 3, 100][host]))
            .collect(),
        vec![
            v6(1, 1),
            v6(2, 2),
            v6(65_535, 1),
            v4(0, 3, 1),
            portless("[::1]", 2),
        ],
        vec![
            portless("127.0.0.5", 1),
            portless("127.0.0.6", 3),
            v4(5, 81, 1),
            v4(6, 9, 2),
        ],
        (0..300).map(|host| v4(host, 4, 1)).collect(),
        vec![
            socket("unix", "a", 1),
            socket("unix", "b.1", 2),
            socket("UNIX", "c", 1),
            v4(0, 5, 1),
        ],
        // These two share the point 0xa87782ce, which 1.3 % of the keys go to: the first has it.
        vec![v4(2_503, 6, 1), v4(2_508, 6, 1)],
        vec![v4(2_508, 6, 1), v4(2_503, 6, 1)],
    ]
}

/// Keys that a header can carry: of all lengths, with spaces inside, not only ASCII.
fn keys(topology: usize) -> Vec<String> {
    let key = |at: usize| match at % 5 {
        0 => format!("{at}"),
        1 => format!("user:{at}:{topology}"),
        2 => format!("/a path/{at}?q={}", at * 7_919),
        3 => format!("ключ-{at}-🦀"),
        _ => format!("{at:x}{}", "y".repeat(at % 97)),
    };
    (0..KEYS_PER_TOPOLOGY).map(key).collect()
}

/// A running nginx; dropping it stops it.
struct Nginx<'a> {
    dir: &'a TempDir,
    process: Child,
}

impl<'a> Nginx<'a> {
    fn start(dir: &'a TempDir, topologies: &[Vec<Server>]) -> Self {
        let path = dir.path();
        fs::write(path.join("nginx.conf"), configuration(path, topologies)).unwrap();
        let process = Command::new("nginx")
            .env(
                "PATH",
                format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()),
            )
            .arg("-p")
            .arg(path)
            .arg("-c")
            .arg(path.join("nginx.conf"))
            .arg("-e")
            .arg(path.join("error.log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx must be installed: this test has no meaning without it");
        Self { dir, process }
    }

    fn connect(&self) -> UnixStream {
        let socket = self.dir.path().join("listen.sock");
        for _ in 0..500 {
            if let Ok(stream) = UnixStream::connect(&socket) {
                stream
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                return stream;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "another process starts meanwhile"
            )]
            thread::sleep(Duration::from_millis(10));
        }
        let log = fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default();
        panic!("nginx must listen within 5 s: {log}");
    }

    /// Each of `keys` with the address that nginx tried for it.
    fn tried<'k>(&self, topology: usize, keys: &'k [String]) -> Vec<(&'k str, String)> {
        let mut stream = BufReader::new(self.connect());
        let mut tried = Vec::new();
        for batch in keys.chunks(PIPELINED) {
            let mut requests = String::new();
            for key in batch {
                write!(
                    requests,
                    "GET /{topology} HTTP/1.1\r\nhost: x\r\nx-key: {key}\r\n\r\n"
                )
                .unwrap();
            }
            stream.get_mut().write_all(requests.as_bytes()).unwrap();
            for key in batch {
                tried.push((key.as_str(), read_tried(&mut stream)));
            }
        }
        tried
    }
}

impl Drop for Nginx<'_> {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        // SIGTERM, so that the master ends its worker; SIGKILL would leave that behind.
        let signalled = Command::new("kill").arg(&pid).status();
        if !signalled.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// Reads one whole answer and returns its `x-tried`.
fn read_tried(stream: &mut impl BufRead) -> String {
    let mut headers = HashMap::new();
    let mut status = String::new();
    stream.read_line(&mut status).unwrap();
    assert!(
        status.starts_with("HTTP/1.1 502 "),
        "expected a refused upstream: {status:?}"
    );
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    headers
        .remove("x-tried")
        .expect("every answer must carry x-tried")
}

fn configuration(dir: &Path, topologies: &[Vec<Server>]) -> String {
    let dir = dir.display();
    let (mut upstreams, mut locations) = (String::new(), String::new());
    for (at, servers) in topologies.iter().enumerate() {
        writeln!(upstreams, "upstream t{at} {{ hash $http_x_key consistent;").unwrap();
        for (server, _, weight) in servers {
            writeln!(upstreams, "server {server} weight={weight} max_fails=0;").unwrap();
        }
        writeln!(upstreams, "}}").unwrap();
        writeln!(locations, "location = /{at} {{ proxy_pass http://t{at}; }}").unwrap();
    }
    format!(
        "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
        events {{ worker_connections 256; }}
        http {{
            access_log off; keepalive_requests 1000000;
            client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
            fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
            proxy_next_upstream off; add_header x-tried $upstream_addr always;
            {upstreams}
            server {{ listen unix:{dir}/listen.sock; {locations} }}
        }}"
    )
}
