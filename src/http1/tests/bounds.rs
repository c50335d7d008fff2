use super::*;

const TARGET_MAX: usize = LIMITS.target;

/// A request whose head has this many bytes, in fields that are within bounds.
fn head_of(len: usize) -> Vec<u8> {
    let empty = with_fields("A: \r\n").len();
    with_fields(&format!("A: {}\r\n", "a".repeat(len - empty)))
}

/// What each prefix of `bytes` is, for prefixes around `at` and some before: nothing yet, or what
/// the whole is.
fn assert_found_early(bytes: &[u8], error: Error, at: usize) {
    assert_eq!(refused(bytes), error);
    for len in (0..at).step_by(977).chain(at - 3..at) {
        assert!(matches!(request(&bytes[..len]), Ok(None)), "{len} of {at}");
    }
    for len in at..(at + 3).min(bytes.len()) {
        assert_eq!(refused(&bytes[..len]), error, "{len} of {at}");
    }
}

#[test]
fn a_head_is_bounded() {
    let most = head_of(HEAD_MAX);
    assert_eq!(accepted(&most).len, HEAD_MAX);
    for len in [HEAD_MAX - 1, HEAD_MAX - 1000, TARGET_MAX, TARGET_MAX + 1] {
        assert!(request(&most[..len]).unwrap().is_none(), "{len}");
    }
    // The empty line before a request is not the head's.
    let late = [b"\r\n", &most[..]].concat();
    assert_eq!(accepted(&late).len, HEAD_MAX + 2);

    assert_found_early(&head_of(HEAD_MAX + 1), Error::HeadTooLarge, HEAD_MAX);
    assert_found_early(&head_of(2 * HEAD_MAX), Error::HeadTooLarge, HEAD_MAX);
    // What is wrong beyond the bound is not looked at: it might not have come yet.
    let mut wrong = head_of(HEAD_MAX + 100);
    wrong[HEAD_MAX + 50] = 0;
    assert_found_early(&wrong, Error::HeadTooLarge, HEAD_MAX);
}

#[test]
fn the_head_of_a_response_is_bounded() {
    let of = |len: usize| {
        let empty = "HTTP/1.1 200 OK\r\nA: \r\n\r\n".len();
        let value = "a".repeat(len - empty);
        format!("HTTP/1.1 200 OK\r\nA: {value}\r\n\r\n").into_bytes()
    };
    let most = of(HEAD_MAX);
    assert_eq!(response(&most).unwrap().unwrap().len, HEAD_MAX);
    assert!(response(&most[..HEAD_MAX - 1]).unwrap().is_none());
    let more = of(HEAD_MAX + 1);
    assert_eq!(response(&more).unwrap_err(), Error::HeadTooLarge);
    assert_eq!(
        response(&more[..HEAD_MAX]).unwrap_err(),
        Error::HeadTooLarge
    );
    let mut wrong = of(HEAD_MAX + 100);
    wrong[HEAD_MAX + 50] = 0;
    assert_eq!(response(&wrong).unwrap_err(), Error::HeadTooLarge);
}

#[test]
fn a_target_is_bounded() {
    for method in ["GET", "POST", "OPTIONS", "LONGMETHOD"] {
        let of = |len: usize| {
            let path = "a".repeat(len - 1);
            format!("{method} /{path} HTTP/1.1\r\nA: b\r\n\r\n").into_bytes()
        };
        let most = of(TARGET_MAX);
        assert_eq!(accepted(&most).target.path.len as usize, TARGET_MAX);
        for len in TARGET_MAX - 2..most.len() {
            assert!(request(&most[..len]).unwrap().is_none(), "{method} {len}");
        }
        let at = method.len() + 1 + TARGET_MAX + 1;
        assert_found_early(&of(TARGET_MAX + 1), Error::TargetTooLong, at);
        assert_found_early(&of(TARGET_MAX + 500), Error::TargetTooLong, at);
        // The first of two mistakes is the one.
        let mut wrong = of(TARGET_MAX + 500);
        wrong[TARGET_MAX + 400] = 0;
        assert_found_early(&wrong, Error::TargetTooLong, at);
        wrong[TARGET_MAX - 100] = 0;
        assert_found_early(&wrong, Error::StartLine, TARGET_MAX - 99);
    }
    // A method without an end has no target: the head is bounded all the same.
    let method = vec![b'A'; HEAD_MAX + 1];
    assert_found_early(&method, Error::HeadTooLarge, HEAD_MAX);
}

#[test]
fn fields_are_counted() {
    let most = with_fields(&"A: b\r\n".repeat(FIELDS_MAX));
    let mut table = FieldTable::new();
    parse_request(&most, &LIMITS, &mut table).unwrap().unwrap();
    assert_eq!(lines(&most, &table).len(), FIELDS_MAX);
    let more = with_fields(&"A: b\r\n".repeat(FIELDS_MAX + 1));
    assert_eq!(refused(&more), Error::TooManyFields);

    let of = |fields: usize| {
        let lines = "A: b\r\n".repeat(fields);
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
    };
    assert!(response(of(FIELDS_MAX).as_bytes()).is_ok());
    let more = response(of(FIELDS_MAX + 1).as_bytes());
    assert_eq!(more.unwrap_err(), Error::TooManyFields);

    let section = |fields: usize| format!("{}\r\n", "A: b\r\n".repeat(fields));
    let parsed = parse_trailers(section(FIELDS_MAX).as_bytes());
    assert_eq!(parsed.unwrap().len(), FIELDS_MAX);
    let more = parse_trailers(section(FIELDS_MAX + 1).as_bytes());
    assert_eq!(more.unwrap_err(), Error::TooManyFields);
}

#[test]
fn trailers_are_bounded() {
    let of = |len: usize| {
        let value = "a".repeat(len - "A: \r\n\r\n".len());
        format!("0\r\nA: {value}\r\n\r\n").into_bytes()
    };
    let most = of(TRAILERS_MAX);
    let (body, ended) = read_body(Length::Chunked, [&most[..]]);
    assert_eq!((body.end, ended), (Some(most.len()), Ok(())));
    let more = of(TRAILERS_MAX + 1);
    // Found in the whole and as soon as there is no room for the end.
    for bytes in [&more[..], &more[..more.len() - 1]] {
        let (_, ended) = read_body(Length::Chunked, [bytes]);
        assert_eq!(ended, Err(Error::ChunkOverhead));
    }
    let (_, ended) = read_body(Length::Chunked, [&more[..more.len() - 2]]);
    assert_eq!(ended, Err(Error::Truncated));
}

#[test]
fn chunk_extensions_are_bounded_over_the_whole_body() {
    let bound = usize::try_from(EXTENSIONS_MAX).unwrap();
    let of = |first: usize, second: usize| {
        let (first, second) = ("a".repeat(first), "b".repeat(second));
        format!("5;{first}\r\nhello\r\n0;{second}\r\n\r\n")
    };
    let most = of(bound - 10, 10);
    assert_eq!(read_body(Length::Chunked, [most.as_bytes()]).1, Ok(()));
    for more in [of(bound - 9, 10), of(bound + 1, 0), of(0, bound + 1)] {
        let (_, ended) = read_body(Length::Chunked, [more.as_bytes()]);
        assert_eq!(ended, Err(Error::ChunkOverhead));
    }
}

#[test]
fn a_chunk_is_of_64_bits() {
    let mut decoder = Decoder::new(Length::Chunked);
    let decoded = decoder.decode(b"ffffffffffffffff\r\nhello").unwrap();
    assert_eq!((decoded.skip, decoded.step), (18, Step::Data(5)));
    for size in [
        "10000000000000000",
        "fffffffffffffffff",
        "00000000000000000",
    ] {
        let bytes = format!("{size}\r\n");
        let (_, ended) = read_body(Length::Chunked, [bytes.as_bytes()]);
        assert_eq!(ended, Err(Error::Chunk), "{size}");
    }
}
