//! The way down: unready first, nothing in flight is lost, and an end within the deadline.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::{Keyway, Node, Then, topology, until};

/// A keyway whose node answers when the test lets it.
fn held(settings: &str) -> (Keyway, Node, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel();
    let held = std::sync::Mutex::new(held);
    let node = Node::scripted("a", move |_| {
        let _released = held.lock().unwrap().recv();
        Then::Answer
    });
    let keyway = Keyway::start(
        &format!("{settings}\nroutes:\n  - {{ name: r, match: {{}}, key: path, cluster: c }}\n"),
        &topology(&[&[&node]]),
    );
    (keyway, node, release)
}

fn in_flight(keyway: &Keyway) -> f64 {
    keyway.metric("keyway_requests_in_flight", &["route=\"r\""])
}

#[test]
fn what_is_in_flight_finishes_and_the_connection_is_closed() {
    let (mut keyway, _node, release) = held("pre_drain: 0s\ndrain_timeout: 8s");
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request in flight", || in_flight(&keyway) == 1.0);
    keyway.signal("-TERM");
    until("refused connections", || {
        std::net::TcpStream::connect(keyway.address).is_err()
    });
    assert_eq!(keyway.admin("GET", "/readyz", "").status, 503);
    assert_eq!(keyway.admin("GET", "/livez", "").status, 200);
    release.send(()).unwrap();
    let reply = client.reply();
    assert_eq!(
        (reply.status, reply.field("connection")),
        (200, Some("close"))
    );
    assert!(client.is_closed());
    assert!(keyway.wait().success());
}

#[test]
fn pre_drain_is_unready_and_still_accepts() {
    let (mut keyway, _node, release) = held("pre_drain: 60s\ndrain_timeout: 8s");
    let mut held_open = keyway.client();
    release.send(()).unwrap();
    assert_eq!(held_open.get("/k").status, 200);
    keyway.signal("-TERM");
    until("unready", || {
        keyway.admin("GET", "/readyz", "").status == 503
    });
    release.send(()).unwrap();
    assert_eq!(keyway.get("/k").status, 200);
    release.send(()).unwrap();
    assert_eq!(held_open.get("/k").status, 200);
    // It ends early when no connection is left.
    drop(held_open);
    assert!(keyway.wait().success());
}

/// An empty line before a request (RFC 9112 2.2) is none.
#[test]
fn an_empty_line_keeps_nobody_waiting() {
    let (mut keyway, _node, release) = held("pre_drain: 0s\ndrain_timeout: 60s");
    let mut client = keyway.client();
    release.send(()).unwrap();
    assert_eq!(client.get("/k").status, 200);
    client.send("\r\n");
    let asked = Instant::now();
    keyway.signal("-TERM");
    assert!(client.is_closed());
    assert!(keyway.wait().success());
    assert!(asked.elapsed() < Duration::from_secs(30));
}

/// How long a drain of `drain_timeout: 500ms` may take to the end of the process.
const AT_MOST: Duration = Duration::from_secs(1);

/// Asks `keyway` to go, and sees it go in time although `clients` of it are still there, with so many
/// requests under way.
fn goes_in_time(mut keyway: Keyway, clients: usize, requests: usize) {
    until("the clients", || {
        keyway.count("keyway_connections", &["side=\"downstream\""]) == clients
    });
    let asking = Instant::now();
    keyway.signal("-TERM");
    let asked = Instant::now();
    assert!(keyway.wait().success());
    let took = asked.elapsed();
    assert!(took < AT_MOST, "{took:?}");
    // Nobody was let go of early.
    assert!(asking.elapsed() >= Duration::from_millis(500));
    let cut = "drained: what was left is cut";
    let cut = keyway.events().into_iter().find(|it| it["message"] == cut);
    let cut = cut.expect("what is cut is logged");
    assert_eq!(
        (cut["connections"].as_u64(), cut["requests"].as_u64()),
        (Some(clients as u64), Some(requests as u64))
    );
}

const BRIEF: &str = "pre_drain: 0s\ndrain_timeout: 500ms";

#[test]
fn a_request_without_an_end_is_cut() {
    let (keyway, _node, _release) = held(BRIEF);
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request in flight", || in_flight(&keyway) == 1.0);
    goes_in_time(keyway, 1, 1);
    assert!(client.is_closed());
}

#[test]
fn half_a_head_is_cut() {
    let (keyway, _node, _release) = held(BRIEF);
    let mut client = keyway.client();
    client.send("GET /k HT");
    goes_in_time(keyway, 1, 0);
    assert!(client.is_closed());
}

#[test]
fn half_a_body_is_cut() {
    let (keyway, _node, _release) = held(BRIEF);
    let mut client = keyway.client();
    client.send("PUT /k HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    until("the request in flight", || in_flight(&keyway) == 1.0);
    goes_in_time(keyway, 1, 1);
    assert!(client.is_closed());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of HTTP/2 (RFC 9113 4.1) on stream 0.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 0]);
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn a_preface_without_settings_is_cut() {
    let (keyway, _node, _release) = held(BRIEF);
    let mut client = keyway.client();
    client.send(PREFACE);
    goes_in_time(keyway, 1, 0);
}

/// A client by HTTP/2 that reads what it is sent, and answers no PING.
#[test]
fn who_answers_no_ping_is_told_to_go_and_cut() {
    let (keyway, _node, _release) = held(BRIEF);
    let mut client = keyway.client();
    client.send(PREFACE).send(frame(4, 0, &[]));
    let mut reader = client.stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut read = Vec::new();
        // Its end is a reset where what was sent was not read.
        let _end = std::io::Read::read_to_end(&mut reader, &mut read).is_err();
        read
    });
    goes_in_time(keyway, 1, 0);
    let mut read = reading.join().unwrap();
    let mut kinds = Vec::new();
    while read.len() >= 9 {
        let length = usize::from(read[0]) << 16 | usize::from(read[1]) << 8 | usize::from(read[2]);
        kinds.push(read[3]);
        read.drain(..(9 + length).min(read.len()));
    }
    // GOAWAY, and the PING after whose answer the last one would follow.
    assert!(kinds.contains(&7) && kinds.contains(&6), "{kinds:?}");
}

/// A tunnel is waited for like a request.
#[test]
fn a_tunnel_is_awaited_and_then_cut() {
    let (keyway, node, _release) = held(BRIEF);
    node.script(|_| {
        Then::Send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
                .to_vec(),
        )
    });
    let mut client = keyway.client();
    client.send("GET /k HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.reply().status, 101);
    goes_in_time(keyway, 1, 1);
    assert!(client.is_closed());
}

#[test]
fn it_ends_by_itself_when_nobody_is_connected_any_more() {
    let node = Node::start("a");
    let mut keyway = Keyway::start(
        "exit_when_idle: 300ms\nroutes:\n  - { name: r, match: {}, key: path, cluster: c }\n",
        &topology(&[&[&node]]),
    );
    // Not before somebody was.
    let early = Instant::now();
    while early.elapsed() < Duration::from_millis(800) {
        assert_eq!(keyway.admin("GET", "/readyz", "").status, 200);
    }
    let mut client = keyway.client();
    assert_eq!(client.get("/k").status, 200);
    // Nor while somebody is.
    let connected = Instant::now();
    while connected.elapsed() < Duration::from_millis(800) {
        assert_eq!(keyway.admin("GET", "/readyz", "").status, 200);
    }
    drop(client);
    let left = Instant::now();
    assert!(keyway.wait().success());
    assert!(left.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_second_signal_ends_it_now() {
    let (mut keyway, _node, _release) = held("pre_drain: 60s\ndrain_timeout: 60s");
    let _held_open = keyway.client();
    keyway.signal("-TERM");
    until("unready", || {
        keyway.admin("GET", "/readyz", "").status == 503
    });
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
}

#[test]
fn an_operator_can_ask_for_the_end() {
    let (mut keyway, _node, _release) = held("pre_drain: 0s\ndrain_timeout: 5s");
    assert_eq!(keyway.admin("POST", "/v1/shutdown", "").status, 202);
    assert!(keyway.wait().success());
}

/// How a client's request ended.
enum Ended {
    Answered,
    /// It was not taken: the client may send it again, whatever it is.
    Refused,
    /// Nobody knows what became of it.
    Lost,
}

/// Sends one request on a connection of its own, by HTTP's rules: a connection that was never made is no
/// loss, and everything else is.
fn post(address: std::net::SocketAddr) -> Ended {
    let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5)) else {
        return Ended::Refused;
    };
    let mut stream = stream;
    let request = b"POST /k HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let mut read = [0; 15];
    let mut answer = || {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        std::io::Write::write_all(&mut stream, request)?;
        std::io::Read::read_exact(&mut stream, &mut read)
    };
    match answer() {
        Ok(()) if read == *b"HTTP/1.1 200 OK" => Ended::Answered,
        _ => Ended::Lost,
    }
}

/// `KEYWAY_DRAINS=100` for more rounds.
#[test]
fn no_request_is_lost_by_a_drain_under_load() {
    let rounds = std::env::var("KEYWAY_DRAINS").map_or(20, |it| it.parse().unwrap());
    let node = Node::start("a");
    let (mut answered, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut keyway = Keyway::start(
            "routes:\n  - { name: r, match: {}, key: path, cluster: c }\n",
            &topology(&[&[&node]]),
        );
        let address = keyway.address;
        let clients: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut answered = 0;
                    loop {
                        match post(address) {
                            Ended::Answered => answered += 1,
                            Ended::Refused => return (answered, false),
                            Ended::Lost => return (answered, true),
                        }
                    }
                })
            })
            .collect();
        until("some load", || {
            keyway.count("keyway_requests_total", &["route=\"r\""]) > 20 + round
        });
        keyway.signal("-TERM");
        assert!(keyway.wait().success());
        for client in clients {
            let (answers, lost) = client.join().unwrap();
            assert!(!lost, "round {round}: after {answers} answers");
            answered += answers;
            refused += 1;
        }
    }
    eprintln!("{rounds} drains: {answered} requests answered, {refused} refused, none lost");
}
