//! Pure: the two messages of `grpc.health.v1.Health/Check`, in the frames of gRPC.
//!
//! `HealthCheckRequest { string service = 1 }` and `HealthCheckResponse { ServingStatus status = 1 }`
//! (grpc/health/v1/health.proto), by hand: a generator and its run time would be many times as much.

/// The path that is called.
pub const PATH: &str = "/grpc.health.v1.Health/Check";

/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// A frame's flag of compression and the length of its message (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// A text's field 1, and a number's, as protobuf tags them.
const FIELD_1_TEXT: u8 = 0x0a;
const FIELD_1_NUMBER: u64 = 0x08;

/// The frame that asks for `service`.
pub fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(FIELD_1_TEXT);
        push_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.append(&mut message);
    frame
}

/// Whether `body`, one frame, says that what was asked for serves; `None` when it is no such frame.
pub fn is_serving(body: &[u8]) -> Option<bool> {
    let (prefix, mut message) = body.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(*prefix.last_chunk()?);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    // A message without the field says UNKNOWN, the last of several counts.
    let mut status = 0;
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if tag == FIELD_1_NUMBER {
                    status = value;
                }
            }
            1 => skip(&mut message, 8)?,
            2 => {
                let length = take_varint(&mut message)?;
                skip(&mut message, length)?;
            }
            5 => skip(&mut message, 4)?,
            _ => return None,
        }
    }
    Some(status == SERVING)
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    // Seven bits a byte: ten bytes hold 64.
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn skip(bytes: &mut &[u8], length: u64) -> Option<()> {
    let length = usize::try_from(length).ok()?;
    *bytes = bytes.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_as_protoc_writes_them() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_serves() {
        assert_eq!(is_serving(b"\0\0\0\0\x02\x08\x01"), Some(true));
        assert_eq!(is_serving(b"\0\0\0\0\x02\x08\x02"), Some(false));
        assert_eq!(is_serving(b"\0\0\0\0\0"), Some(false));
        // Fields of later versions, of every wire type.
        let later = b"\0\0\0\0\x16\x12\x01x\x19abcdefgh\x25abcd\x30\xff\x01\x08\x01";
        assert_eq!(is_serving(later), Some(true));
    }

    #[test]
    fn what_is_no_frame_says_nothing() {
        for body in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08\x01",
            b"\0\0\0\0\x01\x08",
            b"\0\0\0\0\x02\x12\x05",
            b"\0\0\0\0\x01\x0b",
        ] {
            assert_eq!(is_serving(body), None, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(body in prop::collection::vec(any::<u8>(), 0..40)) {
            let _said = is_serving(&body);
        }
    }
}
