//! However the input is cut into reads, the same is read.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Pieces that heads are made of, right and wrong.
const HEAD_PIECES: [&[u8]; 28] = [
    b"\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"\xff",
    b"GET ",
    b"GET /a HTTP/1.1\r\n",
    b"POST http://h/?q HTTP/1.1\r\n",
    b"CONNECT [::1]:80 HTTP/1.0\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404\r\n",
    b"HTTP/1.1 101 \r\n",
    b"HTTP/1.",
    b"1 ",
    b"Host: h\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: x\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b" folded\r\n",
    b"A: b\r\n",
    b"c",
];

/// The same for chunked bodies.
const BODY_PIECES: [&[u8]; 24] = [
    b"5\r\nhello\r\n",
    b"5\r\nhello\r\n",
    b"a\r\n0123456789\r\n",
    b"1;a=b\r\nx\r\n",
    b"0\r\n",
    b"0\r\n",
    b"\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b"A: b\r\n",
    b"c: d\r\n\r\n",
    b"\r",
    b"\n",
    b";",
    b"+",
    b" ",
    b"f",
    b"0",
    b"\0",
    b"\xff",
    b"5\r\nhel",
    b"lo\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"g",
];

fn pieces(of: &'static [&'static [u8]], most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(select(of), 0..most).prop_map(|it| it.concat())
}

/// A start line, field lines and an empty line; with `pieces` between them now and then.
fn heads(starts: [&'static str; 3]) -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "[A-Za-z-]{1,8}:[ \t]{0,2}[ -~]{0,12}\r\n".prop_map(String::into_bytes),
        1 => pieces(&HEAD_PIECES, 3),
    ];
    let whole = (
        select(starts.to_vec()),
        vec(line, 0..6),
        pieces(&HEAD_PIECES, 3),
    );
    prop_oneof![
        whole.prop_map(
            |(start, lines, rest)| [start.as_bytes(), &lines.concat(), b"\r\n", &rest].concat()
        ),
        pieces(&HEAD_PIECES, 9),
    ]
}

/// `bytes` cut into reads of these sizes, in turn; the last is what is left.
fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut reads = Vec::new();
    for size in sizes {
        let (read, rest) = bytes.split_at((*size).min(bytes.len()));
        reads.push(read);
        bytes = rest;
    }
    reads.push(bytes);
    reads
}

/// Each prefix of a head is nothing yet, or what the whole is: the same head, or the same mistake.
fn assert_prefixes_agree(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<(String, usize)>, Error>,
) -> Result<(), TestCaseError> {
    let whole = parse(bytes);
    let mut found = false;
    for len in 0..=bytes.len() {
        let prefix = parse(&bytes[..len]);
        found |= prefix != Ok(None);
        if found {
            prop_assert_eq!(&prefix, &whole, "the first {}", len);
        }
        if let Ok(Some((_, end))) = prefix {
            prop_assert!(len >= end);
        }
    }
    prop_assert_eq!(found, whole != Ok(None));
    Ok(())
}

fn trailers() -> impl Strategy<Value = HeaderMap> {
    let line = ("[a-z][a-z0-9-]{0,9}", "([!-~]([ -~]{0,9}[!-~])?)?");
    vec(line, 0..5).prop_map(|lines| {
        let line = |(name, value): (String, String)| {
            let name = name.parse::<HeaderName>().unwrap();
            (name, value.parse::<HeaderValue>().unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.into_iter().map(line) {
            map.append(name, value);
        }
        map
    })
}

proptest! {
    #[test]
    fn a_request_is_read_alike_however_it_comes(bytes in heads([
        "GET / HTTP/1.1\r\n",
        "\r\nPOST /a?b HTTP/1.0\r\n",
        "CONNECT h:1 HTTP/1.1\r\n",
    ])) {
        assert_prefixes_agree(&bytes, |bytes| {
            let mut table = FieldTable::new();
            let parsed = parse_request(bytes, &LIMITS, &mut table)?;
            Ok(parsed.map(|it| (format!("{it:?} {table:?}"), it.len)))
        })?;
    }

    #[test]
    fn a_response_is_read_alike_however_it_comes(bytes in heads([
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404\r\n",
        "HTTP/1.1 204 \r\n",
    ])) {
        assert_prefixes_agree(&bytes, |bytes| {
            let mut table = FieldTable::new();
            let parsed = parse_response(bytes, &Method::GET, &mut table)?;
            Ok(parsed.map(|it| (format!("{it:?} {table:?}"), it.len)))
        })?;
    }

    #[test]
    fn a_body_is_read_alike_however_it_comes(
        bytes in pieces(&BODY_PIECES, 12),
        exact in 0_u64..20,
        sizes in vec(0_usize..9, 0..40),
    ) {
        let lengths = [
            Length::Chunked,
            Length::Exact(exact + 1),
            Length::Empty,
            Length::UntilClose,
        ];
        for length in lengths {
            let whole = read_body(length, [&bytes[..]]);
            prop_assert_eq!(&whole, &read_body(length, cut(&bytes, &sizes)));
            prop_assert_eq!(&whole, &read_body(length, bytes.chunks(1)));
        }
    }

    #[test]
    fn chunks_that_were_written_are_read_back(
        chunks in vec(vec(any::<u8>(), 1..300), 0..6),
        trailers in proptest::option::of(trailers()),
        sizes in vec(0_usize..90, 0..20),
    ) {
        let mut out = Vec::new();
        for chunk in &chunks {
            out.extend_from_slice(ChunkSize::new(chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        last_chunk(&mut out, trailers.as_ref());
        let end = out.len();
        out.extend_from_slice(b"0\r\n\r\n");
        let (body, ended) = read_body(Length::Chunked, cut(&out, &sizes));
        prop_assert_eq!(ended, Ok(()));
        prop_assert_eq!(&body.data, &chunks.concat());
        prop_assert_eq!(body.end, Some(end));
        let sent = trailers.unwrap_or_default();
        let read = match &body.trailers[..] {
            [] => HeaderMap::new(),
            section => parse_trailers(section).unwrap(),
        };
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn a_size_that_was_written_is_read_back(len in 1_usize.., given in 1_usize..9) {
        let line = ChunkSize::new(len);
        let input = [line.as_bytes(), &b"x".repeat(given)].concat();
        let decoded = Decoder::new(Length::Chunked).decode(&input).unwrap();
        prop_assert_eq!(decoded.skip, line.as_bytes().len());
        prop_assert_eq!(decoded.step, Step::Data(given.min(len)));
    }
}
