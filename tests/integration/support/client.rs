//! A client that writes and reads raw HTTP/1.1.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a test waits for bytes before it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection to keyway.
pub struct Client {
    pub stream: TcpStream,
    /// Whether the connection ended by a reset, as far as it was read.
    pub reset: bool,
    buffer: Vec<u8>,
}

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case, in the order received.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub whole: bool,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).unwrap())
    }

    /// A client of a connection that was made by hand.
    pub fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            reset: false,
            buffer: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends a request without a body, with a Host, and reads its response.
    pub fn get(&mut self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"")
    }

    /// Sends a request with these fields and reads its response.
    pub fn ask(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: app.test\r\n");
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send(head + "\r\n").send(body);
        self.reply_to(method)
    }

    /// Reads the next response, skipping none.
    pub fn reply(&mut self) -> Reply {
        self.reply_to("GET")
    }

    pub fn reply_to(&mut self, method: &str) -> Reply {
        let head_end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.fill() > 0,
                "closed before a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head = String::from_utf8(self.buffer.drain(..head_end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let fields: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let mut reply = Reply {
            status,
            fields,
            body: Vec::new(),
            whole: true,
        };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return reply;
        }
        if reply.field("transfer-encoding").is_some() {
            reply.whole = self.read_chunked(&mut reply.body);
        } else if let Some(length) = reply.field("content-length") {
            let length: usize = length.parse().unwrap();
            reply.whole = self.read_exactly(length, &mut reply.body);
        } else {
            while self.fill() > 0 {}
            reply.body.append(&mut self.buffer);
            reply.whole = !self.reset;
        }
        reply
    }

    /// Whether keyway closes the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill() == 0
    }

    fn read_exactly(&mut self, length: usize, body: &mut Vec<u8>) -> bool {
        while self.buffer.len() < length {
            if self.fill() == 0 {
                body.append(&mut self.buffer);
                return false;
            }
        }
        body.extend(self.buffer.drain(..length));
        true
    }

    fn read_chunked(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.line() else {
                return false;
            };
            let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
            if size == 0 {
                // Trailers, if any, up to the empty line.
                while let Some(line) = self.line() {
                    if line.is_empty() {
                        return true;
                    }
                    body.extend(format!("[trailer {line}]").bytes());
                }
                return false;
            }
            if !self.read_exactly(size, body) || self.line().is_none() {
                return false;
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// Reads what there is; 0 at the end, a reset included.
    fn fill(&mut self) -> usize {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(read) => {
                    self.buffer.extend(&bytes[..read]);
                    return read;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.reset = true;
                    return 0;
                }
                // A read with a timeout is not begun again by the kernel after a signal that
                // stopped the process (signal(7), "Interruption ... by stop signals").
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no bytes within {PATIENCE:?}: {error}"),
            }
        }
    }
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|it| it.0 == name)?;
        Some(&found.1)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The node that answered, of those that say so.
    pub fn node(&self) -> &str {
        self.field("x-node").unwrap_or("-")
    }

    /// Why keyway answered itself.
    pub fn error(&self) -> &str {
        self.field("x-keyway-error").unwrap_or("-")
    }
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|it| it == wanted)
}

/// Reads from a bare stream until `end` has come.
pub fn read_to(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut read = Vec::new();
    while find(&read, end).is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}
