use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::head::{Fields, PathPattern};

/// A request: target, then header fields.
type Asked<'a> = (&'a str, &'a [(&'static str, &'a [u8])]);

const ROUTE: &str = "/users/{id}/**";

fn look(
    sources: &[&str],
    (target, lines): Asked<'_>,
    body: Body<'_>,
) -> Result<Option<Vec<u8>>, String> {
    let pattern: PathPattern = ROUTE.parse().unwrap();
    let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
    let spec = KeySpec::parse(&sources, Some(&pattern)).unwrap();
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value).unwrap();
        fields.append(HeaderName::from_static(name), value);
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let head = RequestHead {
        method: &Method::GET,
        authority: "API.test:80",
        path,
        query,
        fields: Fields::from(&fields),
        client: Some([10, 0, 0, 1].into()),
        listener: "app",
    };
    let captures = pattern.matches(path).unwrap_or_default();
    match spec.lookup(&head, &captures, body) {
        Ok(Lookup::Key(key)) => Ok(Some(key.into_owned())),
        Ok(Lookup::Missing) => Ok(None),
        Ok(Lookup::NeedsBody) => Err("needs body".to_owned()),
        Err(error) => Err(error.0),
    }
}

fn found(source: &str, asked: Asked<'_>) -> Result<Option<String>, String> {
    let key = look(&[source], asked, Body::Unread)?;
    Ok(key.map(|it| String::from_utf8_lossy(&it).into_owned()))
}

fn in_body(source: &str, json: &[u8]) -> Result<Option<String>, String> {
    let body = Body::Read {
        bytes: json,
        complete: true,
    };
    let key = look(&[source], ("/users/1", &[]), body)?;
    Ok(key.map(|it| String::from_utf8_lossy(&it).into_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with results")]
fn some(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

#[test]
fn every_source_yields() {
    let asked: Asked<'_> = (
        "/users/a%2Fb/x?tenant=t%201&t=2",
        &[("x-user", b"Ada"), ("cookie", b"a=1; sid=\"s%3D1\"; b=2")],
    );
    assert_eq!(found("header:X-User", asked), some("Ada"));
    assert_eq!(found("cookie:sid", asked), some("s=1"));
    assert_eq!(found("query:tenant", asked), some("t 1"));
    assert_eq!(found("raw:query:Tenant", asked), some("t%201"));
    assert_eq!(found("path:id", asked), some("a/b"));
    assert_eq!(found("path", asked), some("/users/a%2Fb/x"));
    assert_eq!(
        found("target", asked),
        some("/users/a%2Fb/x?tenant=t%201&t=2")
    );
    assert_eq!(found("host", asked), some("api.test"));
    assert_eq!(found("client_ip", asked), some("10.0.0.1"));
    assert_eq!(found("{query:t}-{path:id}{{}}", asked), some("2-a/b{}"));
}

#[test]
fn absent_and_empty_are_missing() {
    let asked: Asked<'_> = (
        "/users/1?empty=&flag",
        &[("x-empty", b""), ("cookie", b"e=; q=\"\"")],
    );
    for source in [
        "header:x-none",
        "header:x-empty",
        "cookie:none",
        "cookie:e",
        "cookie:q",
        "query:none",
        "query:empty",
        "query:flag",
        "raw:query:empty",
        "{header:x-none}/{path:id}",
    ] {
        assert_eq!(found(source, asked), Ok(None), "{source}");
    }
}

#[test]
fn escapes_are_decoded_once_and_malformed_ones_stay() {
    let asked: Asked<'_> = (
        "/users/%2541?q=%zz%4&p=a+b&%71=1",
        &[("x", b"%41"), ("cookie", b"c=%2541")],
    );
    assert_eq!(found("path:id", asked), some("%41"));
    assert_eq!(found("query:p", asked), some("a+b"));
    assert_eq!(found("header:x", asked), some("%41"));
    assert_eq!(found("cookie:c", asked), some("%41"));
    // A name is decoded before it is compared, so this q has two values.
    assert_eq!(found("query:q", asked), Err("query q".to_owned()));
}

#[test]
fn keys_are_any_bytes() {
    let asked: Asked<'_> = ("/users/%ff%00", &[("x", b"\xc3\xa4\xff")]);
    assert_eq!(
        look(&["path:id"], asked, Body::Unread),
        Ok(Some(vec![0xff, 0]))
    );
    assert_eq!(
        look(&["header:x"], asked, Body::Unread),
        Ok(Some(b"\xc3\xa4\xff".to_vec()))
    );
}

#[test]
fn repeats_must_agree() {
    let equal: Asked<'_> = (
        "/users/1?a=1&a=%31",
        &[("x", b"1"), ("x", b"1"), ("cookie", b"c=1; c=1")],
    );
    for source in ["header:x", "cookie:c", "query:a"] {
        assert_eq!(found(source, equal), some("1"), "{source}");
    }
    let differing: Asked<'_> = (
        "/users/1?a=1&a=2",
        &[
            ("x", b"1"),
            ("x", b"2"),
            ("cookie", b"c=1"),
            ("cookie", b"c=2"),
        ],
    );
    for source in ["header:x", "cookie:c", "query:a"] {
        assert!(found(source, differing).is_err(), "{source}");
    }
    // nginx takes the first.
    assert_eq!(found("raw:query:a", differing), some("1"));
}

#[test]
fn the_first_source_that_yields_wins() {
    let asked: Asked<'_> = ("/users/1", &[("b", b"2")]);
    let sources = ["header:a", "header:b", "path:id"];
    assert_eq!(look(&sources, asked, Body::Unread), Ok(Some(b"2".to_vec())));
    // The body is not asked for when something before it yields.
    let sources = ["header:b", "body:/id"];
    assert_eq!(look(&sources, asked, Body::Unread), Ok(Some(b"2".to_vec())));
    let sources = ["header:a", "body:/id"];
    assert_eq!(
        look(&sources, asked, Body::Unread),
        Err("needs body".to_owned())
    );
}

#[test]
fn json_values() {
    assert_eq!(in_body("body:/id", br#"{"id":"\u00e4\n"}"#), some("ä\n"));
    assert_eq!(in_body("body:/id", br#"{"id":1.50}"#), some("1.50"));
    assert_eq!(
        in_body("body:/id", br#"{"id":123456789012345678901234567890}"#),
        some("123456789012345678901234567890")
    );
    assert_eq!(
        in_body("body:/a/1/b", br#"{"a":[{},{"b":-7}]}"#),
        some("-7")
    );
    assert_eq!(
        in_body("body:/a~1b/m~0n", br#"{"a/b":{"m~n":"x"}}"#),
        some("x")
    );
    for missing in [
        &br#"{"id":true}"#[..],
        br#"{"id":null}"#,
        br#"{"id":{}}"#,
        br#"{"id":[1]}"#,
        br#"{"id":""}"#,
        b"{}",
        br"[]",
        br#""id""#,
        b"",
        b"{",
        br#"{"id":1"#,
        br#"{"id":1} x"#,
        b"\xff",
    ] {
        assert_eq!(
            in_body("body:/id", missing),
            Ok(None),
            "{}",
            missing.escape_ascii()
        );
    }
}

#[test]
fn json_members_that_differ_are_ambiguous() {
    assert_eq!(in_body("body:/id", br#"{"id":1,"id":1}"#), some("1"));
    assert!(in_body("body:/id", br#"{"id":1,"id":2}"#).is_err());
    assert!(in_body("body:/id", br#"{"id":1,"id":null}"#).is_err());
    assert!(in_body("body:/a/id", br#"{"a":{"id":1},"a":{"id":2}}"#).is_err());
    assert_eq!(in_body("body:/id", br#"{"id":1,"x":1,"x":2}"#), some("1"));
}

#[test]
fn a_body_cut_at_the_bound_is_missing() {
    let json = br#"{"id":1}"#;
    let cut = Body::Read {
        bytes: json,
        complete: false,
    };
    assert_eq!(look(&["body:/id"], ("/users/1", &[]), cut), Ok(None));
}

#[test]
fn deep_json_is_bounded() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert_eq!(json::find(&["0".to_owned()], &deep), json::Found::Nothing);
}

#[test]
fn refuses_what_is_no_source() {
    let pattern: PathPattern = ROUTE.parse().unwrap();
    for (text, expected) in [
        ("", "header:NAME"),
        ("header", "header:NAME"),
        ("header:", "a field's name"),
        ("header:a b", "a field's name"),
        ("cookie:", "a name after the colon"),
        ("raw:cookie:x", "raw:query:NAME"),
        ("path:name", "path: and one of id"),
        ("body:id", "RFC 6901"),
        ("body:/a~2", "RFC 6901"),
        ("host:x", "header:NAME"),
        ("{path:id", "a } for each {"),
        ("path:id}", "a } for each {"),
        ("{{x}}", "a template with a {SOURCE}"),
    ] {
        let error = KeySpec::parse(&[text.to_owned()], Some(&pattern)).unwrap_err();
        assert!(error.expected.contains(expected), "{text}: {error}");
    }
    assert!(KeySpec::parse(&[], None).is_err());
    assert!(KeySpec::parse(&["path:id".to_owned()], None).is_err());
}
