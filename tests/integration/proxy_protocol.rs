//! The PROXY protocol: who clients are by those that pass them on, and by keyway for its nodes.

use std::collections::HashSet;
use std::process::Command;

use crate::support::{Authority, Keyway, Node, Server, topology, until};

/// keyway whose listener takes the word of `from`, with its access log on.
fn told(from: &str, more: &str, node: &Node) -> Keyway {
    Keyway::start(
        &format!(
            "listeners:\n  - {{ name: app, address: \"127.0.0.1:0\", proxy_protocol: {{ from: [{from}] }}{more} }}\n\
             access_log: json\nroutes: [{{ name: r, match: {{}}, key: client_ip, cluster: c }}]\n\
             limits: {{ head_wait: 500ms }}\n"
        ),
        &topology(&[&[node]]),
    )
}

const LOOPBACK: &str = "\"127.0.0.0/8\"";

/// The clients of the access log's lines, once there are `count`.
fn clients(keyway: &Keyway, count: usize) -> Vec<String> {
    let mut clients = Vec::new();
    until("the access log has its lines", || {
        let events = keyway.events().into_iter();
        let lines = events.filter(|it| it["attempts"].is_number());
        clients = lines
            .map(|it| it["client"].as_str().unwrap_or("-").to_owned())
            .collect();
        clients.len() >= count
    });
    // Each thread writes its own in order.
    clients.sort();
    clients
}

const GET: &str = "GET /k HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_client_is_who_it_is_said_to_be() {
    let node = Node::start("a");
    let keyway = told(LOOPBACK, "", &node);
    let v2 = |command: u8, rest: &[u8]| {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11][..], &length, rest].concat()
    };
    let ends = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80];
    let headers = [
        b"PROXY TCP4 198.51.100.7 192.0.2.2 5 80\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 ::1 5 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2(0x21, &ends),
        v2(0x21, &[&ends[..], &[4, 0, 1, 0]].concat()),
        v2(0x20, &ends),
    ];
    for header in &headers {
        let mut client = keyway.client();
        // With the first request in one piece, and the second by itself.
        client.send([header, GET.as_bytes()].concat());
        assert_eq!(client.reply().status, 200);
        assert_eq!(client.send(GET).reply().status, 200);
        // Byte by byte.
        let mut client = keyway.client();
        client.stream.set_nodelay(true).unwrap();
        for byte in [header, GET.as_bytes()].concat() {
            client.send([byte]);
        }
        assert_eq!(client.reply().status, 200);
    }
    let expected = [
        "198.51.100.7",
        "2001:db8::7",
        "127.0.0.1",
        "192.0.2.1",
        "192.0.2.1",
        "127.0.0.1",
    ];
    let mut expected: Vec<_> = expected.iter().flat_map(|it| [*it; 3]).collect();
    expected.sort_unstable();
    assert_eq!(clients(&keyway, 18), expected);
}

#[test]
fn who_must_say_it_is_not_served_without() {
    let node = Node::start("a");
    let keyway = told(LOOPBACK, "", &node);
    for bytes in [
        GET,
        "PROXY TCP4 198.51.100.7 192.0.2.2 5 +80\r\n",
        "\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
    ] {
        let mut client = keyway.client();
        client.send(bytes);
        assert!(client.is_closed(), "{bytes:?}");
    }
    let mut slow = keyway.client();
    slow.send("PROXY TCP4 198.");
    assert!(slow.is_closed());
    let outcome = ["side=\"downstream\"", "outcome=\"handshake\""];
    // Who is closed may see it before it is counted.
    until("all are counted", || {
        keyway.count("keyway_connections_total", &outcome) == 4
    });
    until("one of them waited", || {
        keyway.count("keyway_limits_reached_total", &["limit=\"head_wait\""]) == 1
    });
    keyway.until_idle();
    assert_eq!(node.requests().len(), 0);
}

#[test]
fn others_are_not_believed() {
    let node = Node::start("a");
    let keyway = told("\"10.0.0.0/8\", \"::1\"", "", &node);
    let mut client = keyway.client();
    assert_eq!(client.send(GET).reply().status, 200);
    let mut liar = keyway.client();
    liar.send(["PROXY TCP4 198.51.100.7 192.0.2.2 5 80\r\n", GET].concat());
    assert_eq!(liar.reply().status, 400);
    // What is no request has a line, too.
    assert_eq!(clients(&keyway, 2), ["127.0.0.1"; 2]);
}

/// `HAProxy` in front says who its client is, in both versions; curl is the client, and says it itself
/// in front of TLS.
#[test]
fn haproxy_and_curl_say_who_the_client_is() {
    let node = Node::start("a");
    let keyway = told(LOOPBACK, "", &node);
    let to = keyway.address;
    for (at, send) in ["send-proxy", "send-proxy-v2"].into_iter().enumerate() {
        let haproxy = Server::start(|folder, address| {
            let config = format!(
                "defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n\
                 frontend f\n  bind {address}\n  default_backend b\nbackend b\n  server s {to} {send}\n"
            );
            let file = folder.join("haproxy.cfg");
            std::fs::write(&file, config).unwrap();
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(file);
            command
        });
        let client = format!("127.0.0.{}", 50 + at);
        let url = format!("http://{}/k", haproxy.address);
        curl(&["--interface", &client, &url]);
        assert_eq!(clients(&keyway, at + 1)[at], client);
    }

    let authority = Authority::new();
    authority.certify("app", &["127.0.0.1"], 2040);
    let path = authority.folder().display();
    let tls =
        format!(", tls: {{ certificates: [{{ cert: {path}/app.crt, key: {path}/app.key }}] }}");
    let keyway = told(LOOPBACK, &tls, &node);
    let url = format!("https://{}/k", keyway.address);
    let ca = authority.path("ca.crt").display().to_string();
    for version in ["--http1.1", "--http2"] {
        curl(&[
            version,
            "--haproxy-protocol",
            "--interface",
            "127.0.0.60",
            "--cacert",
            &ca,
            &url,
        ]);
    }
    assert_eq!(clients(&keyway, 2), ["127.0.0.60", "127.0.0.60"]);
}

fn curl(arguments: &[&str]) {
    let output = Command::new("curl").args(["-sSf"]).args(arguments).output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// nginx that says what it is told, on which connection.
fn nginx(listen: &str) -> Server {
    Server::nginx(&format!(
        "server {{ listen LISTEN proxy_protocol {listen}; keepalive_timeout 60s;
         location / {{ return 200 \"$proxy_protocol_addr $proxy_protocol_port \
         $proxy_protocol_server_addr $proxy_protocol_server_port $connection\\n\"; }} }}"
    ))
}

fn introducing(version: &str, protocol: &str, server: &Server) -> Keyway {
    Keyway::start(
        &format!(
            "routes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n\
             clusters: {{ c: {{ proxy_protocol: {version}, protocol: {protocol} }} }}\n"
        ),
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{}\" }}] }} }}\n",
            server.address
        ),
    )
}

/// A node is told of each client, and never hears two on one connection.
#[test]
fn nodes_are_told_whose_a_connection_is() {
    for (listen, protocol) in [("", "http1"), ("http2", "h2")] {
        let server = nginx(listen);
        for version in ["v1", "v2"] {
            let keyway = introducing(version, protocol, &server);
            let mut clients: Vec<_> = (0..3).map(|_| keyway.client()).collect();
            let mut connections = vec![HashSet::new(); clients.len()];
            for _ in 0..4 {
                for (client, connections) in clients.iter_mut().zip(&mut connections) {
                    let local = client.stream.local_addr().unwrap();
                    let said = client.get("/k").text();
                    let (ends, connection) = said.trim().rsplit_once(' ').unwrap();
                    let (ip, port) = (local.ip(), local.port());
                    let (to, at) = (keyway.address.ip(), keyway.address.port());
                    assert_eq!(
                        ends,
                        format!("{ip} {port} {to} {at}"),
                        "{version} {protocol}"
                    );
                    connections.insert(connection.to_owned());
                }
            }
            if protocol == "http1" {
                // Each has one, which serves it again and nobody else.
                assert!(
                    connections.iter().all(|it| it.len() == 1),
                    "{connections:?}"
                );
                let all: HashSet<_> = connections.iter().flatten().collect();
                assert_eq!(all.len(), 3);
            }
        }
    }
}

#[test]
fn a_client_without_an_address_is_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let server = nginx("");
    for version in ["v1", "v2"] {
        let keyway = folder.path().join(format!("{version}.yaml"));
        let topology = folder.path().join("topology.yaml");
        std::fs::write(
            &keyway,
            format!(
                "listeners: [{{ name: app, address: \"unix:{}\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\npre_drain: 0s\n\
                 routes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n\
                 clusters: {{ c: {{ proxy_protocol: {version} }} }}\n",
                socket.display()
            ),
        )
        .unwrap();
        std::fs::write(
            topology,
            format!(
                "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{}\" }}] }} }}\n",
                server.address
            ),
        )
        .unwrap();
        let own = tempfile::tempdir().unwrap();
        let _keyway = Keyway::run_on_socket(own, &["run", "--config", keyway.to_str().unwrap()]);
        let output = Command::new("curl")
            .args([
                "-sSf",
                "--unix-socket",
                socket.to_str().unwrap(),
                "http://a/k",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        // nginx keeps no address then.
        assert!(
            said.starts_with("    ") || said.starts_with("  "),
            "{version}: {said:?}"
        );
    }
}
