use std::net::IpAddr;
use std::time::Duration;

use http::Method;

use super::super::outcome::Line;
use super::*;
use crate::cluster::counters::Class;
use crate::reason::Reason;

const TIME: &str = "2025-07-01T00:00:00.042Z";

fn line(target: &str, authority: &str) -> Line {
    Line {
        method: Some(Method::GET),
        target: target.to_owned(),
        version: Some(Version::HTTP_11),
        authority: authority.to_owned(),
        client: Some(IpAddr::from([127, 0, 0, 1])),
        ..Line::default()
    }
}

/// A request that a node answered.
fn answered(line: &Line) -> Record<'_> {
    Record {
        line,
        route: "users",
        pattern: None,
        cluster: "c",
        shard: "s0",
        node: "a",
        target: None,
        status: Some(200),
        class: Class::Success,
        reason: None,
        attempts: 2,
        bytes: 1024,
        received: 7,
        duration: Duration::from_nanos(1_234_567),
        first_byte: Some(Duration::from_nanos(1_000_001)),
        overhead: Some(Duration::from_micros(17)),
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
        received: 0,
        duration: Duration::ZERO,
        first_byte: None,
        overhead: None,
        ..answered(line)
    }
}

fn as_template(template: &Template, record: &Record<'_>) -> String {
    let mut bytes = Vec::new();
    text(&mut bytes, template, TIME, record);
    String::from_utf8(bytes).unwrap()
}

fn as_text(record: &Record<'_>) -> String {
    as_template(&Template::text(), record)
}

fn as_json(record: &Record<'_>) -> String {
    let mut bytes = Vec::new();
    json(&mut bytes, TIME, record);
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_line_of_text_has_every_field() {
    let line = line("/users/42?q=1", "app.test:80");
    assert_eq!(
        as_text(&answered(&line)),
        "2025-07-01T00:00:00.042Z 127.0.0.1 \"GET /users/42?q=1 HTTP/1.1\" 200 1024 0.001235 \
         host=app.test:80 route=users cluster=c shard=s0 node=a attempts=2 class=2xx reason=- \
         nodes=- received=7 first_byte=0.001000 overhead=0.000017"
    );
}

#[test]
fn a_line_of_text_has_dashes_for_what_is_not_known() {
    let mut line = line("*", "");
    (line.client, line.version) = (None, Some(Version::HTTP_10));
    assert_eq!(
        as_text(&unanswered(&line)),
        "2025-07-01T00:00:00.042Z - \"GET * HTTP/1.0\" - 0 0.000000 host=- route=- cluster=- \
         shard=- node=- attempts=0 class=aborted reason=no_route nodes=- received=0 first_byte=- \
         overhead=-"
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
        let found = as_text(&answered(&line));
        let expected = format!(" \"GET {expected} HTTP/1.1\" 200 ");
        assert!(found.contains(&expected), "{found}");
    }
}

#[test]
fn a_line_of_json_has_every_field() {
    let mut line = line("/users/42?q=1", "app.test:80");
    line.version = Some(Version::HTTP_2);
    assert_eq!(
        as_json(&answered(&line)),
        r#"{"time":"2025-07-01T00:00:00.042Z","client":"127.0.0.1","method":"GET","target":"/users/42?q=1","version":"HTTP/2","host":"app.test:80","status":200,"bytes":1024,"duration_seconds":0.001234567,"route":"users","cluster":"c","shard":"s0","node":"a","attempts":2,"class":"2xx","reason":null,"nodes":[],"bytes_received":7,"first_byte_seconds":0.001000001,"overhead_seconds":0.000017000}"#
    );
}

#[test]
fn a_line_of_json_has_nulls_for_what_is_not_known() {
    let mut line = line("*", "");
    line.client = None;
    assert_eq!(
        as_json(&unanswered(&line)),
        r#"{"time":"2025-07-01T00:00:00.042Z","client":null,"method":"GET","target":"*","version":"HTTP/1.1","host":"","status":null,"bytes":0,"duration_seconds":0.000000000,"route":"","cluster":"","shard":"","node":"","attempts":0,"class":"aborted","reason":"no_route","nodes":[],"bytes_received":0,"first_byte_seconds":null,"overhead_seconds":null}"#
    );
}

#[test]
fn a_line_of_json_escapes_odd_bytes() {
    let mut line = line("/\"'\\é\n\0\u{7f}🦀", "a\t\"b\"");
    line.client = Some("2001:db8::1".parse().unwrap());
    let found = as_json(&answered(&line));
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

#[test]
fn a_template_is_filled() {
    let line = line("/users/\"42\"?q=1", "app.test");
    for (template, expected) in [
        ("%{method} %{path} %{status}", "GET /users/\\\"42\\\" 200"),
        ("100%% %{target}|%{reason}", "100% /users/\\\"42\\\"?q=1|-"),
        ("%{duration_seconds}", "0.001235"),
    ] {
        let template = Template::parse(template).unwrap();
        assert_eq!(as_template(&template, &answered(&line)), expected);
    }
}

#[test]
fn durations_are_rounded_once() {
    let line = line("*", "");
    let template = Template::parse("%{duration_seconds}").unwrap();
    for (nanos, expected) in [
        (499, "0.000000"),
        (500, "0.000001"),
        (999_999_500, "1.000000"),
        (61_000_000_000, "61.000000"),
    ] {
        let record = Record {
            duration: Duration::from_nanos(nanos),
            ..answered(&line)
        };
        assert_eq!(as_template(&template, &record), expected);
    }
}

#[test]
fn what_failed_is_named_as_the_metric_names_it() {
    for (failure, expected) in [
        (Failure::Connect, "connect"),
        (Failure::Reset { pooled: true }, "reset"),
        (Failure::Left, "ejected"),
        (Failure::Status(503), "503"),
        (
            Failure::Grpc(crate::retry::GrpcCode::UNAVAILABLE),
            "unavailable",
        ),
    ] {
        let mut bytes = Vec::new();
        failed(&mut bytes, failure);
        assert_eq!(bytes, expected.as_bytes());
    }
}
