//! Pure: a message's framing, written.
//!
//! What is written was read by the codec or by HTTP/2's: names are tokens, values hold no line end.

use http::{HeaderMap, StatusCode};

use super::framing::Persistence;

/// A chunk's size line (RFC 9112 7.1).
#[derive(Clone, Copy, Debug)]
pub struct ChunkSize {
    digits: [u8; 18],
    at: u8,
}

/// Appends `method target HTTP/1.1`. The target is given in parts.
pub fn request_line<'a>(
    out: &mut Vec<u8>,
    method: &str,
    target: impl IntoIterator<Item = &'a [u8]>,
) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    for part in target {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends the status line; an empty reason is replaced by the registered one.
pub fn status_line(out: &mut Vec<u8>, status: StatusCode, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    if reason.is_empty() {
        let registered = status.canonical_reason().unwrap_or_default();
        out.extend_from_slice(registered.as_bytes());
    } else {
        out.extend_from_slice(reason);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a field line.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends what follows the last field: what becomes of the connection, where the version does not
/// say it, and the empty line.
pub fn end_head(out: &mut Vec<u8>, is_http_11: bool, persistence: Persistence) {
    match persistence {
        Persistence::Close if is_http_11 => out.extend_from_slice(b"connection: close\r\n"),
        Persistence::KeepAlive if !is_http_11 => {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        Persistence::Close | Persistence::KeepAlive => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailers after it.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

impl ChunkSize {
    /// The line of a chunk of `len` bytes, which is not zero.
    pub fn new(len: usize) -> Self {
        let mut digits = [0; 18];
        digits[16..].copy_from_slice(b"\r\n");
        let (mut left, mut at) = (len, 16);
        while at == 16 || left > 0 {
            at -= 1;
            digits[at] = b"0123456789abcdef"[left & 15];
            left >>= 4;
        }
        // `at` is below 16.
        let at = u8::try_from(at).unwrap_or_default();
        Self { digits, at }
    }

    /// The line.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[usize::from(self.at)..]
    }
}
