use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::*;

#[test]
fn a_request_that_was_written_is_read_back() {
    let mut out = Vec::new();
    request_line(&mut out, "PUT", [&b"/a"[..], b"?", b"b=c"]);
    field(&mut out, b"Host", b"h");
    field(&mut out, b"X-Empty", b"");
    end_head(&mut out, true, Persistence::KeepAlive);
    assert_eq!(out, b"PUT /a?b=c HTTP/1.1\r\nHost: h\r\nX-Empty: \r\n\r\n");
    let mut table = FieldTable::new();
    let line = parse_request(&out, &LIMITS, &mut table).unwrap().unwrap();
    assert_eq!((line.method, line.len), (Method::PUT, out.len()));
    assert_eq!(text(line.target.path, &out), "/a");
    assert_eq!(text(line.target.query.unwrap(), &out), "b=c");
    assert_eq!(lines(&out, &table).len(), 2);
}

#[test]
fn a_response_that_was_written_is_read_back() {
    let table: [(u16, &[u8], &str); 4] = [
        (200, b"", "OK"),
        (404, b"Nowhere to be  seen", "Nowhere to be  seen"),
        (299, b"", ""),
        (503, b"Service Unavailable", "Service Unavailable"),
    ];
    for (code, reason, expected) in table {
        let status = StatusCode::from_u16(code).unwrap();
        let mut out = Vec::new();
        status_line(&mut out, status, reason);
        field(&mut out, b"Content-Length", b"3");
        end_head(&mut out, true, Persistence::KeepAlive);
        let line = response(&out).unwrap().unwrap();
        assert_eq!(line.status, status);
        assert_eq!(text(line.reason, &out), expected);
        assert_eq!((line.length, line.len), (Length::Exact(3), out.len()));
    }
}

/// Whatever the version says without words is not said.
#[test]
fn what_becomes_of_the_connection_is_read_back() {
    for is_http_11 in [true, false] {
        for persistence in [Persistence::KeepAlive, Persistence::Close] {
            let version = if is_http_11 { "1.1" } else { "1.0" };
            let mut out = format!("GET / HTTP/{version}\r\n").into_bytes();
            end_head(&mut out, is_http_11, persistence);
            let line = accepted(&out);
            assert_eq!((line.persistence, line.len), (persistence, out.len()));
            let is_said = is_http_11 != (persistence == Persistence::KeepAlive);
            assert_eq!(out.len() > 20, is_said, "{}", shown(&out));
        }
    }
}

#[test]
fn a_chunk_size_is_hexadecimal() {
    let sizes = [1, 9, 10, 15, 16, 255, 256, 65_536, usize::MAX];
    let lines = sizes.map(|it| ChunkSize::new(it).as_bytes().to_vec());
    let expected = sizes.map(|it| format!("{it:x}\r\n").into_bytes());
    assert_eq!(lines, expected);
}

#[test]
fn trailers_that_were_written_are_read_back() {
    let mut out = Vec::new();
    last_chunk(&mut out, None);
    assert_eq!(out, b"0\r\n\r\n");
    last_chunk(&mut out, Some(&HeaderMap::new()));
    assert_eq!(out, b"0\r\n\r\n0\r\n\r\n");

    let mut trailers = HeaderMap::new();
    for value in ["b", "", "c, d"] {
        let name = HeaderName::from_static("grpc-status");
        trailers.append(name, HeaderValue::from_static(value));
    }
    let mut out = Vec::new();
    last_chunk(&mut out, Some(&trailers));
    let (body, ended) = read_body(Length::Chunked, [&out[..]]);
    assert_eq!((body.end, ended), (Some(out.len()), Ok(())));
    assert_eq!(parse_trailers(&body.trailers).unwrap(), trailers);
}
