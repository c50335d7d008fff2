use super::*;

/// The target as authority, path and query, of a request that is right.
fn target(method: &str, target: &str) -> (String, String, Option<String>) {
    let bytes = format!("{method} {target} HTTP/1.1\r\n\r\n").into_bytes();
    let found = accepted(&bytes).target;
    let owned = |span| text(span, &bytes).to_owned();
    (
        owned(found.authority),
        owned(found.path),
        found.query.map(owned),
    )
}

/// RFC 9112 3.2.1 to 3.2.4.
#[test]
fn each_form_of_target_is_taken_apart() {
    let table = [
        ("GET", "/", "", "/", None),
        ("GET", "//a//b/", "", "//a//b/", None),
        ("GET", "/a?", "", "/a", Some("")),
        ("GET", "/a?b?c/d", "", "/a", Some("b?c/d")),
        ("GET", "/?q", "", "/", Some("q")),
        ("GET", "/:80", "", "/:80", None),
        ("GET", "/%00%2f..;a=b", "", "/%00%2f..;a=b", None),
        ("GET", "/\"{}|\\^[]", "", "/\"{}|\\^[]", None),
        (
            "GET",
            "/\u{e9}?\u{e9}`{}|\\^[]",
            "",
            "/\u{e9}",
            Some("\u{e9}`{}|\\^[]"),
        ),
        ("GET", "/*", "", "/*", None),
        ("OPTIONS", "*", "", "*", None),
        ("GET", "http://h", "h", "", None),
        ("GET", "http://h/", "h", "/", None),
        ("GET", "http://h:80/a?b", "h:80", "/a", Some("b")),
        ("GET", "HTTPS://h?b", "h", "", Some("b")),
        ("GET", "http://h:/", "h:", "/", None),
        ("GET", "http://h?/b", "h", "", Some("/b")),
        ("OPTIONS", "http://h", "h", "", None),
        ("GET", "http://[::1]:80/", "[::1]:80", "/", None),
        ("GET", "http://[::1]/", "[::1]", "/", None),
        ("CONNECT", "h:443", "h:443", "", None),
        ("CONNECT", "[::1]:443", "[::1]:443", "", None),
        ("CONNECT", "1.2.3.4:0", "1.2.3.4:0", "", None),
        ("connect", "/", "", "/", None),
    ];
    for (method, sent, authority, path, query) in table {
        let expected = (
            authority.to_owned(),
            path.to_owned(),
            query.map(str::to_owned),
        );
        assert_eq!(target(method, sent), expected, "{method} {sent}");
    }
}

#[test]
fn other_targets_are_refused() {
    let table = [
        ("GET", "a"),
        ("GET", "a/b"),
        ("GET", "?a"),
        ("GET", "*"),
        ("POST", "*"),
        ("options", "*"),
        ("OPTIONS", "**"),
        ("OPTIONS", "*?a"),
        ("GET", "h:80"),
        ("GET", "ftp://h/"),
        ("GET", "http:/h/"),
        ("GET", "http:h"),
        ("GET", "http://"),
        ("GET", "http:///a"),
        ("GET", "http://:80/"),
        ("GET", "http://u@h/"),
        ("GET", "http://u:p@h/"),
        ("GET", "http://h:+80/"),
        ("GET", "http://h:65536/"),
        ("GET", "http://h:a/"),
        ("GET", "http://h:1:2/"),
        ("GET", "http://h%41/"),
        ("GET", "http://h\\a/"),
        ("GET", "http://h#a"),
        ("GET", "http://\u{e9}/"),
        ("GET", "http://[::1/"),
        ("GET", "http://[::1]a/"),
        ("GET", "http://[::1%25eth0]/"),
        ("GET", "http://[h]/"),
        ("GET", "http://[]/"),
        ("GET", "http://::1/"),
        ("GET", "/a#b"),
        ("GET", "/a<b"),
        ("GET", "/a>b"),
        ("GET", "/a`b"),
        ("GET", "/a?b#c"),
        ("GET", "/a?b\"c"),
        ("GET", "/a?b<c"),
        ("CONNECT", "h"),
        ("CONNECT", "h:"),
        ("CONNECT", ":443"),
        ("CONNECT", "/"),
        ("CONNECT", "*"),
        ("CONNECT", "http://h:443/"),
        ("CONNECT", "h:443/"),
        ("CONNECT", "u@h:443"),
        ("CONNECT", "[::1]"),
        ("CONNECT", "[::1]:"),
        ("CONNECT", "::1:443"),
    ];
    for (method, target) in table {
        let bytes = format!("{method} {target} HTTP/1.1\r\n\r\n");
        assert_eq!(refused(bytes.as_bytes()), Error::Target, "{bytes:?}");
    }
}
