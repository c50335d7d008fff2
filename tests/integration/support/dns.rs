//! A name server that answers as a test tells it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// What fits into a datagram: more is truncated, and asked for again over TCP.
const DATAGRAM: usize = 1232;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
}

/// A record of the name that is asked for.
#[derive(Clone, Debug)]
pub enum Record {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    /// Priority, weight, port and target.
    Srv(u16, u16, u16, String),
}

/// What the server says to a question.
#[derive(Clone, Debug)]
pub enum Says {
    /// These records of the kind that is asked for, with a time to live in seconds.
    Records(u32, Vec<Record>),
    NoSuchName,
    ServFail,
    Silence,
}

type Script = dyn Fn(&str, Kind) -> Says + Send + Sync;

/// A server on a port of loopback, over UDP and TCP.
pub struct NameServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    questions: Mutex<Vec<(String, Kind)>>,
}

impl NameServer {
    pub fn start(script: impl Fn(&str, Kind) -> Says + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            questions: Mutex::default(),
        });
        let answering = Arc::clone(&shared);
        thread::spawn(move || datagrams(&udp, &answering));
        let answering = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let shared = Arc::clone(&answering);
                thread::spawn(move || streamed(stream.unwrap(), &shared));
            }
        });
        Self { address, shared }
    }

    /// Behaves differently from now on.
    pub fn script(&self, script: impl Fn(&str, Kind) -> Says + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// How often `kind` was asked for of `name`.
    pub fn asked(&self, name: &str, kind: Kind) -> usize {
        let questions = self.shared.questions.lock().unwrap();
        let wanted = questions.iter().filter(|it| it.0 == name && it.1 == kind);
        wanted.count()
    }
}

impl Says {
    /// A records with a time to live of a second.
    pub fn addresses(addresses: &[&str]) -> Self {
        let record = |it: &&str| Record::A(it.parse().unwrap());
        Self::Records(1, addresses.iter().map(record).collect())
    }
}

/// Both on the same port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn datagrams(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        let question = &buffer[..length];
        let Some(mut answer) = answer(question, shared) else {
            continue;
        };
        if answer.len() > DATAGRAM {
            // The question alone, and the flag of truncation.
            let end = question_end(question);
            answer.truncate(end);
            answer[2] |= 0x02;
            answer[6..8].fill(0);
        }
        let _gone = socket.send_to(&answer, peer);
    }
}

fn streamed(mut stream: TcpStream, shared: &Shared) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        if let Some(answer) = answer(&question, shared) {
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _gone = stream.write_all(&[&length[..], &answer].concat());
        }
    }
}

/// Where the name, type and class that are asked for end.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += usize::from(message[at]) + 1;
    }
    at + 5
}

fn answer(message: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let end = question_end(message);
    let kind = match u16::from_be_bytes([message[end - 4], message[end - 3]]) {
        1 => Kind::A,
        28 => Kind::Aaaa,
        33 => Kind::Srv,
        kind => panic!("a question for records of type {kind}"),
    };
    let name = name(&message[12..end - 5]);
    shared.questions.lock().unwrap().push((name.clone(), kind));
    let script = Arc::clone(&shared.script.lock().unwrap());
    let (code, ttl, records) = match script(&name, kind) {
        Says::Records(ttl, records) => (0, ttl, records),
        Says::ServFail => (2, 0, Vec::new()),
        Says::NoSuchName => (3, 0, Vec::new()),
        Says::Silence => return None,
    };
    let records: Vec<_> = records.iter().filter(|it| it.kind() == kind).collect();
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    // A response, recursion desired and available; one question, these answers, nothing else.
    let mut answer = [&message[..2], &[0x81, 0x80 | code, 0, 1], &count, &[0; 4]].concat();
    answer.extend(&message[12..end]);
    for record in records {
        let data = record.data();
        // The name is that of the question, at byte 12.
        answer.extend([0xc0, 12]);
        answer.extend(&message[end - 4..end]);
        answer.extend(ttl.to_be_bytes());
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// A name in lower case, without its last dot.
fn name(mut labels: &[u8]) -> String {
    let mut name = Vec::new();
    while let Some((length, rest)) = labels.split_first() {
        let (label, rest) = rest.split_at(usize::from(*length));
        name.push(String::from_utf8(label.to_ascii_lowercase()).unwrap());
        labels = rest;
    }
    name.join(".")
}

impl Record {
    fn kind(&self) -> Kind {
        match self {
            Self::A(_) => Kind::A,
            Self::Aaaa(_) => Kind::Aaaa,
            Self::Srv(..) => Kind::Srv,
        }
    }

    fn data(&self) -> Vec<u8> {
        match self {
            Self::A(address) => address.octets().to_vec(),
            Self::Aaaa(address) => address.octets().to_vec(),
            Self::Srv(priority, weight, port, target) => {
                let numbers = [priority, weight, port].map(|it| it.to_be_bytes());
                let mut data = numbers.concat();
                for label in target.split('.') {
                    data.push(u8::try_from(label.len()).unwrap());
                    data.extend(label.bytes());
                }
                data.push(0);
                data
            }
        }
    }
}
