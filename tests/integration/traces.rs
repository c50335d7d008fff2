//! Traces: what nodes are told of them, and what an OpenTelemetry receiver gets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use keyway::otlp::{Span, any_value::Value, span::SpanKind};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;

use crate::support::{Authority, Keyway, Node, Server, Then, python, topology, until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const STATE: (&str, &str) = ("tracestate", "a=1,b=2");

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// Takes all spans.
pub fn receiver() -> Node {
    Node::scripted("receiver", |_| takes())
}

fn takes() -> Then {
    Then::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())
}

pub fn settings(receiver: &Node, sample: &str) -> String {
    let address = receiver.address;
    format!("traces: {{ otlp: \"http://{address}\", sample: {sample} }}\n")
}

fn start(settings: &str, cluster: &str, nodes: &[&Node]) -> Keyway {
    let route = "{ name: r, match: { path: \"/{key}/**\" }, key: \"path:key\", cluster: c }";
    Keyway::start(
        &format!("{settings}routes: [{route}]\nclusters:\n  c: {{ prefer: order, {cluster} }}\n"),
        &topology(&[nodes]),
    )
}

fn spans(keyway: &Keyway, outcome: &str) -> usize {
    let outcome = format!("outcome=\"{outcome}\"");
    keyway.count("keyway_traces_spans_total", &[&outcome])
}

/// Ends the process, and says how long that took.
pub fn end(keyway: &mut Keyway) -> Duration {
    let began = Instant::now();
    keyway.signal("-TERM");
    assert!(keyway.wait().success());
    began.elapsed()
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    pub span: Span,
    pub attributes: BTreeMap<String, String>,
}

impl Received {
    pub fn is(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|it| it.code == 2)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|it| [it >> 4, it & 15]);
    digits
        .map(|it| char::from_digit(it.into(), 16).unwrap())
        .collect()
}

fn texts(attributes: Vec<keyway::otlp::KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = attributes.into_iter();
    pairs
        .map(|it| (it.key, text(it.value.unwrap().value)))
        .collect()
}

/// The spans that `receiver` got, those of keyway's requests before those of their attempts; and the
/// resources that they are of.
fn received(receiver: &Node) -> (Vec<Received>, Vec<BTreeMap<String, String>>) {
    let (mut spans, mut resources) = (Vec::new(), Vec::new());
    for request in receiver.requests() {
        let body = match request.field("content-encoding") {
            Some("gzip") => gunzipped(&request.body),
            _ => request.body,
        };
        let message = ExportTraceServiceRequest::decode(&*body).unwrap();
        for of in message.resource_spans {
            resources.push(texts(of.resource.unwrap().attributes));
            for span in of.scope_spans.into_iter().flat_map(|it| it.spans) {
                let attributes = texts(span.attributes.clone());
                spans.push(Received { span, attributes });
            }
        }
    }
    (spans, resources)
}

fn gunzipped(bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let mut command = Command::new("gzip");
    command.arg("-dc").stdin(file);
    command.output().unwrap().stdout
}

/// The request's span, and those of its attempts.
pub fn one_request(receiver: &Node) -> (Received, Vec<Received>) {
    let (spans, _) = received(receiver);
    let of = |kind: SpanKind| {
        let of_kind = spans.iter().filter(|it| it.span.kind == kind as i32);
        of_kind.cloned().collect::<Vec<_>>()
    };
    let server = of(SpanKind::Server);
    assert_eq!(server.len(), 1, "{spans:?}");
    (server[0].clone(), of(SpanKind::Client))
}

/// The collector Rotel, which sends on to `receiver` what it understood.
fn rotel(receiver: &Node) -> Server {
    let python = python("python");
    let find =
        "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
    let found = Command::new(python).args(["-c", find]).output().unwrap();
    let program = String::from_utf8(found.stdout).unwrap();
    Server::start(|folder, address| {
        let mut command = Command::new(program.trim());
        let onwards = format!("http://{}", receiver.address);
        command.args(["start", "--disable-batching", "--exporter", "otlp"]);
        command.args(["--otlp-exporter-protocol", "http"]);
        command.args(["--otlp-exporter-endpoint", &onwards]);
        command.args(["--otlp-http-endpoint", &address.to_string()]);
        command.args(["--otlp-grpc-endpoint", "127.0.0.1:0"]);
        command.current_dir(folder);
        command
    })
}

#[test]
fn a_collector_gets_a_request_and_its_attempts_as_one_trace() {
    let behind = receiver();
    let collector = rotel(&behind);
    let (a, b) = (Node::scripted("a", |_| Then::Reset), Node::start("b"));
    let otlp = format!(
        "traces: {{ otlp: \"http://{}\", sample: 0% }}\n",
        collector.address
    );
    let mut keyway = start(&otlp, "", &[&a, &b]);
    let traceparent = parent("01");
    let fields = [("traceparent", &*traceparent), STATE];
    let reply = keyway
        .client()
        .ask("GET", "/k/secret?password=x", &fields, b"");
    assert_eq!((reply.status, reply.node()), (200, "b"));
    end(&mut keyway);
    until("the spans behind the collector", || {
        !behind.requests().is_empty()
    });

    let (server, attempts) = one_request(&behind);
    assert_eq!(attempts.len(), 2);
    for it in attempts.iter().chain([&server]) {
        assert_eq!(hex(&it.span.trace_id), TRACE);
        assert!(it.span.start_time_unix_nano <= it.span.end_time_unix_nano);
        assert_eq!(it.is("http.request.method"), "GET");
        assert!(!format!("{it:?}").contains("password"));
    }
    assert_eq!(hex(&server.span.parent_span_id), CALLER);
    assert_eq!(server.span.name, "GET /{key}/**");
    for (key, value) in [
        ("http.route", "/{key}/**"),
        ("http.response.status_code", "200"),
        ("url.path", "/k/secret"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("keyway.route", "r"),
        ("keyway.cluster", "c"),
        ("keyway.shard", "s0"),
        ("keyway.node", "b"),
        ("keyway.attempts", "2"),
        ("error.type", ""),
    ] {
        assert_eq!(server.is(key), value, "{key}");
    }
    assert!(!server.is_error());
    for (at, (attempt, node)) in attempts.iter().zip([&a, &b]).enumerate() {
        assert_eq!(attempt.span.parent_span_id, server.span.span_id);
        assert_eq!(attempt.is("keyway.node"), node.id);
        assert_eq!(attempt.is("server.port"), node.address.port().to_string());
        let url = format!("http://{}/k/secret", node.address);
        assert_eq!(attempt.is("url.full"), url);
        // The node was told of that very span.
        let seen = &node.requests()[0];
        let expected = format!("00-{TRACE}-{}-01", attempt.id());
        assert_eq!(seen.field("traceparent"), Some(&*expected));
        assert_eq!(seen.field("tracestate"), Some(STATE.1));
        let times = seen.fields.iter().filter(|it| it.0 == "traceparent");
        assert_eq!(times.count(), 1);
        let resent = if at == 0 { "" } else { "1" };
        assert_eq!(attempt.is("http.request.resend_count"), resent);
    }
    let [first, second] = &attempts[..] else {
        panic!("two attempts");
    };
    assert!(first.is_error() && first.is("http.response.status_code").is_empty());
    assert_eq!(first.is("error.type"), "upstream_reset");
    assert!(!second.is_error());
    assert_eq!(second.is("http.response.status_code"), "200");
    assert_eq!(second.is("keyway.retry.reason"), "reset");
    assert!(first.span.end_time_unix_nano <= second.span.start_time_unix_nano);
    assert!(second.span.end_time_unix_nano <= server.span.end_time_unix_nano);
    let (_, resources) = received(&behind);
    assert_eq!(resources[0]["service.name"], "keyway");
}

#[test]
fn nodes_are_told_what_was_decided_of_the_trace() {
    let (receiver, node) = (receiver(), Node::start("a"));
    let mut keyway = start(&settings(&receiver, "0%"), "", &[&node]);
    let mut client = keyway.client();
    let mut told = |fields: &[(&str, &str)]| {
        assert_eq!(client.ask("GET", "/k/", fields, b"").status, 200);
        let seen = node.requests().pop().unwrap();
        let values = seen.fields.iter().filter(|it| it.0 == "traceparent");
        let values: Vec<_> = values.map(|it| it.1.clone()).collect();
        assert_eq!(values.len(), 1, "{values:?}");
        (values[0].clone(), seen.field("tracestate").is_some())
    };
    // Whose trace is not recorded goes on to whom it was meant for.
    let unsampled = parent("00");
    let passed = told(&[("traceparent", &unsampled), STATE]);
    assert_eq!(passed, (unsampled.clone(), true));
    // A trace begins here, and is none that is recorded.
    let sampled = parent("01");
    let upper = sampled.to_ascii_uppercase();
    let zeros = sampled.replace(TRACE, &"0".repeat(32));
    let forbidden = sampled.replacen("00", "ff", 1);
    for invalid in [&*upper, &*zeros, &*forbidden, "x"] {
        let (traceparent, has_state) = told(&[("traceparent", invalid), STATE]);
        assert!(traceparent.starts_with("00-") && traceparent.ends_with("-00"));
        assert!(!traceparent.contains(TRACE) && !has_state, "{invalid}");
    }
    let twice = [("traceparent", &*sampled), ("traceparent", &*sampled)];
    assert!(!told(&twice).0.contains(TRACE));
    let (first, second) = (told(&[]).0, told(&[]).0);
    assert!(first.ends_with("-00") && first[..35] != second[..35]);
    end(&mut keyway);
    assert!(receiver.requests().is_empty());
}

#[test]
fn without_traces_what_clients_say_goes_on_as_it_came() {
    let node = Node::start("a");
    let keyway = start("", "", &[&node]);
    let odd = "00-ODD";
    let fields = [("traceparent", odd), ("traceparent", odd), STATE];
    keyway.client().ask("GET", "/k/", &fields, b"");
    let seen = node.requests().pop().unwrap();
    let traced = seen.fields.iter().filter(|it| it.0.starts_with("trace"));
    let traced: Vec<_> = traced.map(|it| (&*it.0, &*it.1)).collect();
    assert_eq!(traced, fields);
    keyway.get("/k/");
    assert_eq!(node.requests()[1].field("traceparent"), None);
}

#[test]
fn a_hedge_and_what_keyway_answers_itself_are_told_as_such() {
    let taker = receiver();
    let (a, b) = (Node::scripted("a", |_| Then::Hang), Node::start("b"));
    let hedge = "attempt_timeout: 5s, hedge: { after: 20ms }";
    let mut keyway = start(&settings(&taker, "100%"), hedge, &[&a, &b]);
    assert_eq!(keyway.get("/k/").node(), "b");
    end(&mut keyway);
    let (server, attempts) = one_request(&taker);
    assert!(server.span.parent_span_id.is_empty());
    let [first, second] = &attempts[..] else {
        panic!("{attempts:?}");
    };
    assert_eq!(first.is("keyway.attempt.outcome"), "dropped");
    assert!(!first.is_error());
    assert_eq!(second.is("keyway.retry.reason"), "hedge");
    assert_eq!(second.is("http.response.status_code"), "200");

    let taker = receiver();
    let mut keyway = start(&settings(&taker, "100%"), "", &[&Node::down("a")]);
    let reply = keyway.client().ask("BREW", "/k/", &[], b"");
    let reason = reply.error().to_owned();
    end(&mut keyway);
    let (server, attempts) = one_request(&taker);
    assert_eq!(server.is("http.request.method"), "_OTHER");
    assert_eq!(server.is("http.request.method_original"), "BREW");
    assert_eq!(server.span.name, "HTTP /{key}/**");
    assert!(server.is_error());
    assert_eq!(server.is("error.type"), reason);
    assert!(!attempts.is_empty() && attempts.iter().all(Received::is_error));
}

#[test]
fn a_receiver_that_is_down_costs_spans_and_delays_nothing() {
    let node = Node::start("a");
    let mut keyway = start(&settings(&Node::down("receiver"), "100%"), "", &[&node]);
    let mut client = keyway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/k/").status, 200);
    }
    assert!(end(&mut keyway) < Duration::from_secs(4));
    let log = keyway.log().join("\n");
    assert!(
        log.contains("the last spans of traces were not taken"),
        "{log}"
    );
}

#[test]
fn a_receiver_that_hangs_fills_the_queue_and_no_request_waits() {
    let (receiver, node) = (Node::scripted("r", |_| Then::Hang), Node::start("a"));
    let mut keyway = start(&settings(&receiver, "100%"), "", &[&node]);
    let mut client = keyway.client();
    // More than a batch and the queue.
    for _ in 0..3000 {
        assert_eq!(client.get("/k/").status, 200);
    }
    until("dropped spans", || spans(&keyway, "dropped") > 0);
    assert_eq!(spans(&keyway, "exported"), 0);
    assert!(end(&mut keyway) < Duration::from_secs(4));
}

/// Answers so many requests with 503, and then takes.
fn busy(times: usize) -> impl Fn() -> Then {
    let seen = AtomicUsize::new(0);
    move || {
        if seen.fetch_add(1, Relaxed) >= times {
            return takes();
        }
        let busy = "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
        Then::Send(busy.into())
    }
}

#[test]
fn a_receiver_that_stays_busy_costs_spans_until_it_takes_them() {
    // As often as a batch is sent.
    let busy = busy(5);
    let (receiver, node) = (Node::scripted("r", move |_| busy()), Node::start("a"));
    let mut keyway = start(&settings(&receiver, "100%"), "", &[&node]);
    assert_eq!(keyway.get("/k/").status, 200);
    until("lost spans", || spans(&keyway, "failed") == 2);
    assert_eq!(spans(&keyway, "exported"), 0);
    assert_eq!(keyway.get("/k/").status, 200);
    until("spans again", || spans(&keyway, "exported") == 2);
    assert_eq!(spans(&keyway, "failed"), 2);
    assert_eq!(receiver.requests().len(), 6);
    end(&mut keyway);
    let log = keyway.log().join("\n");
    for said in ["takes no spans: they are lost", "takes spans again"] {
        assert!(log.contains(said), "{log}");
    }
}

#[test]
fn the_end_waits_for_the_last_spans() {
    let busy = busy(1);
    let receiver = Node::scripted("r", move |_| {
        // The next try comes after this answer.
        thread::sleep(Duration::from_millis(400));
        busy()
    });
    let node = Node::start("a");
    let mut keyway = start(&settings(&receiver, "100%"), "", &[&node]);
    assert_eq!(keyway.get("/k/").status, 200);
    end(&mut keyway);
    assert_eq!(receiver.requests().len(), 2);
    let log = keyway.log().join("\n");
    assert!(!log.contains("were not taken"), "{log}");
}

#[test]
fn a_busy_receiver_is_asked_again_and_what_it_refuses_is_counted() {
    let busy = busy(2);
    let (receiver, node) = (Node::scripted("r", move |_| busy()), Node::start("a"));
    let mut keyway = start(&settings(&receiver, "100%"), "", &[&node]);
    assert_eq!(keyway.get("/k/").status, 200);
    until("the same spans again", || spans(&keyway, "exported") == 2);
    assert_eq!(receiver.requests().len(), 3);
    assert_eq!(spans(&keyway, "failed"), 0);
    let request = &receiver.requests()[0];
    assert_eq!(request.line, "POST /v1/traces HTTP/1.1");
    assert_eq!(
        request.field("content-type"),
        Some("application/x-protobuf")
    );
    receiver.script(|_| {
        let answer = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: 1,
                error_message: "one is enough".to_owned(),
            }),
        };
        let body = answer.encode_to_vec();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Then::Send([head.into_bytes(), body].concat())
    });
    let before = spans(&keyway, "exported");
    assert_eq!(keyway.get("/k/").status, 200);
    until("a refused span", || spans(&keyway, "rejected") == 1);
    assert_eq!(spans(&keyway, "exported"), before + 1);
    end(&mut keyway);
}

#[test]
fn spans_go_by_tls_to_whom_the_system_believes() {
    let authority = Authority::new();
    authority.certify("otel", &["127.0.0.1"], 2040);
    let folder = authority.folder().display();
    let receiver = Server::nginx(&format!(
        "access_log FOLDER/access.log; server {{ listen LISTEN ssl; \
         ssl_certificate {folder}/otel.crt; ssl_certificate_key {folder}/otel.key; \
         location /in/v1/traces {{ return 200; }} }}"
    ));
    let node = Node::start("a");
    let believes = format!("SSL_CERT_FILE={folder}/ca.crt");
    let otlp = format!("https://{}/in/v1/traces", receiver.address);
    let route = "{ name: r, match: {}, key: path, cluster: c }";
    let mut keyway = Keyway::start_by(
        &["env", &believes],
        &format!("traces: {{ otlp: \"{otlp}\", sample: 100% }}\nroutes: [{route}]\n"),
        &topology(&[&[&node]]),
    );
    assert_eq!(keyway.get("/k/").status, 200);
    end(&mut keyway);
    let access = std::fs::read_to_string(receiver.folder.path().join("access.log")).unwrap();
    assert!(
        access.contains("POST /in/v1/traces HTTP/1.1\" 200"),
        "{access}"
    );
}

#[test]
fn a_reload_takes_traces_up() {
    let (receiver, node) = (receiver(), Node::start("a"));
    let mut keyway = start("", "", &[&node]);
    assert_eq!(keyway.get("/k/").status, 200);
    let file = keyway.path("keyway.yaml");
    let off = std::fs::read_to_string(file).unwrap();
    let generation = keyway.generation();
    let on = format!("{off}{}", settings(&receiver, "100%"));
    keyway.replace("keyway.yaml", &on);
    until("the reload", || keyway.generation() > generation);
    assert_eq!(keyway.get("/k/").status, 200);
    end(&mut keyway);
    let (server, attempts) = one_request(&receiver);
    assert_eq!((server.is("keyway.node"), attempts.len()), ("a", 1));
}

#[test]
fn what_is_no_receiver_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.yaml");
    for (otlp, finding) in [
        ("grpc://127.0.0.1:4317", "gRPC is not spoken"),
        ("127.0.0.1:4318", "a URL such as http://127.0.0.1:4318"),
    ] {
        let text = format!(
            "listeners: [{{ name: app, address: \"127.0.0.1:0\" }}]\ntraces:\n  otlp: {otlp}\n"
        );
        std::fs::write(&file, text).unwrap();
        File::create(folder.path().join("topology.yaml")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        let output = command.arg("check").arg(&file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!output.status.success());
        let place = "keyway.yaml:3";
        for part in [place, "traces.otlp", finding, otlp] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
