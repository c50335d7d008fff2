//! TLS towards clients and nodes: curl and openssl in front, nginx behind.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use crate::support::{Authority, Keyway, Node, Server, topology, until};

/// keyway with a listener under TLS as `tls` says, which may name the files of `authority`.
fn with_tls(authority: &Authority, tls: &str, more: &str, node: &Node) -> Keyway {
    let tls = tls.replace("DIR", authority.folder().to_str().unwrap());
    Keyway::start(
        &format!(
            "listeners: [{{ name: app, address: \"127.0.0.1:0\", tls: {{ {tls} }} }}]\n\
             routes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n{more}\n"
        ),
        &topology(&[&[node]]),
    )
}

const ONE: &str = "certificates: [{ cert: DIR/app.crt, key: DIR/app.key }]";

fn app() -> Authority {
    let authority = Authority::new();
    authority.certify("app", &["app.test", "127.0.0.1"], 2040);
    authority
}

/// curl to `target` of keyway, which it knows as app.test.
fn curl(authority: &Authority, keyway: &Keyway, target: &str, more: &[&str]) -> Output {
    let port = keyway.address.port();
    Command::new("curl")
        .args(["-sS", "--cacert"])
        .arg(authority.path("ca.crt"))
        .args(["--connect-to", &format!("app.test:443:127.0.0.1:{port}")])
        .args(more)
        .arg(format!("https://app.test{target}"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What openssl says of a connection to keyway, which it ends at once.
fn s_client(keyway: &Keyway, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &keyway.address.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn handshakes(keyway: &Keyway, side: &str, session: &str) -> usize {
    let labels = [format!("side=\"{side}\""), format!("session=\"{session}\"")];
    let labels = [labels[0].as_str(), labels[1].as_str()];
    keyway.count("keyway_tls_handshakes_total", &labels)
}

fn failed(keyway: &Keyway, side: &str) -> usize {
    let side = format!("side=\"{side}\"");
    keyway.count(
        "keyway_connections_total",
        &[&side, "outcome=\"handshake\""],
    )
}

#[test]
fn curl_chooses_http2_or_http1() {
    let node = Node::start("a");
    let authority = app();
    let keyway = with_tls(&authority, ONE, "", &node);
    let body = authority.path("body");
    fs::write(&body, "x".repeat(3 << 20)).unwrap();
    for (version, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let said = ["-w", "%{http_version} %{http_code}", "-o", "/dev/null"];
        let get = curl(&authority, &keyway, "/k", &[&[version][..], &said].concat());
        assert_eq!(text(&get), format!("{spoken} 200"));
        let data = format!("@{}", body.display());
        let put = ["-X", "PUT", "--data-binary", &data];
        let put = curl(
            &authority,
            &keyway,
            "/k",
            &[&[version][..], &put, &said].concat(),
        );
        assert_eq!(text(&put), format!("{spoken} 200"));
        let last = node.requests().pop().unwrap();
        assert_eq!(last.body.len(), 3 << 20);
    }
    assert_eq!(handshakes(&keyway, "downstream", "full"), 4);
    assert_eq!(failed(&keyway, "downstream"), 0);
}

#[test]
fn the_certificate_is_the_one_for_the_name() {
    let authority = app();
    authority.certify("exact", &["a.wild.test"], 2040);
    authority.certify("wild", &["*.wild.test"], 2040);
    let pair = |name: &str| format!("{{ cert: DIR/{name}.crt, key: DIR/{name}.key }}");
    let all = [pair("app"), pair("wild"), pair("exact")].join(", ");
    let node = Node::start("a");
    let keyway = with_tls(&authority, &format!("certificates: [{all}]"), "", &node);
    for (name, subject) in [
        ("app.test", "app"),
        ("a.wild.test", "exact"),
        ("B.wild.test", "wild"),
        ("a.b.wild.test", "app"),
        ("wild.test", "app"),
        ("elsewhere.test", "app"),
    ] {
        let said = s_client(&keyway, &["-servername", name]);
        assert!(
            said.contains(&format!("subject=CN = {subject}\n")),
            "{name}: {said}"
        );
    }
    let said = s_client(&keyway, &["-noservername"]);
    assert!(said.contains("subject=CN = app\n"), "{said}");
}

#[test]
fn clients_may_have_to_say_who_they_are() {
    let authority = app();
    let stranger = Authority::new();
    stranger.certify("client", &["client"], 2040);
    authority.certify("client", &["client"], 2040);
    let node = Node::start("a");
    let shown = |by: &Authority| {
        let path = |name: &str| by.path(name).display().to_string();
        [
            "--cert".into(),
            path("client.crt"),
            "--key".into(),
            path("client.key"),
        ]
    };
    for (auth, without) in [("required", false), ("optional", true)] {
        let tls = format!("{ONE}, client_ca: DIR/ca.crt, client_auth: {auth}");
        let keyway = with_tls(&authority, &tls, "", &node);
        let ok = |more: &[&str]| curl(&authority, &keyway, "/k", more).status.success();
        assert_eq!(ok(&[]), without, "{auth} without");
        let known = shown(&authority);
        assert!(ok(&known.each_ref().map(String::as_str)), "{auth} known");
        let unknown = shown(&stranger);
        assert!(
            !ok(&unknown.each_ref().map(String::as_str)),
            "{auth} unknown"
        );
        until("failures are counted", || {
            failed(&keyway, "downstream") == if without { 1 } else { 2 }
        });
    }
}

#[test]
fn old_versions_may_be_refused() {
    let authority = app();
    let node = Node::start("a");
    for (min, old_is_taken) in [("\"1.2\"", true), ("\"1.3\"", false)] {
        let tls = format!("{ONE}, min_version: {min}");
        let keyway = with_tls(&authority, &tls, "", &node);
        let took = |version| curl(&authority, &keyway, "/k", &["--tls-max", version]);
        assert_eq!(took("1.2").status.success(), old_is_taken, "{min}");
        assert!(took("1.3").status.success(), "{min}");
        let old = s_client(&keyway, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(old.contains("Cipher is (NONE)"), "{old}");
    }
}

#[test]
fn sessions_are_resumed() {
    let authority = app();
    let node = Node::start("a");
    let keyway = with_tls(&authority, ONE, "", &node);
    let session = authority.path("session").display().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let resumed = handshakes(&keyway, "downstream", "resumed");
        // The ticket of TLS 1.3 comes after the handshake.
        let request = "GET /k HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
        let with = |flag: &str| {
            let mut talk = Talk::begin(&keyway, &[version, flag, &session]);
            talk.say(request);
            talk.until_end()
        };
        with("-sess_out");
        with("-sess_in");
        assert_eq!(
            handshakes(&keyway, "downstream", "resumed"),
            resumed + 1,
            "{version}"
        );
    }
}

/// An openssl that passes on what it is told.
struct Talk {
    process: Child,
    said: ChildStdin,
    heard: ChildStdout,
}

impl Talk {
    fn begin(keyway: &Keyway, arguments: &[&str]) -> Self {
        let mut process = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-connect",
                &keyway.address.to_string(),
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            said: process.stdin.take().unwrap(),
            heard: process.stdout.take().unwrap(),
            process,
        }
    }

    fn say(&mut self, text: &str) {
        self.said.write_all(text.as_bytes()).unwrap();
        self.said.flush().unwrap();
    }

    fn until(&mut self, end: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(end) {
            let mut byte = [0];
            self.heard.read_exact(&mut byte).unwrap();
            heard.push(byte[0].into());
        }
        heard
    }

    fn until_end(mut self) -> String {
        let mut heard = String::new();
        self.heard.read_to_string(&mut heard).unwrap();
        self.process.wait().unwrap();
        heard
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// A certificate that changes is shown to who comes next, and who is there stays; one that is none
/// changes nothing.
#[test]
fn certificates_are_followed() {
    let authority = app();
    let node = Node::start("a");
    let keyway = with_tls(&authority, ONE, "", &node);
    let expiry = || {
        let labels = ["side=\"downstream\"", "listener=\"app\""];
        keyway.metric("keyway_tls_certificate_expiry_timestamp_seconds", &labels)
    };
    let in_2040 = expiry();
    assert!((2.24e9..2.25e9).contains(&in_2040), "{in_2040}");
    let mut talk = Talk::begin(&keyway, &[]);
    let mut ask = || {
        talk.say("HEAD /k HTTP/1.1\r\nHost: app.test\r\n\r\n");
        talk.until("\r\n\r\n")
    };
    assert!(ask().starts_with("HTTP/1.1 200"));

    authority.certify("app", &["app.test"], 2039);
    until("the new certificate is taken up", || expiry() < in_2040);
    let said = s_client(&keyway, &[]);
    assert!(said.contains("NotAfter: Dec 31 00:00:00 2039"), "{said}");
    assert!(ask().starts_with("HTTP/1.1 200"));
    let taken = handshakes(&keyway, "downstream", "full");

    let rejected = || keyway.count("keyway_config_reloads_total", &["outcome=\"rejected\""]);
    for (at, wrong) in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(authority.path("app.crt"), wrong).unwrap();
        until("the wrong one is refused", || rejected() == at + 1);
    }
    let errors: Vec<_> = keyway
        .log()
        .into_iter()
        .filter(|it| it.contains("certificates and keys that can be used"))
        .collect();
    assert!(
        errors[0].contains("app.crt: no certificates as PEM"),
        "{errors:?}"
    );
    let said = s_client(&keyway, &[]);
    assert!(said.contains("NotAfter: Dec 31 00:00:00 2039"), "{said}");
    assert!(ask().starts_with("HTTP/1.1 200"));
    assert_eq!(handshakes(&keyway, "downstream", "full"), taken + 1);

    // Back to what it was: nothing has changed.
    authority.certify("app", &["app.test"], 2041);
    until("a good one is taken up again", || expiry() > in_2040);
}

/// What is no TLS, or never comes to it, ends in time and is counted; others are served meanwhile.
#[test]
fn what_is_no_handshake_ends() {
    let authority = app();
    let node = Node::start("a");
    let keyway = with_tls(&authority, ONE, "limits: { head_wait: 300ms }", &node);
    let mut plain = keyway.client();
    plain.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut silent = keyway.client();
    let mut half = keyway.client();
    half.send([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    text(&curl(&authority, &keyway, "/k", &["-f"]));
    assert!(silent.is_closed());
    assert!(half.is_closed());
    // Who is closed may see it before it is counted.
    until("all three are counted", || {
        failed(&keyway, "downstream") == 3
    });
    let waited = ["limit=\"head_wait\""];
    until("two of them waited", || {
        keyway.count("keyway_limits_reached_total", &waited) == 2
    });
    keyway.until_idle();
    assert_eq!(node.requests().len(), 1);
}

/// The end of a body that the end of the connection tells is told by TLS as well (RFC 8446 6.1):
/// Python's TLS knows the difference.
#[test]
fn ends_are_told() {
    let authority = app();
    let node = Node::start("a");
    let keyway = with_tls(&authority, ONE, "", &node);
    let script = format!(
        "import socket, ssl, sys\n\
         context = ssl.create_default_context(cafile='{}')\n\
         raw = socket.create_connection(('127.0.0.1', {}))\n\
         tls = context.wrap_socket(raw, server_hostname='app.test', suppress_ragged_eofs=False)\n\
         tls.sendall(b'GET /k HTTP/1.0\\r\\n\\r\\n')\n\
         read = b''\n\
         while part := tls.recv(65536): read += part\n\
         assert read.startswith(b'HTTP/1.1 200'), read\n",
        authority.path("ca.crt").display(),
        keyway.address.port()
    );
    let output = Command::new("python3").args(["-c", &script]).output();
    text(&output.unwrap());
}

/// nginx under TLS that says what it sees; `more` is its server's.
fn nginx(authority: &Authority, listen: &str, more: &str) -> Server {
    let path = authority.folder().display();
    Server::nginx(&format!(
        "server {{ listen LISTEN {listen}; ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_certificate {path}/node.crt;\n\
         ssl_certificate_key {path}/node.key; {more} client_max_body_size 0;\n\
         location / {{ return 200 \"$server_protocol $ssl_protocol $ssl_session_reused \
         $ssl_client_s_dn $http_host $scheme\\n\"; }} }}"
    ))
}

fn nodes() -> Authority {
    let authority = Authority::new();
    authority.certify("node", &["users.internal", "127.0.0.1"], 2040);
    authority.certify("keyway", &["keyway"], 2040);
    authority
}

/// keyway before `servers`, a shard of as many nodes, with these settings of the cluster.
fn before(authority: &Authority, cluster: &str, servers: &[&Server]) -> Keyway {
    let cluster = cluster.replace("DIR", authority.folder().to_str().unwrap());
    let nodes: Vec<_> = (0..)
        .zip(servers)
        .map(|(at, it)| format!("{{ id: n{at}, address: \"{}\" }}", it.address))
        .collect();
    Keyway::start(
        &format!(
            "routes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n\
             clusters: {{ c: {{ prefer: order, {cluster} }} }}\n"
        ),
        &format!(
            "version: 1\nclusters: {{ c: {{ shards: [{{ name: s, nodes: [{}] }}] }} }}\n",
            nodes.join(", ")
        ),
    )
}

#[test]
fn nodes_are_spoken_to_by_what_they_choose() {
    let authority = nodes();
    for (listen, protocol, spoken) in [
        ("ssl http2", "auto", "HTTP/2.0"),
        ("ssl http2", "http1", "HTTP/1.1"),
        ("ssl http2", "h2", "HTTP/2.0"),
        ("ssl", "auto", "HTTP/1.1"),
    ] {
        let server = nginx(&authority, listen, "");
        let cluster = format!("protocol: {protocol}, tls: {{ ca: DIR/ca.crt }}");
        let keyway = before(&authority, &cluster, &[&server]);
        // One client, and so one thread.
        let mut client = keyway.client();
        for _ in 0..3 {
            let said = client.get("/k").text();
            let expected = format!("{spoken} TLSv1.3 .  app.test https\n");
            assert_eq!(said, expected, "{listen} {protocol}");
        }
        assert_eq!(
            handshakes(&keyway, "upstream", "full"),
            1,
            "{listen} {protocol}"
        );
    }
}

#[test]
fn many_at_once_share_what_the_node_chose() {
    let authority = nodes();
    for (listen, most) in [("ssl http2", 4), ("ssl", 32)] {
        let server = nginx(&authority, listen, "");
        let keyway = before(&authority, "tls: { ca: DIR/ca.crt }", &[&server]);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut client = keyway.client();
                    for _ in 0..10 {
                        assert_eq!(client.get("/k").status, 200);
                    }
                });
            }
        });
        let made =
            handshakes(&keyway, "upstream", "full") + handshakes(&keyway, "upstream", "resumed");
        assert!((1..=most).contains(&made), "{listen}: {made}");
    }
}

#[test]
fn a_node_that_cannot_be_believed_gets_nothing() {
    let (authority, stranger) = (nodes(), Authority::new());
    let server = nginx(&authority, "ssl", "");
    let ca = |of: &Authority| of.path("ca.crt").display().to_string();
    for (tls, believed) in [
        (format!("ca: {}", ca(&stranger)), false),
        (
            format!("ca: {}, name: other.internal", ca(&authority)),
            false,
        ),
        (
            format!("ca: {}, name: users.internal", ca(&authority)),
            true,
        ),
    ] {
        let keyway = before(&authority, &format!("tls: {{ {tls} }}"), &[&server]);
        let reply = keyway.get("/k");
        if believed {
            assert_eq!(reply.status, 200, "{tls}");
        } else {
            assert_eq!(
                (reply.status, reply.error()),
                (503, "no_healthy_node"),
                "{tls}"
            );
            assert!(failed(&keyway, "upstream") > 0, "{tls}");
            let standing = ["node=\"n0\"", "standing=\"suspect\""];
            assert_eq!(keyway.metric("keyway_node_standing", &standing), 1.0);
        }
    }
}

#[test]
fn a_node_may_ask_who_keyway_is() {
    let authority = nodes();
    let path = authority.folder().display();
    let ask = format!("ssl_verify_client on; ssl_client_certificate {path}/ca.crt;");
    let server = nginx(&authority, "ssl", &ask);
    let cluster = "tls: { ca: DIR/ca.crt, cert: DIR/keyway.crt, key: DIR/keyway.key }";
    let keyway = before(&authority, cluster, &[&server]);
    let said = keyway.get("/k").text();
    assert!(said.contains(" CN=keyway "), "{said}");
    let labels = ["side=\"upstream\"", "cluster=\"c\""];
    let expiry = keyway.metric("keyway_tls_certificate_expiry_timestamp_seconds", &labels);
    assert!((2.24e9..2.25e9).contains(&expiry), "{expiry}");
    let silent = before(&authority, "tls: { ca: DIR/ca.crt }", &[&server]);
    assert_eq!(silent.get("/k").status, 400);
}

#[test]
fn the_next_node_serves_when_one_under_tls_dies() {
    let authority = nodes();
    let (first, second) = (nginx(&authority, "ssl", ""), nginx(&authority, "ssl", ""));
    let keyway = before(&authority, "tls: { ca: DIR/ca.crt }", &[&first, &second]);
    let mut client = keyway.client();
    assert_eq!(client.get("/k").status, 200);
    drop(first);
    for _ in 0..20 {
        assert_eq!(client.get("/k").status, 200);
    }
    assert!(keyway.metric("keyway_failovers_total", &[]) > 0.0);
}

/// Under TLS on both sides: bodies of all sizes arrive whole, both ways, by both protocols.
#[test]
fn bodies_pass_under_tls_on_both_sides() {
    let authority = nodes();
    authority.certify("app", &["app.test"], 2040);
    let store = "root FOLDER/store; dav_methods PUT; create_full_put_path on;";
    let path = authority.folder().display();
    let server = Server::nginx(&format!(
        "server {{ listen LISTEN ssl; ssl_certificate {path}/node.crt;\n\
         ssl_certificate_key {path}/node.key; client_max_body_size 0; {store} }}"
    ));
    let keyway = Keyway::start(
        &format!(
            "listeners:\n  - name: app\n    address: \"127.0.0.1:0\"\n    tls: {{ certificates: [{{ cert: {path}/app.crt, key: {path}/app.key }}] }}\n\
             routes: [{{ name: r, match: {{}}, key: path, cluster: c }}]\n\
             clusters: {{ c: {{ tls: {{ ca: {path}/ca.crt }} }} }}\n"
        ),
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{}\" }}] }} }}\n",
            server.address
        ),
    );
    for size in [0, 1, 16 << 10, (1 << 20) + 7, 20 << 20] {
        let body: Vec<u8> = (0..size)
            .map(|at: usize| (at % 251).to_le_bytes()[0])
            .collect();
        let file = authority.path("body");
        fs::write(&file, &body).unwrap();
        for version in ["--http1.1", "--http2"] {
            let target = format!("/{size}{version}");
            let upload = file.display().to_string();
            text(&curl(
                &authority,
                &keyway,
                &target,
                &[version, "-f", "-T", &upload],
            ));
            let got = curl(&authority, &keyway, &target, &[version, "-f"]);
            assert!(got.status.success() && got.stdout == body, "{target}");
        }
    }
}
