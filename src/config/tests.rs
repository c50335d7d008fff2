use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::assemble::{self, Surroundings};
use super::*;
use crate::cluster::desired::ClusterParams;
use crate::limits::Limits;
use crate::routing::MissingKey;

mod topologies;

/// The smallest file that is right.
const MINIMAL: &str = "listeners: [{ name: app, address: \"127.0.0.1:80\" }]\n\
                       routes: [{ name: r, match: {}, key: path, cluster: c }]\n";
const TOPOLOGY: &str = "version: 1\nclusters: { c: { shards: [{ name: s, nodes: [{ id: a, address: \"a:1\" }] }] } }\n";

fn surroundings() -> Surroundings {
    let env = [("PORT", "8080"), ("N", "3"), ("EMPTY", "")];
    Surroundings {
        overrides: Overrides::default(),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        cores: 8,
    }
}

fn assembled(text: &str) -> Result<Config, Problems> {
    let keyway = assemble::keyway(
        Path::new("k.yaml"),
        text,
        &surroundings(),
        &mut named::Named::default(),
    )?;
    let (topology, shown) = topology::parse("t.yaml", TOPOLOGY)?;
    keyway.with_topology(topology, &shown)
}

/// What is wrong with `text`, a line each, without the file's name.
fn wrong(text: &str) -> Vec<String> {
    let problems = assembled(text).expect_err("it is wrong").0;
    problems
        .iter()
        .map(|it| it.to_string().replace("k.yaml:", ""))
        .collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_mistake_is_named_with_its_place() {
    let route = |more: &str| {
        format!(
            "listeners: [{{ name: app, address: \"h:1\" }}]\nroutes:\n  - {{ name: r, match: {{ path: \"/{{id}}\" }}, key: path, cluster: c, {more} }}\n"
        )
    };
    let cluster = |more: &str| format!("{MINIMAL}clusters:\n  c:\n    {more}\n");
    let table = [
        (
            cluster("tls: { name: \"a b\", cert: a.crt }"),
            "5:31 clusters.c.tls.cert: expected a key beside it, found none",
        ),
        (
            cluster("tls: { name: \"a b\" }"),
            "5:18 clusters.c.tls.name: expected a host name or an IP address, found \"a b\"",
        ),
        (
            cluster("tls: { ca: no/such.crt }"),
            "5:16 clusters.c.tls.ca: expected a readable file, found \"no/such.crt\": No such file or directory (os error 2)",
        ),
        (
            "listeners: [{ name: app, address: \"h:1\", tls: { certificates: [] } }]\n".to_owned(),
            "1:63 listeners[0].tls.certificates: expected at least one certificate, found none",
        ),
        (
            "listeners: [{ name: app, address: \"h:1\", tls: { certificates: [{ cert: a, key: b }], client_auth: required } }]\n".to_owned(),
            "1:99 listeners[0].tls.client_auth: expected a client_ca beside it, found none",
        ),
        (
            "listeners: [{ name: app, address: \"h:1\", proxy_protocol: { from: [10.0.0.1/8] } }]\n".to_owned(),
            "1:67 listeners[0].proxy_protocol.from[0]: expected a network such as 10.0.0.0/8 or fd00::/8, an address, or unix, found \"10.0.0.1/8\"",
        ),
        (
            "listeners: [{ name: app, address: \"h:1\", forwarded: { hops: 2 } }]\n".to_owned(),
            "1:61 listeners[0].forwarded.hops: expected 0 hops, or whom to trust, found 2 and nobody in trust",
        ),
        (
            cluster("proxy_protocol: v3"),
            "5:21 clusters.c.proxy_protocol: expected one of off, v1, v2, found \"v3\"",
        ),
        (
            format!("{MINIMAL}pre_drian: 5s\n"),
            "3:12 pre_drian: expected a known key (did you mean pre_drain?), found the unknown key \"pre_drian\"",
        ),
        (
            format!("{MINIMAL}pre_drain: 5\n"),
            "3:12 pre_drain: expected a duration with its unit, such as 250ms, 5s, 1m or 2h, found the number 5",
        ),
        (
            format!("{MINIMAL}pre_drain: 5 s\n"),
            "3:12 pre_drain: expected a duration with its unit, such as 250ms, 5s, 1m or 2h, found \"5 s\"",
        ),
        (
            format!("{MINIMAL}threads: 0\n"),
            "3:10 threads: expected auto or a number of threads from 1 to 256, found the number 0",
        ),
        (
            format!("{MINIMAL}access_log: xml\n"),
            "3:13 access_log: expected off, text, json, or keys such as format, found \"xml\"",
        ),
        (
            format!("{MINIMAL}access_log: {{ format: xml }}\n"),
            "3:23 access_log.format: expected off, text, json or a template such as %{method} %{target} %{status}, found \"xml\"",
        ),
        (
            format!("{MINIMAL}access_log: {{ format: \"%{{methud}}\" }}\n"),
            "3:23 access_log.format: expected one of the fields time, client, method, target, path, version, host, status, bytes, duration_seconds, route, cluster, shard, node, attempts, class, reason, nodes, bytes_received, first_byte_seconds, overhead_seconds, found %{methud}",
        ),
        (
            format!("{MINIMAL}access_log: {{ only: \"slow:1\" }}\n"),
            "3:21 access_log.only: expected all, errors, or slow: with a duration, such as slow:1s, found \"slow:1\"",
        ),
        (
            format!("{MINIMAL}access_log: {{ sample: 1.5 }}\n"),
            "3:23 access_log.sample: expected a percentage from 0% to 100%, found the number 1.5",
        ),
        (
            format!("{MINIMAL}log: {{ level: verbose }}\n"),
            "3:15 log.level: expected a level (error, warn, info, debug, trace or off), or directives such as info,keyway::proxy=debug, found \"verbose\"",
        ),
        (
            format!("{MINIMAL}limits: {{ a: 1 }}\n"),
            "3:14 limits.a: expected one of head_bytes, head_fields, target_bytes, head_wait, body_wait, idle, connections, streams, requests_per_connection, connection_age, body_bytes, stream_buffer, buffered_bytes, resets_per_second, drain_bytes, found the unknown key \"a\"",
        ),
        (
            route("timeout: 0s"),
            "3:74 routes[0].timeout: expected a duration above 0 with its unit, such as 250ms, 5s, 1m or 2h, found \"0s\"",
        ),
        (
            route("on_missing_key: drop"),
            "3:81 routes[0].on_missing_key: expected reject, spread or value:TEXT, found \"drop\"",
        ),
        (
            cluster("quorum: {}"),
            "5:13 clusters.c.quorum: expected one of protocol, authority, connect_timeout, attempt_timeout, hold, hedge, deadline_header, retry, eject, probe, slow_start, balance, caps, pool, prefer, when_shard_down, max_moved, annotate, tls, path, proxy_protocol, found the unknown key \"quorum\"",
        ),
        (
            cluster("probe: { tcp: {}, http: {} }"),
            "5:29 clusters.c.probe.http: expected one of tcp, http and grpc, found more than one",
        ),
        (
            cluster("probe: { http: { path: healthz } }"),
            "5:28 clusters.c.probe.http.path: expected a path such as /healthz, found \"healthz\"",
        ),
        (
            cluster("probe: { http: { expect: [200, 399-300] } }"),
            "5:36 clusters.c.probe.http.expect[1]: expected a status code from 200 to 599, a range such as 200-399, or a list of them, found \"399-300\"",
        ),
        (
            cluster("probe: { http: { expect: 101 } }"),
            "5:30 clusters.c.probe.http.expect: expected a status code from 200 to 599, a range such as 200-399, or a list of them, found the number 101",
        ),
        (
            cluster("probe: { http: { host: \"a/b\" } }"),
            "5:28 clusters.c.probe.http.host: expected a host, with its port if need be, found \"a/b\"",
        ),
        (
            cluster("probe: { http: { body: \"(\" } }"),
            "5:28 clusters.c.probe.http.body: expected a regular expression, found \"(\"",
        ),
        (
            cluster("probe: { fall: 0 }"),
            "5:20 clusters.c.probe.fall: expected a whole number from 1 to 255, found the number 0",
        ),
        (
            cluster("probe: { port: 0 }"),
            "5:20 clusters.c.probe.port: expected a whole number from 1 to 65535, found the number 0",
        ),
        (
            cluster("probe: { when: never }"),
            "5:20 clusters.c.probe.when: expected one of idle_or_suspect, always, off, found \"never\"",
        ),
        (
            cluster("retry: { attempts: 0 }"),
            "5:24 clusters.c.retry.attempts: expected 1 to 16 attempts, found 0",
        ),
        (
            cluster("retry: { attempts: 17 }"),
            "5:24 clusters.c.retry.attempts: expected 1 to 16 attempts, found 17",
        ),
        (
            cluster("retry: { replay_max: 64 }"),
            "5:26 clusters.c.retry.replay_max: expected a size with its unit, such as 512B, 64KiB or 16MiB, found the number 64",
        ),
        (
            cluster("retry: { on: [connect, 404] }"),
            "5:28 clusters.c.retry.on[1]: expected connect, reset, timeout or a status code 429 or 500 to 599, found the number 404",
        ),
        (
            cluster("retry: { methods: safe, on_timeout: idempotent }"),
            "5:41 clusters.c.retry.on_timeout: expected no more methods than retry.methods allows, found idempotent",
        ),
        (
            cluster("retry: { budget: { ratio: 120% } }"),
            "5:31 clusters.c.retry.budget.ratio: expected a percentage from 0% to 100%, found \"120%\"",
        ),
        (
            cluster("pool: { max_connections: 0 }"),
            "5:30 clusters.c.pool.max_connections: expected at least 1 connection, found 0",
        ),
        (
            cluster("annotate: { request: [colour] }"),
            "5:27 clusters.c.annotate.request[0]: expected one of shard, node, epoch, attempts, found \"colour\"",
        ),
        (
            "routes: []\n".to_owned(),
            "1:1: expected a key listeners, found none",
        ),
        (
            "listeners: []\n".to_owned(),
            "1:12 listeners: expected at least one listener, found none",
        ),
        (
            MINIMAL.replace("name: app", "name: \"a b\""),
            "1:21 listeners[0].name: expected a name of 1 to 255 printable characters, found \"a b\"",
        ),
        (
            MINIMAL.replace("127.0.0.1:80", "127.0.0.1"),
            "1:35 listeners[0].address: expected host:port, [ipv6]:port or unix:/absolute/path, found \"127.0.0.1\"",
        ),
        (
            MINIMAL.replace("key: path", "key: path:id"),
            "2:37 routes[0].key: expected a path pattern with a {name} for path:NAME, found \"path:id\"",
        ),
        (
            MINIMAL.replace("{}", "{ listener: other }"),
            "2:40 routes[0].match.listener: expected the name of a listener (app), found \"other\"",
        ),
        (
            MINIMAL.replace("{}", "{ host: \"a:80\" }"),
            "2:36 routes[0].match.host: expected a host without a port, such as api.local or [::1], found \"a:80\"",
        ),
        (
            MINIMAL.replace("{}", "{ path: users }"),
            "2:36 routes[0].match.path: expected a path that begins with /, found \"users\"",
        ),
        (
            MINIMAL.replace("cluster: c", "cluster: d"),
            "2:52 routes[0].cluster: expected the name of a cluster in the topology, found \"d\"",
        ),
        (
            format!("{MINIMAL}zone: ${{UNSET}}\n"),
            "3:7 zone: expected the name of a set environment variable as ${NAME}, found \"UNSET\", which is not set",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(wrong(&text), [expected], "{text}");
    }
}

#[test]
fn everything_is_told_at_once_in_the_order_of_lines() {
    let text = "listeners: [{ name: app, adress: \"h:1\" }, { name: b, address: \"h:2\" }, { name: b, address: \"h:3\" }]\n\
                pre_drain: 5\n\
                routes:\n  - { name: r, match: {}, key: pth, cluster: c }\n  - { name: r, match: {}, key: path }\n\
                clusters: { c: { retry: { attempts: 99 }, prefer: luck } }\n";
    let places: Vec<_> = wrong(text)
        .iter()
        .map(|it| it.split(": ").next().unwrap().to_owned())
        .collect();
    let expected = [
        "1:13 listeners[0]",
        "1:34 listeners[0].adress",
        "1:80 listeners[2].name",
        "2:12 pre_drain",
        "4:32 routes[0].key",
        "5:5 routes[1]",
        "6:37 clusters.c.retry.attempts",
        "6:51 clusters.c.prefer",
    ];
    assert_eq!(places, expected);
}

#[test]
fn a_value_that_is_wrong_is_not_missing_too() {
    let text = MINIMAL.replace("name: app", "name: [app]");
    assert_eq!(wrong(&text).len(), 1, "{:?}", wrong(&text));
}

#[test]
fn what_is_no_yaml_stops_at_the_first_place() {
    for text in [
        "listeners: [",
        "a: b: c",
        "\t- x",
        "listeners: {}\nlisteners: {}\n",
        "- 1\nb: 2\n",
        "&a [*a",
    ] {
        assert_eq!(wrong(text).len(), 1, "{text}: {:?}", wrong(text));
    }
    assert!(!wrong("").is_empty() && !wrong("42").is_empty() && !wrong("\u{0}").is_empty());
}

#[test]
fn bombs_are_bounded() {
    let deep = format!("zone: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(wrong(&deep).len(), 1);
    let mut aliases = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..60 {
        let below = level - 1;
        writeln!(
            aliases,
            "a{level}: &a{level} [*a{below}, *a{below}, *a{below}]"
        )
        .unwrap();
    }
    assert!(!wrong(&aliases).is_empty());
}

#[test]
fn the_environment_is_put_in_after_parsing() {
    let text = MINIMAL.replace("127.0.0.1:80", "127.0.0.1:${PORT}")
        + "threads: ${N}\nzone: \"$${N}${EMPTY}\"\nclusters: { c: { retry: { attempts: \"${N}\" } } }\n";
    let config = assembled(&text).unwrap();
    assert_eq!(
        config.process.listeners[0].address.to_string(),
        "127.0.0.1:8080"
    );
    assert_eq!(config.process.threads.get(), 3);
    assert_eq!(config.desired.zone, "${N}");
    assert_eq!(config.desired.clusters["c"].retry.attempts, 3);
    let shown: serde_json::Value = serde_json::from_str(&config.desired.shown).unwrap();
    assert_eq!(shown["keyway"]["threads"], "${N}");
}

#[test]
fn limits_are_within_what_can_be_kept() {
    let limits = |text: &str| {
        let config = assembled(&format!("{MINIMAL}limits: {{ {text} }}\n"));
        config.map(|it| it.desired.limits)
    };
    let set = limits("head_bytes: 64KiB, requests_per_connection: 5, body_bytes: 1MiB").unwrap();
    assert_eq!(set.head.bytes, 64 << 10);
    assert_eq!(set.requests_per_connection, Some(5));
    assert_eq!(set.body_bytes, Some(1 << 20));
    let off = limits("requests_per_connection: off, connection_age: off, body_bytes: off");
    assert_eq!(off.unwrap(), Limits::default());
    for (text, expected) in [
        ("head_bytes: 65KiB", "a size from 1024B to 64KiB"),
        ("head_fields: 257", "a number from 1 to 256"),
        ("target_bytes: 0B", "a size from 1B to 32KiB"),
        ("connections: 0", "a number from 1"),
        ("streams: 0", "a number from 1"),
        ("resets_per_second: 0", "a number from 1"),
        ("requests_per_connection: 0", "at least 1, or off"),
        ("body_bytes: lots", "a size with its unit"),
        ("idle: 0s", "a duration above 0"),
    ] {
        let problems = limits(text).expect_err(text).0;
        let problem = problems[0].to_string();
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn the_examples_load_and_spell_out_the_defaults() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let (_, config, _) = Loader::open(folder.join("keyway.yaml"), Overrides::default()).unwrap();
    let minimal = assembled(MINIMAL).unwrap();
    assert_eq!(config.desired.clusters["users"], ClusterParams::default());
    assert_eq!(config.process.admin, minimal.process.admin);
    let (spelled, default) = (&config.desired, &minimal.desired);
    assert_eq!(spelled.zone, default.zone);
    assert_eq!(
        (spelled.pre_drain, spelled.drain_timeout),
        (default.pre_drain, default.drain_timeout)
    );
    assert_eq!(spelled.access_log, default.access_log);
    assert_eq!(spelled.metrics, default.metrics);
    assert_eq!(spelled.log, default.log);
    assert_eq!(spelled.limits, default.limits);
    let (spelled, default) = (&spelled.routes[0], &default.routes[0]);
    assert_eq!(
        (spelled.timeout, spelled.idle_timeout),
        (default.timeout, default.idle_timeout)
    );
    assert_eq!(spelled.on_missing_key, MissingKey::Reject);
    assert_eq!(default.on_missing_key, MissingKey::Reject);
    assert!(!spelled.honour_idempotency_key && !default.honour_idempotency_key);
}

fn schema_refuses(schema: &serde_json::Value, yaml: &str) -> bool {
    // As the parser reads it: `off` is a text.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: serde_json::Value = serde_saphyr::from_str_with_options(yaml, options).unwrap();
    !jsonschema::validator_for(schema).unwrap().is_valid(&value)
}

#[test]
fn the_schemas_accept_the_examples_and_refuse_mistakes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let (keyway, topology) = (keyway_schema(), topology_schema());
    assert!(!schema_refuses(&keyway, &read("keyway.yaml")));
    assert!(!schema_refuses(&topology, &read("topology.yaml")));
    assert!(!schema_refuses(&keyway, MINIMAL) && !schema_refuses(&topology, TOPOLOGY));
    for more in [
        "pre_drian: 5s",
        "pre_drain: 5",
        "threads: 0",
        "access_log: xml",
        "access_log: { format: xml }",
        "access_log: { only: slow }",
        "log: { level: verbose }",
        "log: { format: xml }",
        "metrics: { detail: pod }",
        "clusters: { c: { probe: { http: { expect: 101 } } } }",
        "clusters: { c: { retry: { on: [404] } } }",
        "limits: { head_bytes: 32 }",
        "limits: { body_bytes: on }",
    ] {
        assert!(
            schema_refuses(&keyway, &format!("{MINIMAL}{more}\n")),
            "{more}"
        );
    }
    assert!(schema_refuses(&keyway, "routes: []\n"));
    assert!(schema_refuses(&topology, "clusters: {}\n"));
    assert!(schema_refuses(
        &topology,
        "version: 1\nclusters: { c: { shards: [{ name: s }] } }\n"
    ));
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("huge.yaml"), vec![b'#'; (16 << 20) + 1]).unwrap();
    fs::write(path("binary.yaml"), b"\xff\xfe").unwrap();
    fs::create_dir(path("folder.yaml")).unwrap();
    for (name, found) in [
        ("huge.yaml", "more than 16 MiB"),
        ("binary.yaml", "invalid utf-8"),
        ("folder.yaml", "no regular file"),
        ("gone.yaml", "No such file"),
    ] {
        let error = Loader::open(path(name), Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && error.contains(found), "{error}");
    }
}

#[test]
fn the_topology_is_found_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/t.yaml"), TOPOLOGY).unwrap();
    let keyway = folder.path().join("keyway.yaml");
    fs::write(&keyway, format!("{MINIMAL}topology: sub/t.yaml\n")).unwrap();
    let (loader, config, _) = Loader::open(keyway.clone(), Overrides::default()).unwrap();
    assert_eq!(config.process.topology, folder.path().join("sub/t.yaml"));
    let paths: Vec<PathBuf> = loader.paths().map(Path::to_owned).collect();
    assert_eq!(paths, [keyway, folder.path().join("sub/t.yaml")]);
}

#[test]
fn flags_mean_what_files_mean() {
    let flags = |listen: &str, key: &str, nodes: &[&str]| {
        let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
        let overrides = Overrides {
            zone: Some("z".to_owned()),
            ..Overrides::default()
        };
        Config::from_flags(
            &[listen.to_owned()],
            &[key.to_owned()],
            &nodes,
            &overrides,
            2,
        )
    };
    let config = flags("h:1", "header:x", &["a=h:2", "b=unix:/s"]).unwrap();
    assert_eq!(config.desired.zone, "z");
    assert_eq!(config.desired.topology.clusters["nodes"].shards.len(), 2);
    assert!(flags("h", "header:x", &["a=h:2"]).is_err());
    assert!(flags("h:1", "x", &["a=h:2"]).is_err());
    let error = flags("h:1", "path", &["a"]).unwrap_err().to_string();
    assert!(error.starts_with("--node:"), "{error}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        drop(assembled(&text));
        drop(topology::parse("t", &text));
    }

    #[test]
    fn no_mutation_of_the_examples_panics(line in 0..100_usize, with in "[ -~]{0,12}") {
        for name in ["keyway.yaml", "topology.yaml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
            let text = fs::read_to_string(path).unwrap();
            let mut lines: Vec<_> = text.lines().filter(|it| !it.trim().starts_with('#')).collect();
            let at = line % lines.len();
            lines[at] = &with;
            drop(assembled(&lines.join("\n")));
            drop(topology::parse("t", &lines.join("\n")));
        }
    }
}

#[test]
fn the_environment_is_a_map() {
    let empty: BTreeMap<String, String> = BTreeMap::new();
    let surroundings = Surroundings {
        env: empty,
        ..surroundings()
    };
    let keyway = assemble::keyway(
        Path::new("k.yaml"),
        MINIMAL,
        &surroundings,
        &mut named::Named::default(),
    )
    .unwrap();
    assert_eq!(keyway.config.process.threads.get(), 4, "auto is at most 4");
}
