use super::*;

fn chunked(bytes: &[u8]) -> (Body, Result<(), Error>) {
    read_body(Length::Chunked, [bytes])
}

/// A chunked body that is whole, with what of `bytes` follows it.
fn whole(bytes: &[u8]) -> (Vec<u8>, Vec<u8>, &[u8]) {
    let (body, ended) = chunked(bytes);
    assert_eq!(ended, Ok(()), "{}", shown(bytes));
    (body.data, body.trailers, &bytes[body.end.unwrap()..])
}

#[test]
fn a_sized_body_ends_after_its_bytes() {
    let (body, ended) = read_body(Length::Exact(5), [&b"hel"[..], b"lo", b"GET"]);
    assert_eq!(
        (&body.data[..], body.end, ended),
        (&b"hello"[..], Some(5), Ok(()))
    );
    let (body, ended) = read_body(Length::Exact(5), [&b"helloGET"[..]]);
    assert_eq!(
        (&body.data[..], body.end, ended),
        (&b"hello"[..], Some(5), Ok(()))
    );
    let (body, ended) = read_body(Length::Exact(5), [&b"hell"[..]]);
    assert_eq!((body.end, ended), (None, Err(Error::Truncated)));
    let (_, ended) = read_body(Length::Exact(u64::MAX), [&b"hell"[..]]);
    assert_eq!(ended, Err(Error::Truncated));
}

#[test]
fn the_end_is_known_with_the_last_byte() {
    let mut decoder = Decoder::new(Length::Exact(2));
    assert_eq!((decoder.remaining(), decoder.is_at_end()), (Some(2), false));
    decoder.decode(b"a").unwrap();
    assert_eq!((decoder.remaining(), decoder.is_at_end()), (Some(1), false));
    decoder.decode(b"b").unwrap();
    assert_eq!((decoder.remaining(), decoder.is_at_end()), (Some(0), true));

    let mut decoder = Decoder::new(Length::Chunked);
    assert_eq!(decoder.remaining(), None);
    let end = b"0\r\n\r\n";
    assert_eq!(decoder.decode(&end[..4]).unwrap().step, Step::Incomplete);
    assert!(!decoder.is_at_end());
    assert_eq!(decoder.decode(&end[3..]).unwrap().step, Step::End);
    assert!(decoder.is_at_end());
    let after = decoder.decode(b"GET").unwrap();
    assert_eq!((after.skip, after.step), (0, Step::End));
}

#[test]
fn no_body_is_at_its_end() {
    let mut decoder = Decoder::new(Length::Empty);
    assert!(decoder.is_at_end());
    assert_eq!(decoder.remaining(), Some(0));
    assert_eq!(decoder.decode(b"GET").unwrap().step, Step::End);
    assert_eq!(decoder.end_of_input(), Ok(()));
}

#[test]
fn what_has_no_end_takes_all() {
    for length in [Length::UntilClose, Length::Tunnel] {
        let (body, ended) = read_body(length, [&b"0\r\n\r\n"[..], b"", b"GET"]);
        assert_eq!((&body.data[..], ended), (&b"0\r\n\r\nGET"[..], Ok(())));
        assert_eq!(body.end, Some(8));
    }
}

/// RFC 9112 7.1.
#[test]
fn chunks_are_taken_out_of_their_framing() {
    let table: [(&[u8], &[u8], &[u8]); 10] = [
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (
            b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET",
            b"hello world",
            b"GET",
        ),
        (b"005\r\nhello\r\n000\r\n\r\n\r\n", b"hello", b"\r\n"),
        (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b""),
        (
            b"A\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
            b"0\r\n\r\n0\r\n\r\n",
            b"",
        ),
        (b"5;a=b;c=\"d; e\"\r\nhello\r\n0;f\r\n\r\n", b"hello", b""),
        (b"5; a=b \r\nhello\r\n0;\r\n\r\n", b"hello", b""),
        (
            b"5;5\r\nhello\r\n0\r\n\r\n0\r\n\r\n",
            b"hello",
            b"0\r\n\r\n",
        ),
    ];
    for (bytes, data, rest) in table {
        assert_eq!(
            whole(bytes),
            (data.to_vec(), vec![], rest),
            "{}",
            shown(bytes)
        );
    }
}

#[test]
fn other_chunks_are_refused() {
    let table: [&[u8]; 33] = [
        b"\r\nhello\r\n0\r\n\r\n",
        b";a\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\t\r\nhello\r\n0\r\n\r\n",
        b"5 ;a\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"0_5\r\nhello\r\n0\r\n\r\n",
        b"5_\r\nhello\r\n0\r\n\r\n",
        b"5.0\r\nhello\r\n0\r\n\r\n",
        b"5h\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
        b"5\0\r\nhello\r\n0\r\n\r\n",
        b"5,5\r\nhello\r\n0\r\n\r\n",
        b"5\xb2\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\r\nhello\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5;a\n\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a\r\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\rx0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello!\n0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"0\n\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    ];
    for bytes in table {
        assert_eq!(chunked(bytes).1, Err(Error::Chunk), "{}", shown(bytes));
    }
}

/// RFC 9112 7.1.2.
#[test]
fn trailers_follow_the_last_chunk() {
    let (data, trailers, rest) = whole(b"1\r\nx\r\n0\r\nA: b\r\na:c \r\n\r\nGET");
    assert_eq!((&data[..], rest), (&b"x"[..], &b"GET"[..]));
    assert_eq!(trailers, b"A: b\r\na:c \r\n\r\n");
    let map = parse_trailers(&trailers).unwrap();
    let values: Vec<_> = map.get_all("a").iter().collect();
    assert_eq!(values, ["b", "c"]);
    assert_eq!(map.len(), 2);

    let table: [(&[u8], Error); 9] = [
        (b"0\r\nA b\r\n\r\n", Error::Field),
        (b"0\r\nA : b\r\n\r\n", Error::Field),
        (b"0\r\n A: b\r\n\r\n", Error::Field),
        (b"0\r\nA: b\r\n c\r\n\r\n", Error::Field),
        (b"0\r\nA: \0\r\n\r\n", Error::Field),
        (b"0\r\nA: b\n\r\n\r\n", Error::LineEnd),
        (b"0\r\nA: b\nC: d\r\n\r\n", Error::LineEnd),
        (b"0\r\nA: b\n\nGET / HTTP/1.1\r\n\r\n", Error::LineEnd),
        (b"0\r\n\r\r\n\r\n", Error::LineEnd),
    ];
    for (bytes, error) in table {
        assert_eq!(chunked(bytes).1, Err(error), "{}", shown(bytes));
    }
    let (body, ended) = chunked(b"0\r\n\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!((body.end, ended), (None, Err(Error::LineEnd)));
}

#[test]
fn what_is_no_trailer_section_is_refused() {
    for section in [
        &b""[..],
        b"A: b\r\n",
        b"A: b\r\n\r\nC",
        b"\r\n\r\n",
        b"A: b\n\n",
    ] {
        assert!(parse_trailers(section).is_err(), "{}", shown(section));
    }
    assert!(parse_trailers(b"\r\n").unwrap().is_empty());
}

#[test]
fn a_body_that_breaks_off_is_truncated() {
    let bytes = b"5\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for len in 0..bytes.len() {
        let (body, ended) = chunked(&bytes[..len]);
        assert_eq!((body.end, ended), (None, Err(Error::Truncated)), "{len}");
    }
    whole(bytes);
}

#[test]
fn a_body_framed_wrongly_stays_so() {
    // Fed again from where it failed, the rest would look like a size line, data and an end.
    for bytes in [&b"4Z\r\n\r\n0\r\n\r\n"[..], b"5;a\nhello\r\n0\r\n\r\n"] {
        let mut decoder = Decoder::new(Length::Chunked);
        assert!(decoder.decode(bytes).is_err());
        for at in 0..bytes.len() {
            assert_eq!(decoder.decode(&bytes[at..]), Err(Error::Chunk));
        }
        assert!(!decoder.is_at_end());
        assert_eq!(decoder.end_of_input(), Err(Error::Truncated));
    }
}
