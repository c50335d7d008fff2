//! Unmodified clients and servers: curl, h2load and Python in front, nginx behind.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{Keyway, until};

/// nginx on several ports, each port a node that names itself.
struct Nginx {
    process: Child,
    nodes: Vec<(String, SocketAddr)>,
    _folder: TempDir,
}

impl Nginx {
    fn start(nodes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let held: Vec<_> = (0..nodes)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let nodes: Vec<_> = held
            .iter()
            .enumerate()
            .map(|(at, it)| (format!("n{at}"), it.local_addr().unwrap()))
            .collect();
        drop(held);
        let servers = nodes.iter().map(|(id, address)| {
            format!(
                "server {{ listen {address}; add_header x-node {id}; \
                 location / {{ return 200 \"{id} $request_uri\\n\"; }} }}\n"
            )
        });
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{}}\nhttp {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p;\n\
             fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             keepalive_requests 100000;\n{} }}\n",
            servers.collect::<String>()
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx must be installed");
        let nginx = Self {
            process,
            nodes,
            _folder: folder,
        };
        for (_, address) in &nginx.nodes {
            until("nginx listens", || {
                std::net::TcpStream::connect(address).is_ok()
            });
        }
        nginx
    }

    fn topology(&self) -> String {
        let node = |(id, address): &(String, SocketAddr)| {
            format!("      - {{ id: {id}, address: \"{address}\" }}\n")
        };
        let nodes: String = self.nodes.iter().map(node).collect();
        format!("version: 1\nclusters:\n  c:\n    nodes:\n{nodes}    replication_factor: 2\n")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn started() -> (Nginx, Keyway) {
    let nginx = Nginx::start(4);
    let keyway = Keyway::start(
        "routes:\n  - { name: r, match: { path: \"/users/{id}/**\" }, key: \"path:id\", cluster: c }\n",
        &nginx.topology(),
    );
    (nginx, keyway)
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    output
}

#[test]
fn curl_by_http1_and_http2() {
    let (_nginx, keyway) = started();
    for version in ["--http1.1", "--http2-prior-knowledge", "--http1.0"] {
        for id in 0..20 {
            let url = format!("http://{}/users/{id}/x?y", keyway.address);
            let once = || String::from_utf8(run("curl", &["-sS", version, &url]).stdout).unwrap();
            let first = once();
            assert!(first.ends_with(&format!(" /users/{id}/x?y\n")), "{first}");
            assert_eq!(once(), first, "the same key on the same node");
        }
    }
}

#[test]
fn curl_posts_and_expects_100() {
    let (_nginx, keyway) = started();
    let url = format!("http://{}/users/1", keyway.address);
    let body = "x".repeat(1 << 20);
    let file = keyway.path("body");
    fs::write(&file, body).unwrap();
    let data = format!("@{}", file.display());
    let output = run(
        "curl",
        &[
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-H",
            "Expect: 100-continue",
            "--data-binary",
            &data,
            &url,
        ],
    );
    assert_eq!(output.stdout, b"200");
}

#[test]
fn h2load_spreads_over_every_node_and_loses_nothing() {
    let (nginx, keyway) = started();
    let url = |id| format!("http://{}/users/{id}\n", keyway.address);
    let urls = (0..200).map(url).collect::<Vec<_>>().concat();
    let file = keyway.path("urls");
    fs::write(&file, urls).unwrap();
    for protocol in ["--h1", "-phttp/1.1", "-ph2c"] {
        let output = run(
            "h2load",
            &[
                protocol,
                "-n2000",
                "-c8",
                "-m4",
                "-i",
                file.to_str().unwrap(),
            ],
        );
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{text}"
        );
    }
    for (id, _) in &nginx.nodes {
        let attempts = keyway.metric("keyway_attempts_total", &[&format!("node=\"{id}\"")]);
        assert!(attempts > 600.0, "{id}: {attempts}");
    }
    assert_eq!(
        keyway.metric("keyway_requests_total", &["class=\"2xx\""]),
        6000.0
    );
    assert_eq!(keyway.metric("keyway_requests_in_flight", &[]), 0.0);
}

#[test]
fn pythons_client_keeps_its_connection() {
    let (_nginx, keyway) = started();
    let script = "import http.client, sys\n\
        c = http.client.HTTPConnection(sys.argv[1])\n\
        for i in range(100):\n\
        \x20   c.request('GET', f'/users/{i}')\n\
        \x20   r = c.getresponse()\n\
        \x20   assert r.status == 200, r.status\n\
        \x20   assert f'/users/{i}' in r.read().decode()\n\
        print(c.sock is not None)\n";
    let address = keyway.address.to_string();
    assert_eq!(run("python3", &["-c", script, &address]).stdout, b"True\n");
    assert_eq!(
        keyway.metric(
            "keyway_connections_total",
            &["side=\"downstream\"", "outcome=\"ok\""]
        ),
        1.0
    );
}

#[test]
fn prometheus_accepts_the_exposition() {
    let (_nginx, keyway) = started();
    keyway.get("/users/1");
    let text = keyway.admin("GET", "/metrics", "").text();
    let file = keyway.path("metrics");
    fs::write(&file, text).unwrap();
    let input = fs::File::open(&file).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(input)
        .output();
    let checked = checked.expect("prometheus' promtool must be installed");
    let complaints = String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.success() && complaints.is_empty(),
        "{complaints}"
    );
}
