use super::*;

#[test]
fn a_head_is_taken_apart() {
    let bytes =
        b"PATCH /a/b?c=d HTTP/1.1\r\nHost: h\r\nX-A:1\r\nx-a: \t2 3\t \r\nEmpty:\r\n\r\nbody";
    let mut table = FieldTable::new();
    let line = parse_request(bytes, &LIMITS, &mut table).unwrap().unwrap();
    assert_eq!(line.method, Method::PATCH);
    assert_eq!(text(line.target.path, bytes), "/a/b");
    assert_eq!(text(line.target.query.unwrap(), bytes), "c=d");
    assert!(line.is_http_11);
    assert_eq!(line.len, bytes.len() - b"body".len());
    let expected: [(&str, &[u8]); 4] = [
        ("Host", b"h"),
        ("X-A", b"1"),
        ("x-a", b"2 3"),
        ("Empty", b""),
    ];
    assert_eq!(
        lines(bytes, &table),
        expected.map(|(name, value)| (name.to_owned(), value.to_vec()))
    );
}

/// RFC 9112 section 3: one space between the parts, a version in capitals, nothing else.
#[test]
fn a_request_line_is_three_words() {
    let table: [(&[u8], Error); 22] = [
        (b" GET / HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET  / HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET\t/ HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET / / HTTP/1.1\r\n\r\n", Error::Version),
        (b"GET /\tHTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET /  HTTP/1.1\r\n\r\n", Error::Version),
        (b"GET / HTTP/1.1 \r\n\r\n", Error::LineEnd),
        (b"GET HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET /\r\n\r\n", Error::StartLine),
        (b"/ HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"G(T / HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"G\0T / HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"G\xc3\xa9T / HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"\xef\xbb\xbfGET / HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET /\0 HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET /\x7f HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET /\xff HTTP/1.1\r\n\r\n", Error::StartLine),
        (b"GET / http/1.1\r\n\r\n", Error::Version),
        (b"GET / HTTP/2.0\r\n\r\n", Error::Version),
        (b"GET / HTTP/1.2\r\n\r\n", Error::Version),
        (b"GET / HTTP/1.1.\r\n\r\n", Error::LineEnd),
        (b"GET / HTTP/11\r\n\r\n", Error::Version),
    ];
    for (bytes, error) in table {
        assert_eq!(refused(bytes), error, "{}", shown(bytes));
    }
    assert_eq!(refused(PREFACE), Error::Version);
    for method in ["GET", "get", "M-SEARCH", "!#$%&'*+-.^_`|~9"] {
        let bytes = format!("{method} / HTTP/1.0\r\n\r\n");
        let line = accepted(bytes.as_bytes());
        assert_eq!(line.method.as_str(), method);
        assert!(!line.is_http_11);
    }
}

/// RFC 9112 2.2: a bare LF may be taken for a line's end, a bare CR never; here neither is.
#[test]
fn lines_end_with_crlf() {
    let table: [(&[u8], Error); 12] = [
        (b"GET / HTTP/1.1\n\r\n", Error::LineEnd),
        (b"GET / HTTP/1.1\n\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\n\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\nA: b\n\r\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\nA: b\r\n\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\nA:\n\r\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\r\n\r\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\n\rGET", Error::LineEnd),
        (b"GET / HTTP/1.1\rA: b\r\n\r\n", Error::LineEnd),
        (b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", Error::Field),
        (b"GET / HTTP/1.1\r\nA: b\r\r\n\r\n", Error::Field),
    ];
    for (bytes, error) in table {
        assert_eq!(refused(bytes), error, "{}", shown(bytes));
    }
}

/// RFC 9112 2.2: one empty line, which some clients send after a body.
#[test]
fn one_empty_line_may_come_first() {
    let bytes = b"\r\nGET /a HTTP/1.1\r\nA: b\r\n\r\n";
    let mut table = FieldTable::new();
    let line = parse_request(bytes, &LIMITS, &mut table).unwrap().unwrap();
    assert_eq!(line.len, bytes.len());
    assert_eq!(text(line.target.path, bytes), "/a");
    assert_eq!(lines(bytes, &table), [("A".to_owned(), b"b".to_vec())]);

    for begun in [&b""[..], b"\r", b"\r\n", b"\r\nG"] {
        assert!(request(begun).unwrap().is_none(), "{}", shown(begun));
    }
    for bytes in [
        &b"\n"[..],
        b"\r\r",
        b"\rG",
        b"\r\n\r",
        b"\r\n\n",
        b"\r\n\r\n",
    ] {
        assert_eq!(refused(bytes), Error::StartLine, "{}", shown(bytes));
    }
}

/// RFC 9112 section 5: a token, a colon, a value without control characters; no folded line.
#[test]
fn field_lines_are_strict() {
    for line in [
        "A : b",
        "A\t: b",
        " A: b",
        "\tA: b",
        "A",
        "A b",
        ": b",
        "A(: b",
        "A\0: b",
        "A\u{e9}: b",
        "\"A\": b",
        "A: b\0",
        "A: \u{1}",
        "A: b\u{7f}",
        "A: b\u{b}c",
    ] {
        let bytes = with_fields(&format!("{line}\r\n"));
        assert_eq!(refused(&bytes), Error::Field, "{}", shown(&bytes));
    }
    for folded in [
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A:\r\n b\r\n",
        " A: b\r\nC: d\r\n",
    ] {
        assert_eq!(refused(&with_fields(folded)), Error::Field, "{folded:?}");
    }
    let odd: [(&str, &[u8]); 6] = [
        ("!#$%&'*+-.^_`|~9: b", b"b"),
        ("A: \u{e9}", "\u{e9}".as_bytes()),
        ("A: a\tb", b"a\tb"),
        ("A::b", b":b"),
        ("A:  \t ", b""),
        ("A: \"b\"; c=\"d, e\"", b"\"b\"; c=\"d, e\""),
    ];
    for (line, value) in odd {
        let bytes = with_fields(&format!("{line}\r\n"));
        let mut table = FieldTable::new();
        parse_request(&bytes, &LIMITS, &mut table).unwrap().unwrap();
        assert_eq!(lines(&bytes, &table)[0].1, value, "{line}");
    }
}

/// What is done about none or two of them is decided above (RFC 9112 3.2).
#[test]
fn host_is_not_looked_at() {
    for lines in ["", "Host: a\r\nHost: b\r\n", "Host: a b\r\n", "Host:\r\n"] {
        accepted(&with_fields(lines));
    }
}

#[test]
fn a_table_is_left_alone_until_the_head_is_whole() {
    let mut table = FieldTable::new();
    let bytes = b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r";
    assert!(parse_request(bytes, &LIMITS, &mut table).unwrap().is_none());
    assert_eq!(lines(bytes, &table), []);
}
