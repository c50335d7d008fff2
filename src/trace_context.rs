//! Pure: the trace that a request belongs to, as `traceparent` names it (W3C Trace Context Level 2).
//!
//! Deliberately not here: `tracestate`, which goes on as it came or not at all, for keyway has
//! nothing to say in it.

use crate::head::{Fields, Known};

/// How long the value of version 00 is, in bytes (3.2.2).
const LEN: usize = 55;

/// The id of a trace; not all of it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span; not all of it is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// The flags that Level 2 knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span of whoever sent the request.
    pub span: SpanId,
    /// Whether the trace is recorded.
    pub flags: Flags,
}

// === impl TraceId ===

impl TraceId {
    /// An id of these random bits.
    pub fn random(high: u64, low: u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        // All zeros would be none.
        id[8..].copy_from_slice(&low.max(1).to_be_bytes());
        Self(id)
    }

    /// The number by which traces are sampled: the id's end, of which 56 bits are random (2.2.3).
    pub fn bits(self) -> u64 {
        let end = self.0.last_chunk::<8>();
        end.map_or(0, |it| u64::from_be_bytes(*it))
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

// === impl SpanId ===

impl SpanId {
    /// An id of these random bits.
    pub fn random(bits: u64) -> Self {
        Self(bits.max(1).to_be_bytes())
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

// === impl Flags ===

impl Flags {
    /// The trace is recorded.
    pub const SAMPLED: Self = Self(0b01);

    /// The flags that are known: this one, and that the id's end is random.
    const KNOWN: u8 = 0b11;

    /// Whether the trace is recorded.
    pub fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Their bits.
    pub fn bits(self) -> u8 {
        self.0
    }
}

// === impl TraceParent ===

impl TraceParent {
    /// What the request with these fields says, if it says it once and right; else it belongs to no
    /// trace so far.
    pub fn of(fields: Fields<'_>) -> Option<Self> {
        if !fields.has(Known::Traceparent) {
            return None;
        }
        let mut values = fields.known(Known::Traceparent);
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value)
    }

    /// What `value` says: of a later version what version 00 has too (4.3).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LEN)?;
        let version = hex(&known[..2])?;
        let [version] = version;
        let ends = more.is_empty() || version > 0 && more[0] == b'-';
        let framed = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        if version == 0xff || !ends || !framed {
            return None;
        }
        let [flags] = hex(&known[53..])?;
        let parent = Self {
            trace: TraceId(hex(&known[3..35])?),
            span: SpanId(hex(&known[36..52])?),
            flags: Flags(flags & Flags::KNOWN),
        };
        let is_some = parent.trace.0 != [0; 16] && parent.span.0 != [0; 8];
        is_some.then_some(parent)
    }

    /// The value of version 00 that says so.
    pub fn text(&self) -> [u8; LEN] {
        let mut text = [b'-'; LEN];
        write_hex(&mut text[..2], &[0]);
        write_hex(&mut text[3..35], &self.trace.0);
        write_hex(&mut text[36..52], &self.span.0);
        write_hex(&mut text[53..], &[self.flags.0]);
        text
    }
}

/// The bytes that `digits` stand for, lower case only (3.2.2.1).
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(it: u8) -> Option<u8> {
    match it {
        b'0'..=b'9' => Some(it - b'0'),
        b'a'..=b'f' => Some(it - b'a' + 10),
        _ => None,
    }
}

fn write_hex(to: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in to.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [byte >> 4, byte & 15].map(|it| DIGITS[usize::from(it)]);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    #[test]
    fn a_valid_value_is_read_and_written() {
        let parent = parse(VALID).unwrap();
        assert_eq!(parent.trace.bits(), 0xa3ce_929d_0e0e_4736);
        assert!(parent.flags.is_sampled());
        assert_eq!(parent.text(), VALID.as_bytes());
        assert!(
            !parse(&VALID.replace("-01", "-00"))
                .unwrap()
                .flags
                .is_sampled()
        );
    }

    #[test]
    fn what_is_not_valid_is_no_trace() {
        for (what, text) in [
            ("nothing", String::new()),
            ("the forbidden version", VALID.replacen("00", "ff", 1)),
            (
                "a trace of zeros",
                format!("00-{:032}-00f067aa0ba902b7-01", 0),
            ),
            (
                "a span of zeros",
                format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016}-01", 0),
            ),
            ("upper case", VALID.to_ascii_uppercase()),
            ("upper case version", VALID.replacen("00", "0A", 1)),
            ("too short", VALID[..54].to_owned()),
            ("more than version 00 has", format!("{VALID}-00")),
            ("a tail", format!("{VALID}.")),
            (
                "a later version with a tail",
                format!("{}.", VALID.replacen("00", "cc", 1)),
            ),
            ("no digit", VALID.replace("4bf9", "4bg9")),
            ("a sign", VALID.replace("4bf9", "+bf9")),
            ("no dash", VALID.replace("-00f0", "_00f0")),
            ("no digits as flags", VALID.replace("-01", "-.1")),
        ] {
            assert_eq!(parse(&text), None, "{what}: {text}");
        }
    }

    #[test]
    fn of_a_later_version_the_known_part_counts() {
        let valid = parse(VALID);
        let later = VALID.replacen("00", "cc", 1);
        assert_eq!(parse(&later), valid);
        assert_eq!(parse(&format!("{later}-what-the-future-says")), valid);
        assert_eq!(parse(&VALID.replace("-01", "-ff")).unwrap().flags, Flags(3));
    }

    #[test]
    fn two_of_them_are_none() {
        let mut map = HeaderMap::new();
        assert_eq!(TraceParent::of(Fields::from(&map)), None);
        map.append("traceparent", HeaderValue::from_static(VALID));
        assert_eq!(TraceParent::of(Fields::from(&map)), parse(VALID));
        map.append("traceparent", HeaderValue::from_static(VALID));
        assert_eq!(TraceParent::of(Fields::from(&map)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(high: u64, low: u64, span: u64, flags in 0_u8..4) {
            let parent = TraceParent {
                trace: TraceId::random(high, low),
                span: SpanId::random(span),
                flags: Flags(flags),
            };
            prop_assert_eq!(TraceParent::parse(&parent.text()), Some(parent));
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = TraceParent::parse(&bytes);
        }

        #[test]
        fn one_other_byte_is_never_taken_for_another_framing(at in 0_usize..LEN, byte: u8) {
            let mut text = VALID.as_bytes().to_vec();
            text[at] = byte;
            if let Some(parent) = TraceParent::parse(&text) {
                let is_hex = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                prop_assert!(is_hex || byte == b'-');
                prop_assert_eq!(&parent.text()[3..52], &text[3..52]);
            }
        }
    }
}
