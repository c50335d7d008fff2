use proptest::prelude::*;

use super::*;

/// What a reader that takes no byte too many finds, and how many bytes it took.
fn read(bytes: &[u8]) -> Result<(Option<SocketAddr>, usize), Option<Malformed>> {
    let mut have = 0;
    loop {
        match parse(&bytes[..have]) {
            Ok(Progress::Whole(client)) => return Ok((client, have)),
            Ok(Progress::Missing(more)) if have + more <= bytes.len() => have += more,
            Ok(Progress::Missing(_)) => return Err(None),
            Err(malformed) => return Err(Some(malformed)),
        }
    }
}

fn binary(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE_2, &[command, family], &length.to_be_bytes(), rest].concat()
}

#[test]
fn lines_of_the_specification() {
    let after = "GET / HTTP/1.1\r\n\r\n";
    for (line, client) in [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Some("255.255.255.255:65535"),
        ),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 0 80\r\n",
            Some("192.0.2.1:0"),
        ),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            Some("192.0.2.1:1"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        (
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            None,
        ),
    ] {
        let whole = [line, after].concat();
        let client = client.map(|it| it.parse().unwrap());
        assert_eq!(read(whole.as_bytes()), Ok((client, line.len())), "{line}");
    }
}

#[test]
fn what_is_no_line_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4\r192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP6 ::1 192.0.2.2 1 2\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UNKNOWN \n\r\n",
        "PROXY         \r\n",
    ] {
        assert_eq!(
            read(line.as_bytes()),
            Err(Some(Malformed::Line)),
            "{line:?}"
        );
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX));
    assert_eq!(read(long.as_bytes()), Err(Some(Malformed::Length)));
    for other in [
        "GET / HTTP/1.1\r\n\r\n",
        "PROXYTCP4 192.0.2.1 ",
        "proxy UNKNOWN\r\n",
        "\r\n\r\nGET / HTTP/1.1",
    ] {
        assert_eq!(
            read(other.as_bytes()),
            Err(Some(Malformed::Signature)),
            "{other:?}"
        );
    }
    // It is known at once what is none, and a half one is none yet.
    assert_eq!(parse(b"G"), Err(Malformed::Signature));
    assert_eq!(read(b"PROXY TCP4 192.0."), Err(None));
}

#[test]
fn binary_headers() {
    let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80];
    let v4_with_tlv = [&v4[..], &[4, 0, 1, 0]].concat();
    let mut v6 = [0; 36];
    (v6[15], v6[33]) = (1, 7);
    let client = |text: &str| Some(text.parse().unwrap());
    for (header, found) in [
        (binary(0x21, 0x11, 12, &v4), client("192.0.2.1:12345")),
        (
            binary(0x21, 0x11, 16, &v4_with_tlv),
            client("192.0.2.1:12345"),
        ),
        (binary(0x21, 0x21, 36, &v6), client("[::1]:7")),
        // LOCAL, whatever it says beside; what is no TCP; nothing.
        (binary(0x20, 0x11, 12, &v4), None),
        (binary(0x21, 0x12, 12, &v4), None),
        (binary(0x21, 0x31, 216, &[0; 216]), None),
        (binary(0x21, 0x00, 0, &[]), None),
        (binary(0x21, 0xff, 3, &[1, 2, 3]), None),
    ] {
        let whole = [&header[..], b"after"].concat();
        assert_eq!(read(&whole), Ok((found, header.len())), "{header:?}");
    }
    for (header, malformed) in [
        (binary(0x11, 0x11, 12, &v4), Malformed::Command),
        (binary(0x22, 0x11, 12, &v4), Malformed::Command),
        (binary(0x21, 0x11, 11, &v4), Malformed::Length),
        (binary(0x21, 0x21, 12, &v4), Malformed::Length),
        (binary(0x21, 0x11, 521, &[0; 521]), Malformed::Length),
    ] {
        assert_eq!(read(&header), Err(Some(malformed)), "{header:?}");
    }
    assert_eq!(read(&binary(0x21, 0x11, 12, &v4[..11])), Err(None));
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

proptest! {
    #[test]
    fn what_is_written_is_read(client in address(), local in address(), version in prop_oneof![Just(Version::V1), Just(Version::V2)]) {
        let written = header(version, Some(Ends { client, local }));
        prop_assert_eq!(read(&written), Ok((Some(client), written.len())));
        let written = header(version, None);
        prop_assert_eq!(read(&written), Ok((None, written.len())));
    }

    #[test]
    fn nothing_is_taken_that_is_not_the_headers(bytes in prop::collection::vec(any::<u8>(), 0..600), begin in 0..3_usize) {
        let begin = [&b""[..], SIGNATURE_1, SIGNATURE_2][begin];
        let bytes = [begin, &bytes].concat();
        if let Ok((_, len)) = read(&bytes) {
            prop_assert!((SHORTEST..=HEADER_MAX).contains(&len));
        }
    }
}
