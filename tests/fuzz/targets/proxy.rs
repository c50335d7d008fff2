//! The whole proxy between a client that says anything and a node that reads with other eyes: what the
//! node saw is, request by request, what keyway counted, whatever came.
//!
//! The node's parser is written from RFC 9112 and knows nothing of keyway's. It takes one spelling of
//! everything, that which keyway promises to send, so that two readings of a message show as a message
//! that it does not take, or as one too many or too few.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use keyway::app::App;
use keyway::cluster::SharedState;
use keyway::cluster::counters::Class;
use keyway::config::{Loader, Overrides};
use keyway::net::Inherited;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

/// Follows the input, so that most inputs end the connection by themselves.
const END: &[u8] = b"\r\n\r\nGET /end HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n";

/// How long nothing may come before the client ends its half.
const PAUSE: Duration = Duration::from_millis(20);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

static PROXY: LazyLock<Proxy> = LazyLock::new(Proxy::start);

/// How the node answers.
static ANSWER: AtomicU8 = AtomicU8::new(0);

/// Whole requests that the node saw.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Bytes that the node has of requests that are not whole, on connections that are open.
static LEFT: AtomicUsize = AtomicUsize::new(0);

struct Proxy {
    socket: PathBuf,
    shared: Arc<SharedState>,
    /// To the end of the process.
    _running: (Runtime, App),
}

impl Proxy {
    fn start() -> Self {
        let program = std::env::current_exe().expect("a program has a path");
        let folder = program.with_file_name(format!("proxy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let (socket, node) = (folder.join("app"), folder.join("node"));
        let keyway = format!(
            "listeners: [{{ name: app, address: \"unix:{}\" }}]\nadmin: {{ address: \"unix:{}\" }}\nthreads: 1\n\
             routes:\n\
             \x20 - {{ name: body, match: {{ path: \"/body/**\" }}, key: \"body:/k\", cluster: c }}\n\
             \x20 - {{ name: tidy, match: {{ path: \"/t/**\" }}, key: path, cluster: tidy }}\n\
             \x20 - {{ name: all, match: {{}}, key: [\"header:x-key\", target], cluster: c }}\n\
             clusters:\n  c: {{ protocol: http1, annotate: {{ request: [node] }} }}\n  tidy: {{ protocol: http1, path: normalize, annotate: {{ request: [node] }} }}\n",
            socket.display(),
            folder.join("admin").display(),
        );
        let cluster = |name| {
            format!(
                "  {name}: {{ nodes: [{{ id: {name}, address: \"unix:{}\" }}] }}\n",
                node.display()
            )
        };
        let topology = format!("version: 1\nclusters:\n{}{}", cluster("c"), cluster("tidy"));
        let file = folder.join("keyway.yaml");
        std::fs::write(&file, keyway).expect("the file can be written");
        std::fs::write(folder.join("topology.yaml"), topology).expect("so can this");
        let listener = UnixListener::bind(node).expect("the node can listen");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection can be taken");
                thread::spawn(move || serve(stream));
            }
        });
        let (_, config, _) = Loader::open(file, Overrides::default()).expect("the files are right");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let app = runtime.block_on(async { App::start(config, &mut Inherited::default()) });
        let app = app.expect("keyway can start");
        app.serve();
        let shared = Arc::clone(&app.shared);
        Self {
            socket,
            shared,
            _running: (runtime, app),
        }
    }

    /// Attempts that ended, of the classes that `counts` takes.
    fn attempts(&self, counts: impl Fn(Class) -> bool) -> u64 {
        let state = self.shared.load();
        let nodes = state.replicas().map(|it| &it.2.node);
        nodes
            .flat_map(|node| Class::ALL.map(|class| (node, class)))
            .filter(|it| counts(it.1))
            .map(|(node, class)| node.counters.sum(|it| it.attempts[class as usize].value()))
            .sum()
    }

    fn is_idle(&self) -> bool {
        self.shared
            .load()
            .replicas()
            .all(|it| it.2.node.in_flight() == 0)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([answer, cut], bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let proxy = &*PROXY;
    ANSWER.store(*answer, SeqCst);
    let before = (
        SEEN.load(SeqCst),
        proxy.attempts(|_| true),
        proxy.attempts(is_answered),
    );
    let mut client = UnixStream::connect(&proxy.socket).expect("keyway takes connections");
    let input = [bytes, END].concat();
    let cut = usize::from(*cut).pow(2).max(1);
    for piece in input.chunks(cut) {
        // Whom keyway refuses it does not read to the end.
        if client.write_all(piece).is_err() {
            break;
        }
    }
    read_to_end(&mut client);
    drop(client);
    let begun = Instant::now();
    while !proxy.is_idle() {
        assert!(begun.elapsed() < PATIENCE, "a request does not end");
        thread::yield_now();
    }
    // Nothing is under way: what is left of a request goes with its connection.
    let begun = Instant::now();
    while LEFT.load(SeqCst) > 0 {
        assert!(
            begun.elapsed() < PATIENCE / 5,
            "the node is left with a part of a request"
        );
        thread::yield_now();
    }
    let seen = SEEN.load(SeqCst) - before.0;
    let attempts = proxy.attempts(|_| true) - before.1;
    let answered = proxy.attempts(is_answered) - before.2;
    assert!(
        seen <= attempts,
        "the node saw {seen} requests, keyway made {attempts} attempts"
    );
    assert!(
        answered <= seen,
        "keyway counted {answered} answers, the node saw {seen} requests"
    );
});

fn is_answered(class: Class) -> bool {
    class == Class::Success
}

fn read_to_end(client: &mut UnixStream) {
    let mut buffer = [0; 16 << 10];
    let begun = Instant::now();
    client
        .set_read_timeout(Some(PAUSE))
        .expect("a timeout can be set");
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // It waits for more, of a body perhaps.
                let _gone = client.shutdown(std::net::Shutdown::Write).is_err();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_broken) => return,
        }
        assert!(begun.elapsed() < PATIENCE, "the connection does not end");
    }
}

// === the node ===

/// Reads requests and answers each, until keyway goes.
fn serve(mut stream: UnixStream) {
    let mut unread = Unread(Vec::new());
    let mut buffer = [0; 16 << 10];
    loop {
        while let Some((len, is_head)) = request(&unread.0) {
            // The next one waits for the answer to this one.
            if len < unread.0.len() {
                wrong("more than a request", &unread.0);
            }
            unread.change(Vec::clear);
            SEEN.fetch_add(1, SeqCst);
            if !answer(&mut stream, is_head) {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => unread.change(|it| it.extend_from_slice(&buffer[..read])),
        }
    }
}

/// What was read of a connection and is no request yet.
struct Unread(Vec<u8>);

impl Unread {
    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let before = self.0.len();
        change(&mut self.0);
        LEFT.fetch_add(self.0.len(), SeqCst);
        LEFT.fetch_sub(before, SeqCst);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.change(Vec::clear);
    }
}

/// Answers as the input says; whether the connection goes on.
fn answer(stream: &mut UnixStream, is_head: bool) -> bool {
    let body = if is_head { "" } else { "hello" };
    let (text, goes_on) = match ANSWER.load(SeqCst) % 8 {
        0 => (format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}"), true),
        1 if is_head => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(), true),
        1 => (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-T: 1\r\n\r\n".into(),
            true,
        ),
        2 => (format!("HTTP/1.1 200 OK\r\n\r\n{body}"), false),
        3 => ("HTTP/1.1 204 No Content\r\n\r\n".into(), true),
        4 => (
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}"),
            true,
        ),
        5 => ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".into(), true),
        6 => (format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n{body}"), false),
        _ => ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbro".into(), false),
    };
    stream.write_all(text.as_bytes()).is_ok() && goes_on
}

/// The length of the request that `bytes` begin with, and whether it is a HEAD; `None` until it is
/// whole. The process ends when it is none.
fn request(bytes: &[u8]) -> Option<(usize, bool)> {
    let head = bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
    let mut lines = bytes[..head]
        .split(|it| *it == b'\n')
        .map(|it| it.strip_suffix(b"\r").unwrap_or(it));
    if bytes[..head]
        .windows(2)
        .any(|it| it[1] == b'\n' && it[0] != b'\r' || it[0] == b'\r' && it[1] != b'\n')
    {
        wrong("a bare CR or LF", bytes);
    }
    let line: Vec<_> = lines
        .next()
        .unwrap_or_default()
        .split(|it| *it == b' ')
        .collect();
    let [method, target, b"HTTP/1.1"] = line[..] else {
        wrong("no request line", bytes);
    };
    if !method.iter().all(|it| is_token(*it)) || !(target.starts_with(b"/") || target == b"*") {
        wrong("no method or target", bytes);
    }
    let (mut lengths, mut codings, mut hosts, mut nodes, mut vias) = (Vec::new(), 0, 0, 0, 0);
    for line in lines {
        let Some(colon) = line.iter().position(|it| *it == b':') else {
            wrong("a line without a colon", bytes);
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|it| is_token(*it)) {
            wrong("a name that is none", bytes);
        }
        if value
            .iter()
            .any(|it| *it < b' ' && *it != b'\t' || *it == 127)
        {
            wrong("a value that is none", bytes);
        }
        match &name.to_ascii_lowercase()[..] {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" if value == b"chunked" => codings += 1,
            b"transfer-encoding" => wrong("an unknown coding", bytes),
            b"host" => hosts += 1,
            b"x-keyway-node" if value == b"c" || value == b"tidy" => nodes += 1,
            b"x-keyway-node" => wrong("an annotation of the client's", bytes),
            b"via" if String::from_utf8_lossy(value).contains("keyway-") => vias += 1,
            _ => {}
        }
    }
    if hosts != 1 || nodes != 1 || vias != 1 {
        wrong("a request that keyway did not make", bytes);
    }
    let body = head + 4;
    let len = match (&lengths[..], codings) {
        ([], 0) => body,
        ([length], 0) => {
            let digits = length.iter().all(u8::is_ascii_digit) && !length.is_empty();
            let number = str::from_utf8(length).ok().filter(|_| digits);
            let Some(number) = number.and_then(|it| it.parse::<usize>().ok()) else {
                wrong("a length that is none", bytes);
            };
            body.checked_add(number)?
        }
        ([], 1) => body + chunks(&bytes[body..])?,
        _ => wrong("two framings", bytes),
    };
    (len <= bytes.len()).then_some((len, method == b"HEAD"))
}

/// The length of a body in chunks; `None` until it is whole.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|it| it == b"\r\n")?;
        let digits = str::from_utf8(&bytes[at..at + line]).ok();
        let is_hex = |it: &&str| it.bytes().all(|it| it.is_ascii_hexdigit());
        let size = digits
            .filter(is_hex)
            .and_then(|it| usize::from_str_radix(it, 16).ok());
        let Some(size) = size else {
            wrong("a chunk's size that is none", bytes);
        };
        at += line + 2;
        if size == 0 {
            break;
        }
        let end = bytes.get(at + size..at + size + 2)?;
        if end != b"\r\n" {
            wrong("a chunk that is longer than it says", bytes);
        }
        at += size + 2;
    }
    // Trailers, up to an empty line.
    loop {
        let line = bytes[at..].windows(2).position(|it| it == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

/// Ends the process: what the node got is no request of keyway's.
fn wrong(what: &str, bytes: &[u8]) -> ! {
    eprintln!("the node got {what}: {:?}", String::from_utf8_lossy(bytes));
    std::process::abort();
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
