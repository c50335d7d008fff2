use std::net::IpAddr;
use std::time::Duration;

use http::Method;

use super::super::outcome::Line;
use super::*;
use crate::cluster::counters::Class;

const TIME: &str = "2025-07-01T00:00:00.042Z";

fn line(target: &str, authority: &str) -> Line {
    Line {
        method: Method::GET,
        target: target.to_owned(),
        version: Version::HTTP_11,
        authority: authority.to_owned(),
        client: Some(IpAddr::from([127, 0, 0, 1])),
    }
}

/// A request that a node answered.
fn answered(line: &Line) -> Record<'_> {
    Record {
        line,
        route: "users",
        cluster: "c",
        shard: "s0",
        node: "a",
        status: Some(200),
        class: Class::Success,
        reason: None,
        attempts: 2,
        bytes: 1024,
        duration: Duration::from_nanos(1_234_567),
    }
}

/// A request of which little is known.
fn unanswered(line: &Line) -> Record<'_> {
    Record {
        route: "",
        cluster: "",
        shard: "",
        node: "",
        status: None,
        class: Class::Aborted,
        reason: Some(Reason::NoRoute),
        attempts: 0,
        bytes: 0,
        duration: Duration::ZERO,
        ..answered(line)
    }
}

fn written(write: fn(&mut Vec<u8>, &str, &Record<'_>), record: &Record<'_>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes, TIME, record);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_line_of_text_has_every_field() {
    let line = line("/users/42?q=1", "app.test:80");
    assert_eq!(
        written(text, &answered(&line)),
        "2025-07-01T00:00:00.042Z 127.0.0.1 \"GET /users/42?q=1 HTTP/1.1\" 200 1024 0.001235 \
         host=app.test:80 route=users cluster=c shard=s0 node=a attempts=2 class=2xx reason=-"
    );
}

#[test]
fn a_line_of_text_has_dashes_for_what_is_not_known() {
    let mut line = line("*", "");
    (line.client, line.version) = (None, Version::HTTP_10);
    assert_eq!(
        written(text, &unanswered(&line)),
        "2025-07-01T00:00:00.042Z - \"GET * HTTP/1.0\" - 0 0.000000 host=- route=- cluster=- \
         shard=- node=- attempts=0 class=aborted reason=no_route"
    );
}

#[test]
fn a_line_of_text_escapes_the_target() {
    for (target, expected) in [
        ("/~a b", "/~a b"),
        ("/\"x'\\", "/\\\"x\\'\\\\"),
        (
            "/é\n\r\t\0\u{7f}🦀",
            "/\\u{e9}\\n\\r\\t\\u{0}\\u{7f}\\u{1f980}",
        ),
    ] {
        let line = line(target, "[::1]");
        let found = written(text, &answered(&line));
        let expected = format!(" \"GET {expected} HTTP/1.1\" 200 ");
        assert!(found.contains(&expected), "{found}");
    }
}

#[test]
fn a_line_of_json_has_every_field() {
    let mut line = line("/users/42?q=1", "app.test:80");
    line.version = Version::HTTP_2;
    assert_eq!(
        written(json, &answered(&line)),
        r#"{"time":"2025-07-01T00:00:00.042Z","client":"127.0.0.1","method":"GET","target":"/users/42?q=1","version":"HTTP/2","host":"app.test:80","status":200,"bytes":1024,"duration_seconds":0.001234567,"route":"users","cluster":"c","shard":"s0","node":"a","attempts":2,"class":"2xx","reason":null}"#
    );
}

#[test]
fn a_line_of_json_has_nulls_for_what_is_not_known() {
    let mut line = line("*", "");
    line.client = None;
    assert_eq!(
        written(json, &unanswered(&line)),
        r#"{"time":"2025-07-01T00:00:00.042Z","client":null,"method":"GET","target":"*","version":"HTTP/1.1","host":"","status":null,"bytes":0,"duration_seconds":0.000000000,"route":"","cluster":"","shard":"","node":"","attempts":0,"class":"aborted","reason":"no_route"}"#
    );
}

#[test]
fn a_line_of_json_escapes_odd_bytes() {
    let mut line = line("/\"'\\é\n\0\u{7f}🦀", "a\t\"b\"");
    line.client = Some("2001:db8::1".parse().unwrap());
    let found = written(json, &answered(&line));
    for part in [
        r#","client":"2001:db8::1","#,
        ",\"target\":\"/\\\"'\\\\é\\n\\u0000\u{7f}🦀\",",
        r#","host":"a\t\"b\"","#,
    ] {
        assert!(found.contains(part), "{found}");
    }
    let parsed: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(parsed["target"], line.target);
}
