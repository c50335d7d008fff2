//! The metrics: their names, types and labels are a contract, and their number is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Authority, Client, Keyway, Node, Then, topology, until};

/// A keyway that was made to touch everything that is counted, with what it talks to.
pub struct Busy {
    pub keyway: Keyway,
    pub nodes: [Node; 3],
    authority: Authority,
}

impl Busy {
    /// Cluster `c` of two shards, the second of one node, whose first node has a name; a listener
    /// under TLS besides.
    pub fn start() -> Self {
        let authority = Authority::new();
        authority.certify("app", &["app.test"], 2040);
        let nodes = ["a", "b", "d"].map(Node::start);
        let folder = authority.folder().display();
        let keyway = Keyway::start_probing(
            &format!(
                "listeners:\n  - {{ name: app, address: \"127.0.0.1:0\" }}\n  - name: secure\n    \
                 address: \"127.0.0.1:0\"\n    tls: {{ certificates: [{{ cert: {folder}/app.crt, key: {folder}/app.key }}] }}\n\
                 metrics: {{ detail: node }}\n\
                 routes: [{{ name: r, match: {{ path: \"/{{key}}/**\" }}, key: \"path:key\", cluster: c }}]\n\
                 clusters:\n  c: {{ prefer: order, probe: {{ interval: 200ms, timeout: 100ms, when: always }} }}\n"
            ),
            &format!(
                "version: 1\nclusters:\n  c:\n    shards:\n      - name: s0\n        nodes:\n          \
                 - {{ id: a, address: \"localhost:{}\" }}\n          - {{ id: b, address: \"{}\" }}\n      \
                 - name: s1\n        nodes: [{{ id: d, address: \"{}\" }}]\n    pins: {{ zero: s0, one: s1 }}\n",
                nodes[0].address.port(),
                nodes[1].address,
                nodes[2].address,
            ),
        );
        let busy = Self {
            keyway,
            nodes,
            authority,
        };
        until("the name's addresses", || {
            busy.keyway.count("keyway_node_addresses", &[]) > 0
        });
        busy
    }

    /// Everything once more: answers, a node's error, a failover, an answer of keyway's own, TLS.
    pub fn stir(&self) {
        let keyway = &self.keyway;
        self.nodes[0].script(|_| Then::Answer);
        assert_eq!(keyway.get("/zero/1").node(), "a");
        assert_eq!(keyway.get("/one/1").node(), "d");
        let busy = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        self.nodes[0].script(|_| Then::Send(busy.to_vec()));
        assert_eq!(keyway.get("/zero/2").node(), "b");
        self.nodes[0].script(|_| Then::Answer);
        assert_eq!(keyway.get("/zero/3").node(), "a");
        let broken = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
        self.nodes[2].script(|_| Then::Send(broken.to_vec()));
        assert_eq!(keyway.get("/one/3").status, 500);
        self.nodes[2].script(|_| Then::Answer);
        // No segment is empty.
        assert_eq!(keyway.get("//").status, 404);
        let secure = format!("app.test:443:{}", self.secure());
        let curl = Command::new("curl")
            .args(["-sS", "--connect-to", &secure, "--cacert"])
            .arg(self.authority.path("ca.crt"))
            .arg("https://app.test/one/2")
            .output()
            .unwrap();
        assert_eq!(
            curl.stdout,
            b"d",
            "{:?}",
            String::from_utf8_lossy(&curl.stderr)
        );
    }

    /// The address of the listener under TLS.
    fn secure(&self) -> SocketAddr {
        let events = self.keyway.events();
        let listens = events.iter().find(|it| it["listener"] == "secure");
        listens.unwrap()["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }
}

/// What is scraped, series by series.
fn series(keyway: &Keyway) -> BTreeSet<String> {
    let text = keyway.admin("GET", "/metrics", "").text();
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    lines
        .map(|it| it.rsplit_once(' ').unwrap().0.to_owned())
        .collect()
}

/// What is scraped under one name.
#[derive(Default)]
pub struct Family {
    pub name: String,
    pub help: String,
    pub kind: String,
    pub labels: BTreeSet<String>,
}

impl Family {
    /// As it stands in the contract.
    fn line(&self) -> String {
        let labels: Vec<_> = self.labels.iter().map(String::as_str).collect();
        let line = format!("{} {} {}", self.name, self.kind, labels.join(","));
        line.trim_end().to_owned()
    }
}

/// The families of an exposition, by name.
fn families(exposition: &str) -> Vec<Family> {
    let mut families = BTreeMap::<_, Family>::new();
    for line in exposition.lines() {
        let mut words = line.splitn(4, ' ');
        if words.next() != Some("#") {
            continue;
        }
        let [keyword, name, rest] = [(); 3].map(|()| words.next().unwrap_or_default().to_owned());
        let family = families.entry(name.clone()).or_default();
        family.name = name;
        match keyword.as_str() {
            "HELP" => family.help = rest,
            "TYPE" => family.kind = rest,
            _ => panic!("{line}"),
        }
    }
    for line in exposition.lines().filter(|it| !it.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|it| {
            let family = name.strip_suffix(it)?;
            families.contains_key(family).then_some(family)
        });
        let found = &mut families.get_mut(family.unwrap_or(name)).expect(name).labels;
        let names = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|it| it.split_once('='));
        found.extend(names.map(|it| it.0.to_owned()).filter(|it| it != "le"));
    }
    families.into_values().collect()
}

/// Every family that there is.
pub fn every_family() -> Vec<Family> {
    let busy = Busy::start();
    busy.stir();
    let expected = contract().len();
    let mut found = Vec::new();
    until("every family", || {
        found = families(&busy.keyway.admin("GET", "/metrics", "").text());
        found.len() >= expected
    });
    found
}

/// The lines of the contract.
fn contract() -> Vec<String> {
    let lines = repository("tests/data/metrics.txt");
    let lines = lines.lines().filter(|it| !it.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn names_types_and_labels_are_a_contract() {
    let found: Vec<_> = every_family().iter().map(Family::line).collect();
    assert_eq!(
        found,
        contract(),
        "tests/data/metrics.txt is what is scraped"
    );
}

#[test]
fn every_metric_is_in_the_readme() {
    let readme = repository("README.md");
    let metrics = contract();
    assert!(metrics.len() > 50);
    for line in &metrics {
        let name = line.split(' ').next().unwrap();
        let Some(name) = name.strip_prefix("keyway_") else {
            continue;
        };
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}

/// Beside cluster `c`, to which everything goes, one of a thousand nodes.
fn thousand(nodes: &[&Node]) -> Keyway {
    let mut thousand = topology(&[nodes]);
    thousand += "  big:\n    nodes:\n";
    for at in 0..1000 {
        thousand += &format!("      - {{ id: n{at}, address: \"127.0.0.1:1\" }}\n");
    }
    Keyway::start_probing(
        "routes: [{ name: r, match: {}, key: path, cluster: c }]\n\
         clusters: { c: { probe: { when: off } }, big: { probe: { when: off } } }\n",
        &thousand,
    )
}

fn odd(client: &mut Client, at: usize) {
    client.send(format!(
        "M{at} /{at}/x HTTP/1.1\r\nHost: h{at}.test\r\n\r\n"
    ));
    assert_eq!(client.reply_to("GET").status, 200);
}

#[test]
fn odd_methods_and_paths_add_no_series() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = thousand(&[&a, &b]);
    let mut client = keyway.client();
    for at in 0..100 {
        odd(&mut client, at);
    }
    let seen = |count: usize| {
        until("the requests", || {
            keyway.count("keyway_requests_total", &["method=\"_OTHER\""]) == count
        });
        series(&keyway)
    };
    let before = seen(100);
    for at in 100..10_100 {
        odd(&mut client, at);
    }
    let after = seen(10_100);
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(after.len(), before.len());
}

#[test]
fn a_thousand_nodes_are_scraped_soon() {
    let a = Node::start("a");
    let keyway = thousand(&[&a]);
    let scrape = || {
        let began = Instant::now();
        let length = keyway.admin("GET", "/metrics", "").body.len();
        (began.elapsed(), length)
    };
    let cpu = || keyway.metric("process_cpu_seconds_total", &[]);
    let before = cpu();
    let (took, length) = (0..10).map(|_| scrape()).min().unwrap();
    // Ten scrapes, and the one that says so.
    let cpu = (cpu() - before) / 11.0;
    let count = series(&keyway).len();
    eprintln!(
        "{count} series, {} KiB, in {took:?}, {cpu:.3} s of CPU",
        length >> 10
    );
    assert!(count > 8000, "{count} series");
    // Of an optimised build it takes a tenth of what one for tests does.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn detail_says_what_is_shown() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let keyway = Keyway::sharded("", &[&[&a], &[&b]]);
    let yaml = fs::read_to_string(keyway.path("keyway.yaml")).unwrap();
    for key in 0..20 {
        assert_eq!(keyway.get(&format!("/{key}")).status, 200);
    }
    keyway.until_idle();
    for (detail, shard, node, histogram) in [
        ("cluster", false, false, false),
        ("shard", true, true, false),
        ("node", true, true, true),
    ] {
        keyway.replace(
            "keyway.yaml",
            &format!("{yaml}metrics: {{ detail: {detail} }}\n"),
        );
        assert_eq!(keyway.admin("POST", "/v1/reload", "").status, 200);
        assert_eq!(keyway.get("/1").status, 200);
        keyway.until_idle();
        let text = keyway.admin("GET", "/metrics", "").text();
        assert_eq!(text.contains("shard=\"s0\""), shard, "{detail}");
        assert_eq!(text.contains("node=\"a\""), node, "{detail}");
        let found = text.contains("keyway_node_attempt_duration_seconds");
        assert_eq!(found, histogram, "{detail}");
        // Nothing is lost, only told apart or not.
        let attempts = keyway.count("keyway_attempts_total", &["cluster=\"c\""]);
        let measured = keyway.count("keyway_attempt_duration_seconds_count", &[]);
        let requests = keyway.count("keyway_requests_total", &[]);
        assert_eq!((attempts, measured), (requests, requests), "{detail}");
        assert_eq!(keyway.count("keyway_nodes", &["standing=\"healthy\""]), 2);
    }
    assert_eq!(
        keyway.count("keyway_node_attempt_duration_seconds_count", &[]),
        1
    );
}
