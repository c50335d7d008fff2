//! A node that answers as a test tells it, and remembers what it saw.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as the node read it.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    /// Names in lower case, in the order received.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The number of the connection, from 0.
    pub connection: usize,
}

/// What a node does after a request was read.
#[derive(Clone, Debug)]
pub enum Then {
    /// 200 with the node's id in `x-node` and as the body.
    Answer,
    /// These bytes, and the connection stays open.
    Send(Vec<u8>),
    /// These bytes, and the connection is closed.
    SendAndClose(Vec<u8>),
    /// The connection is reset without a byte.
    Reset,
    /// 200 with a body of so many bytes, written as fast as the peer reads.
    Flood(usize),
    /// Nothing, for as long as the peer waits.
    Hang,
}

type Script = dyn Fn(&Request) -> Then + Send + Sync;

/// A listening node. Dropping it stops it.
pub struct Node {
    pub id: String,
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    id: String,
    script: Mutex<Arc<Script>>,
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    flooded: AtomicUsize,
    blocked: AtomicBool,
    /// Keeps a killed node's port from being given to another test.
    port: Mutex<Option<socket2::Socket>>,
    stopped: AtomicBool,
}

impl Node {
    /// A node that answers everything.
    pub fn start(id: &str) -> Self {
        Self::scripted(id, |_| Then::Answer)
    }

    pub fn scripted(id: &str, script: impl Fn(&Request) -> Then + Send + Sync + 'static) -> Self {
        Self::listen(id, "127.0.0.1:0".parse().unwrap(), script)
    }

    /// A node that is down: it refuses connections.
    pub fn down(id: &str) -> Self {
        let node = Self::start(id);
        node.kill();
        node
    }

    /// A node at the address where another one was.
    pub fn listen(
        id: &str,
        address: SocketAddr,
        script: impl Fn(&Request) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            script: Mutex::new(Arc::new(script)),
            requests: Mutex::default(),
            connections: Mutex::default(),
            accepted: AtomicUsize::new(0),
            flooded: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            port: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self {
            id: id.to_owned(),
            address,
            shared,
        }
    }

    /// Behaves differently from now on.
    pub fn script(&self, script: impl Fn(&Request) -> Then + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes of [`Then::Flood`] were taken from it so far, and whether the peer kept it
    /// from writing more for a second.
    pub fn flooded(&self) -> (usize, bool) {
        let Shared {
            flooded, blocked, ..
        } = &*self.shared;
        (
            flooded.load(Ordering::SeqCst),
            blocked.load(Ordering::SeqCst),
        )
    }

    /// As kill -9 would: every connection is closed, and new ones are refused once this returns.
    pub fn kill(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which drops the listener.
        while TcpStream::connect(self.address).is_ok() {
            thread::yield_now();
        }
        let port = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let port = port.unwrap();
        port.set_reuse_address(true).unwrap();
        // Bound and not listening: still refused. Somebody else may have been faster.
        if port.bind(&self.address.into()).is_ok() {
            *self.shared.port.lock().unwrap() = Some(port);
        }
        self.close_connections();
    }

    /// Closes every connection, and accepts new ones.
    pub fn close_connections(&self) {
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _gone = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Request {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|it| it.0 == name)?;
        Some(&found.1)
    }

    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let stream = stream.unwrap();
        let kept = stream.try_clone().unwrap();
        shared.connections.lock().unwrap().push(kept);
        // Last, so that who sees it counted can close it.
        let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        thread::spawn(move || serve(stream, &shared, connection));
    }
}

/// Serves one connection; any error ends it, as it would end a real node's.
fn serve(stream: TcpStream, shared: &Shared, connection: usize) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader, connection) {
        shared.requests.lock().unwrap().push(request.clone());
        let script = Arc::clone(&shared.script.lock().unwrap());
        let sent = match script(&request) {
            Then::Answer => stream.write_all(answer(&shared.id, request.method()).as_bytes()),
            Then::Send(bytes) => stream.write_all(&bytes),
            Then::Flood(length) => flood(&mut stream, length, shared),
            Then::SendAndClose(bytes) => {
                let _gone = stream.write_all(&bytes);
                let _gone = stream.shutdown(Shutdown::Both);
                return;
            }
            Then::Reset => {
                let socket = socket2::SockRef::from(&stream);
                let _gone = socket.set_linger(Some(Duration::ZERO));
                shared
                    .connections
                    .lock()
                    .unwrap()
                    .retain(|it| it.peer_addr().ok() != stream.peer_addr().ok());
                return;
            }
            Then::Hang => {
                let mut rest = Vec::new();
                let _gone = reader.read_to_end(&mut rest);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

fn flood(stream: &mut TcpStream, length: usize, shared: &Shared) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let block = vec![b'x'; 64 << 10];
    let mut left = length;
    while left > 0 {
        match stream.write(&block[..left.min(block.len())]) {
            Ok(written) => {
                left -= written;
                shared.flooded.fetch_add(written, Ordering::SeqCst);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                shared.blocked.store(true, Ordering::SeqCst);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn answer(id: &str, method: &str) -> String {
    let body = if method == "HEAD" { "" } else { id };
    format!(
        "HTTP/1.1 200 OK\r\nx-node: {id}\r\nContent-Length: {}\r\n\r\n{body}",
        id.len()
    )
}

fn read(reader: &mut impl BufRead, connection: usize) -> Option<Request> {
    let line = read_line(reader)?;
    let mut fields = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        line,
        fields,
        body: Vec::new(),
        connection,
    };
    if request.field("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(read_line(reader)?.split(';').next()?, 16).ok()?;
            if size == 0 {
                while !read_line(reader)?.is_empty() {}
                break;
            }
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            request.body.append(&mut chunk);
            read_line(reader)?;
        }
    } else if let Some(length) = request.field("content-length") {
        request.body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut request.body).ok()?;
    }
    Some(request)
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => {
            // As ISO 8859-1: fields may hold any bytes.
            let line: String = line.into_iter().map(char::from).collect();
            Some(line.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}
