use super::*;

fn length(lines: &str) -> Result<Length, Error> {
    Ok(request(&with_fields(lines))?.unwrap().length)
}

/// RFC 9112 6.3, 5 and 6; RFC 9110 8.6: one line of digits.
#[test]
fn content_length_is_one_number() {
    let table = [
        ("", Ok(Length::Empty)),
        ("Content-Length: 0\r\n", Ok(Length::Empty)),
        ("Content-Length: 000\r\n", Ok(Length::Empty)),
        ("Content-Length: 5\r\n", Ok(Length::Exact(5))),
        ("content-length:\t005 \r\n", Ok(Length::Exact(5))),
        (
            "Content-Length: 9223372036854775807\r\n",
            Ok(Length::Exact(i64::MAX.unsigned_abs())),
        ),
    ];
    for (lines, length_found) in table {
        assert_eq!(length(lines), length_found, "{lines:?}");
    }
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5 5",
        "5,5",
        "5, 5",
        ",5",
        "5,",
        "5;",
        "5.0",
        "5e1",
        "5_0",
        "\u{ff15}",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999",
        "\"5\"",
        "chunked",
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        assert_eq!(length(&lines), Err(Error::ContentLength), "{value:?}");
    }
    for repeated in ["5", "6", "", "x"] {
        let lines = format!("Content-Length: 5\r\nA: b\r\ncontent-length: {repeated}\r\n");
        assert_eq!(length(&lines), Err(Error::ContentLength), "{repeated:?}");
    }
}

/// RFC 9112 6.1: `chunked` once, alone.
#[test]
fn the_only_transfer_coding_is_chunked() {
    for value in ["chunked", "Chunked", "CHUNKED", "\t chunked \t"] {
        let lines = format!("Transfer-Encoding:{value}\r\n");
        assert_eq!(length(&lines), Ok(Length::Chunked), "{value:?}");
    }
    for value in [
        "",
        "xchunked",
        "chunkedx",
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chun\tked",
        "chunked chunked",
        "'chunked'",
        "ch\u{16b}nked",
    ] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(length(&lines), Err(Error::Coding), "{value:?}");
    }
    for (first, second) in [
        ("chunked", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "identity"),
    ] {
        let lines = format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n");
        assert_eq!(length(&lines), Err(Error::Coding), "{lines:?}");
    }
}

/// RFC 9112 6.3, 3: a message with both is never two things at once.
#[test]
fn two_framings_are_none() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
        "Transfer-Encoding:\r\nContent-Length: 0\r\n",
    ] {
        assert_eq!(length(lines), Err(Error::Framing), "{lines:?}");
        let bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(response(bytes.as_bytes()).unwrap_err(), Error::Framing);
    }
}

/// RFC 9112 6.1: HTTP/1.0 has no transfer codings.
#[test]
fn http_1_0_is_never_chunked() {
    let bytes = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(bytes), Error::Framing);
    let bytes = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(bytes).unwrap_err(), Error::Framing);
}

/// RFC 9110 9.3.6: what a tunnel's opening would carry means nothing.
#[test]
fn connect_carries_nothing() {
    let connect = |lines: &str| {
        let bytes = format!("CONNECT a:1 HTTP/1.1\r\n{lines}\r\n");
        request(bytes.as_bytes()).map(|it| it.unwrap().length)
    };
    assert_eq!(connect(""), Ok(Length::Tunnel));
    assert_eq!(connect("Content-Length: 0\r\n"), Err(Error::Framing));
    assert_eq!(connect("Content-Length: 5\r\n"), Err(Error::Framing));
    assert_eq!(
        connect("Transfer-Encoding: chunked\r\n"),
        Err(Error::Framing)
    );
}

/// RFC 9112 9.3, by version and by every line of Connection; options have no parameters
/// (RFC 9110 7.6.1).
#[test]
fn a_connection_goes_on_by_version_and_options() {
    use Persistence::{Close, KeepAlive};
    let table: [(&[u8], Persistence, Persistence); 14] = [
        (b"", KeepAlive, Close),
        (b"Connection: keep-alive\r\n", KeepAlive, KeepAlive),
        (b"Connection: Keep-Alive\r\n", KeepAlive, KeepAlive),
        (b"Connection: close\r\n", Close, Close),
        (b"Connection: CLOSE\r\n", Close, Close),
        (b"Connection:\r\n", KeepAlive, Close),
        (b"Connection: x, close\r\n", Close, Close),
        (b"Connection: close, keep-alive\r\n", Close, Close),
        (
            b"Connection: keep-alive\r\nConnection: close\r\n",
            Close,
            Close,
        ),
        (
            b"Connection: x\r\nConnection: ,, keep-alive ,\r\n",
            KeepAlive,
            KeepAlive,
        ),
        (b"Connection: closed\r\n", KeepAlive, Close),
        (b"Connection: keep-alive;a\r\n", KeepAlive, Close),
        (b"Connection: \xff, close\r\n", Close, Close),
        (b"Proxy-Connection: keep-alive\r\n", KeepAlive, Close),
    ];
    for (lines, of_1_1, of_1_0) in table {
        for (version, expected) in [("1.1", of_1_1), ("1.0", of_1_0)] {
            let start = format!("GET / HTTP/{version}\r\n");
            let bytes = [start.as_bytes(), lines, b"\r\n"].concat();
            assert_eq!(accepted(&bytes).persistence, expected, "{}", shown(&bytes));
        }
    }
}

#[test]
fn known_fields_are_found_in_any_case() {
    let bytes = with_fields("HOST: a\r\nte: trailers;q=1\r\nX: y\r\n");
    let mut table = FieldTable::new();
    parse_request(&bytes, &LIMITS, &mut table).unwrap().unwrap();
    let fields = Fields::Lines(&bytes, &table);
    assert!(fields.has(Known::Host) && !fields.has(Known::Connection));
    assert!(fields.lists(Known::Te, "trailers"));
}
