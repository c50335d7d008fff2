//! Hostile requests through keyway to four servers that parse in their own ways: each sees the
//! requests that keyway took and sent, no other and no fewer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{Keyway, Server, until};

/// Stands where a parser that is led astray would find a request.
const SMUGGLED: &str = "GET /N/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// What a client sends on one connection, `N` being the number of the case. What follows a refusal
/// is not read; what follows an accepted request is.
const HEADS: [&str; 88] = [
    // Two framings, or one said twice.
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\nContent-Length: 44\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 44\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: +44\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2c\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4 4\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551660\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length : 44\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\n Content-Length: 44\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 44\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent_Length: 44\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nSA",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nSA",
    "HEAD /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nSA",
    "OPTIONS /N/a HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nSA",
    // Transfer codings that are nearly chunked.
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\ntRANSFER-eNCODING: CHUNKED\r\n\r\n0\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nS",
    // Chunks that are nearly chunks.
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n26\r\nS\r\n0\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n26;x=\"S\"\r\nS\r\n0\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x26\r\nS\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+26\r\nS\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nS\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 26\r\nS\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000026\r\nS\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n26\nS\r\n0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n26\r\nSXX0\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\nContent-Length: 38\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX y\r\n\r\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nS",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n26\r\nS\r\n0\r\n\r\nS",
    // Lines that end, begin or continue otherwise.
    "GET /N/a HTTP/1.1\nHost: a\n\nS",
    "GET /N/a HTTP/1.1\r\nHost: a\nX: y\r\n\r\nS",
    "\r\nGET /N/a HTTP/1.1\r\nHost: a\r\n\r\nA",
    "\r\n\r\nGET /N/a HTTP/1.1\r\nHost: a\r\n\r\nS",
    " GET /N/a HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET  /N/a HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET /N/a  HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET\t/N/a HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET /N/a HTTP/1.2\r\nHost: a\r\n\r\nS",
    "GET /N/a HTTP/0.9\r\n\r\nS",
    "GET /N/a\r\n\r\nS",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nX\u{0}: y\r\n\r\nS",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nX: y\u{0}z\r\n\r\nS",
    "GET /N/a HTTP/1.1\r\nHost: a\r\n: y\r\n\r\nS",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nX\r\n\r\nS",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nX: y\r\n \r\nS",
    // Targets and authorities.
    "GET http://b/N/a HTTP/1.1\r\nHost: a\r\n\r\nA",
    "GET ftp://b/N/a HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET http://u@b/N/a HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET /N/a HTTP/1.1\r\n\r\nA",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nA",
    "GET /N/a HTTP/1.1\r\nHost: a b\r\n\r\nA",
    "GET /N/a HTTP/1.1\r\nHost: a:x\r\n\r\nA",
    "GET /N/a#S HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET N/a HTTP/1.1\r\nHost: a\r\n\r\nS",
    "GET //N/a HTTP/1.1\r\nHost: a\r\n\r\nA",
    "GET /N/../N/%2e%2e/a;b?c=d&%00 HTTP/1.1\r\nHost: a\r\n\r\nA",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\nS",
    "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nS",
    "TRACE /N/a HTTP/1.1\r\nHost: a\r\n\r\nA",
    // What belongs to the connection.
    "POST /N/a HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 38\r\n\r\nSA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding, host\r\nTransfer-Encoding: chunked\r\n\r\n26\r\nS\r\n0\r\n\r\nA",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\nA",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\nA",
    "POST /N/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\nSA",
    "GET /N/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continuey\r\n\r\nA",
    "GET /N/a HTTP/1.1\r\nHost: a\r\n\r\nA",
];

/// The bytes of a case: `S` stands for a smuggled request, `A` for one that may follow.
fn bytes(at: usize, template: &str) -> Vec<u8> {
    let (head, tail) = template.rsplit_once("\r\n\r\n").unwrap_or((template, ""));
    let after = "GET /N/after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let body = |text: &str| text.replace('A', after).replace('S', SMUGGLED);
    // Only what stands alone in a line, or at the end, is a mark.
    let mut whole = String::new();
    for (number, line) in head.split("\r\n").enumerate() {
        whole += if number > 0 { "\r\n" } else { "" };
        whole += &match line {
            "S" | "SXX0" => body(line),
            line => line.to_owned(),
        };
    }
    if template.contains("\r\n\r\n") {
        whole += "\r\n\r\n";
    }
    whole += &body(tail);
    // Of two digits, so that lengths are the same in all.
    whole.replace("/N/", &format!("/{}/", 10 + at)).into_bytes()
}

/// The requests that `server` saw, as `METHOD TARGET`, sorted, and how many it refused to read.
fn seen(server: &Server) -> (Vec<String>, usize) {
    let read = |name: &str| fs::read(server.folder.path().join(name)).unwrap_or_default();
    let text = [read("seen"), read("stdout")].concat();
    let text = String::from_utf8_lossy(&text);
    let (refused, seen): (Vec<_>, Vec<_>) = text.lines().partition(|it| it.contains("<BADREQ>"));
    let two = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    // What says nothing else is the probe of the port.
    let requests = seen.into_iter().map(two);
    let mut seen: Vec<_> = requests.filter(|it| it.contains(['/', '*'])).collect();
    seen.sort();
    (seen, refused.len())
}

fn haproxy(folder: &Path, address: SocketAddr) -> Command {
    let config = format!(
        "global\n  log stdout format raw local0\n\
         defaults\n  mode http\n  log global\n  option dontlognull\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n\
         frontend f\n  bind {address}\n  log-format \"%HM %HU\"\n  http-request return status 200\n"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    command
}

fn apache(folder: &Path, address: SocketAddr) -> Command {
    let path = folder.display();
    let modules = "/usr/lib/apache2/modules";
    let config = format!(
        "LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\n\
         ServerName a\nListen {address}\nPidFile {path}/pid\nErrorLog {path}/error.log\n\
         DefaultRuntimeDir {path}\nDocumentRoot {path}\n\
         LogFormat \"%r\" seen\nCustomLog {path}/seen seen\n"
    );
    let file = folder.join("apache.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("apache2");
    command.arg("-X").arg("-f").arg(file);
    command
}

fn node(folder: &Path, address: SocketAddr) -> Command {
    let script = format!(
        "require('http').createServer((req, res) => {{\n\
         console.log(req.method + ' ' + req.url); req.resume(); req.on('end', () => res.end('ok'));\n\
         }}).listen({}, '127.0.0.1');\n",
        address.port()
    );
    let file = folder.join("server.js");
    fs::write(&file, script).unwrap();
    let mut command = Command::new("node");
    command.arg(file);
    command
}

/// Sends the bytes and waits for the end of the connection, or for a moment when it does not come:
/// some cases say more than they send.
fn play(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    // Closed before it took all: it was refused.
    let _refused = stream.write_all(bytes);
    stream
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    let _end = stream.read_to_end(&mut Vec::new());
}

/// What keyway forwarded, as its access log tells, sorted.
fn forwarded(keyway: &Keyway) -> Vec<String> {
    let lines = keyway.events().into_iter();
    let sent = lines.filter(|it| it["attempts"].as_u64().is_some_and(|it| it > 0));
    let mut sent: Vec<_> = sent
        .map(|it| {
            format!(
                "{} {}",
                it["method"].as_str().unwrap(),
                it["target"].as_str().unwrap()
            )
        })
        .collect();
    sent.sort();
    sent
}

fn logged_attempts(keyway: &Keyway) -> usize {
    let attempts = keyway.events().into_iter();
    let attempts = attempts.filter_map(|it| it["attempts"].as_u64());
    usize::try_from(attempts.sum::<u64>()).unwrap()
}

fn run(name: &str, server: &Server) {
    let keyway = Keyway::start(
        "access_log: json\nroutes: [{ name: r, match: {}, key: path, cluster: c }]\n",
        &format!(
            "version: 1\nclusters: {{ c: {{ nodes: [{{ id: a, address: \"{}\" }}] }} }}\n",
            server.address
        ),
    );
    thread::scope(|scope| {
        for (at, template) in HEADS.iter().enumerate() {
            let (bytes, address) = (bytes(at, template), keyway.address);
            scope.spawn(move || play(address, &bytes));
        }
    });
    keyway.until_idle();
    let attempts = keyway.count("keyway_attempts_total", &[]);
    until("the log", || attempts == logged_attempts(&keyway));
    let sent = forwarded(&keyway);
    until("the server's log", || {
        let (seen, refused) = seen(server);
        seen.len() + refused >= sent.len()
    });
    let (seen, refused) = seen(server);
    assert!(sent.len() > 50, "much of it is right: {sent:?}");
    let smuggled = |it: &String| it.contains("smuggled");
    assert!(!seen.iter().any(smuggled), "{name}: {seen:?}");
    // HAProxy refuses what it does not like of its own accord, and says nothing more.
    let mut unseen = sent.clone();
    for request in &seen {
        let at = unseen.iter().position(|it| it == request);
        unseen.remove(at.unwrap_or_else(|| panic!("{name} saw {request}, keyway sent {sent:?}")));
    }
    assert_eq!(unseen.len(), refused, "{name} did not see {unseen:?}");
}

#[test]
fn nginx_sees_what_keyway_sent() {
    let http = "log_format seen '$request_method $request_uri'; access_log FOLDER/seen seen;
                server { listen LISTEN; location / { return 200 ok; } }";
    run("nginx", &Server::nginx(http));
}

#[test]
fn haproxy_sees_what_keyway_sent() {
    run("haproxy", &Server::start(haproxy));
}

#[test]
fn apache_sees_what_keyway_sent() {
    run("apache", &Server::start(apache));
}

#[test]
fn node_sees_what_keyway_sent() {
    run("node", &Server::start(node));
}
