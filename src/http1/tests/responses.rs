use super::*;

fn whole(asked: &Method, bytes: &[u8]) -> StatusLine {
    response_to(asked, bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", shown(bytes)))
        .unwrap_or_else(|| panic!("{} is not whole", shown(bytes)))
}

#[test]
fn a_head_is_taken_apart() {
    let bytes = b"HTTP/1.1 299 Not  \"quite\"\r\nA: b\r\nContent-Length: 3\r\n\r\nabc";
    let mut table = FieldTable::new();
    let line = parse_response(bytes, &Method::GET, &mut table)
        .unwrap()
        .unwrap();
    assert_eq!(line.status.as_u16(), 299);
    assert_eq!(text(line.reason, bytes), "Not  \"quite\"");
    assert_eq!(line.length, Length::Exact(3));
    assert_eq!(line.len, bytes.len() - 3);
    assert_eq!(lines(bytes, &table).len(), 2);
}

/// RFC 9112 section 4. The space before an empty reason is forgiven, as everywhere; a reason
/// that is not ASCII is read as none.
#[test]
fn a_status_line_is_strict() {
    let table: [(&[u8], Error); 15] = [
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Error::StartLine),
        (b"\nHTTP/1.1 200 OK\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1  200 OK\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1 20 OK\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1 2000 OK\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1 099 OK\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1 +20 OK\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1 200\tOK\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1 200 OK\rX\r\n\r\n", Error::StartLine),
        (b"HTTP/1.1\t200 OK\r\n\r\n", Error::Version),
        (b" HTTP/1.1 200 OK\r\n\r\n", Error::Version),
        (b"HTTP/2.0 200 OK\r\n\r\n", Error::Version),
        (b"HTTP/1.1 200 OK\n\r\n", Error::LineEnd),
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", Error::LineEnd),
    ];
    for (bytes, error) in table {
        assert_eq!(response(bytes).unwrap_err(), error, "{}", shown(bytes));
    }
    let forgiven: [(&[u8], &str); 5] = [
        (b"HTTP/1.1 200 OK\r\n\r\n", "OK"),
        (b"HTTP/1.1 200 \r\n\r\n", ""),
        (b"HTTP/1.1 200\r\n\r\n", ""),
        (b"HTTP/1.1 200  a\tb \r\n\r\n", " a\tb "),
        (b"HTTP/1.1 200 caf\xe9\r\n\r\n", ""),
    ];
    for (bytes, reason) in forgiven {
        let line = whole(&Method::GET, bytes);
        assert_eq!(text(line.reason, bytes), reason, "{}", shown(bytes));
    }
}

#[test]
fn field_lines_are_strict() {
    for line in ["A : b", " A: b", "A", ": b", "A: b\r\n c", "A: \0"] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
        assert_eq!(
            response(bytes.as_bytes()).unwrap_err(),
            Error::Field,
            "{line:?}"
        );
    }
}

/// RFC 9112 6.3, 1 and 2: what was asked and what is answered come before what the fields say.
#[test]
fn method_and_status_decide_first() {
    let get = Method::GET;
    let table = [
        (&Method::HEAD, 200, "Content-Length: 5", Length::Empty),
        (
            &Method::HEAD,
            200,
            "Transfer-Encoding: chunked",
            Length::Empty,
        ),
        (&Method::HEAD, 404, "", Length::Empty),
        (&get, 100, "", Length::Empty),
        (&get, 103, "Link: </a>", Length::Empty),
        (&get, 199, "Content-Length: 5", Length::Empty),
        (&get, 204, "", Length::Empty),
        (&get, 204, "Content-Length: 5", Length::Empty),
        (&get, 304, "Content-Length: 5", Length::Empty),
        (&get, 304, "Transfer-Encoding: chunked", Length::Empty),
        (&get, 101, "Upgrade: a", Length::Tunnel),
        (&get, 101, "Content-Length: 5", Length::Tunnel),
        (&Method::CONNECT, 200, "Content-Length: 5", Length::Tunnel),
        (&Method::CONNECT, 200, "Content-Length: x", Length::Tunnel),
        (
            &Method::CONNECT,
            299,
            "Transfer-Encoding: a",
            Length::Tunnel,
        ),
        (&Method::CONNECT, 300, "Content-Length: 5", Length::Exact(5)),
        (&Method::CONNECT, 407, "", Length::UntilClose),
        (&get, 205, "", Length::UntilClose),
        (&get, 200, "Content-Length: 0", Length::Empty),
        (&get, 200, "Content-Length: 5", Length::Exact(5)),
        (&get, 200, "Transfer-Encoding: chunked", Length::Chunked),
        (&get, 999, "", Length::UntilClose),
    ];
    for (asked, status, line, length) in table {
        let line = if line.is_empty() {
            String::new()
        } else {
            format!("{line}\r\n")
        };
        let bytes = format!("HTTP/1.1 {status} x\r\n{line}\r\n");
        let found = whole(asked, bytes.as_bytes());
        assert_eq!(found.length, length, "{asked} {bytes:?}");
        let ends = matches!(length, Length::UntilClose | Length::Tunnel);
        let persistence = if ends {
            Persistence::Close
        } else {
            Persistence::KeepAlive
        };
        assert_eq!(found.persistence, persistence, "{asked} {bytes:?}");
    }
}

/// A response that has no body is not forgiven what would frame one: whoever reads it otherwise
/// would wait for it.
#[test]
fn framing_is_checked_where_there_is_no_body() {
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: x\r\n",
    ] {
        for (asked, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
            let bytes = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
            let found = response_to(&asked, bytes.as_bytes());
            assert_eq!(found.unwrap_err(), Error::ContentLength, "{bytes:?}");
        }
    }
}

/// RFC 9112 9.3.
#[test]
fn a_response_of_1_0_ends_its_connection() {
    let persistence = |head: &str| {
        let bytes = format!("{head}\r\nContent-Length: 0\r\n\r\n");
        whole(&Method::GET, bytes.as_bytes()).persistence
    };
    assert_eq!(persistence("HTTP/1.1 200 OK"), Persistence::KeepAlive);
    assert_eq!(persistence("HTTP/1.0 200 OK"), Persistence::Close);
    let kept = persistence("HTTP/1.0 200 OK\r\nConnection: Keep-Alive");
    assert_eq!(kept, Persistence::KeepAlive);
    let closed = persistence("HTTP/1.1 200 OK\r\nConnection: close");
    assert_eq!(closed, Persistence::Close);
}
