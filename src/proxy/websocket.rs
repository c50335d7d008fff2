//! Pure: a WebSocket that comes by HTTP/2 (RFC 8441) as the one of HTTP/1.1 (RFC 6455) that it goes
//! on by.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, request};
use sha1::{Digest, Sha1};

/// What a server adds to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `:protocol`, and of Upgrade.
pub(super) const WEBSOCKET: &str = "websocket";

/// Makes the GET of an extended CONNECT that it stands for (RFC 8441 section 5), with a key of these
/// bits. An HTTP/2 client cannot send the fields itself, but for the key, which means nothing there.
pub(super) fn cross(parts: &mut request::Parts, bits: [u64; 2]) {
    parts.method = Method::GET;
    let key = BASE64_STANDARD.encode([bits[0].to_le_bytes(), bits[1].to_le_bytes()].concat());
    let fields = &mut parts.headers;
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    if let Ok(key) = HeaderValue::try_from(key) {
        fields.insert(SEC_WEBSOCKET_KEY, key);
    }
}

/// Whether `accept` is what a server says to `key` that has understood it.
pub(super) fn accepts(key: &[u8], accept: &[u8]) -> bool {
    let digest = Sha1::digest([key, GUID].concat());
    BASE64_STANDARD.encode(digest).as_bytes() == accept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn a_server_that_understood_says_so() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ==";
        assert!(accepts(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!accepts(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOp="));
        assert!(!accepts(b"", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
