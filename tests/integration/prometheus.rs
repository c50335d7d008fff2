//! What config/ has for Prometheus and Grafana: checked by promtool, and by a Prometheus that scrapes a
//! keyway whose nodes die.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::metrics::Busy;
use crate::support::{Client, until};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(repository(""))
        .output()
        .expect("promtool must be installed");
    let text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&text)
    );
}

/// A Prometheus that scrapes one target twice a second, by the alerts of config/ in a hurry.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["alerts.yaml", "rules.yaml"] {
            let rules = fs::read_to_string(repository("config/prometheus").join(name)).unwrap();
            fs::write(folder.path().join(name), hurried(&rules)).unwrap();
        }
        let config = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: [alerts.yaml, rules.yaml]\n\
             scrape_configs: [{{ job_name: keyway, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n"
        );
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus must be installed");
        let prometheus = Self {
            process,
            address,
            _folder: folder,
        };
        until("Prometheus listens", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        until("Prometheus scrapes", || {
            prometheus.query("keyway_build_info").is_ok_and(|it| it > 0)
        });
        prometheus
    }

    /// What it answers, once it is ready to.
    fn api(&self, target: &str) -> Value {
        let reply = Client::connect(self.address).get(target);
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// How many series answer a query, or why none can.
    fn query(&self, expr: &str) -> Result<usize, String> {
        let encoded = utf8_percent_encode(expr, NON_ALPHANUMERIC);
        let answer = self.api(&format!("/api/v1/query?query={encoded}"));
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.len()),
            None => Err(answer["error"].to_string()),
        }
    }

    /// The labels of the alerts that fire under this name.
    fn firing(&self, name: &str) -> Vec<Value> {
        let answer = self.api("/api/v1/alerts");
        let alerts = answer["data"]["alerts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let fires = |it: &Value| it["state"] == "firing" && it["labels"]["alertname"] == name;
        alerts
            .into_iter()
            .filter(fires)
            .map(|it| it["labels"].clone())
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// The same rules with short memories: `for` of a second, rates of ten.
fn hurried(rules: &str) -> String {
    let line = |line: &str| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 1s\n"),
        _ => format!("{}\n", line.replace("[5m]", "[10s]")),
    };
    rules.lines().map(line).collect()
}

fn dashboard() -> Value {
    let text = fs::read_to_string(repository("config/grafana/keyway.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The queries of the dashboard as Grafana would send them.
fn dashboard_queries() -> Vec<String> {
    let mut queries = Vec::new();
    collect(&dashboard(), &mut queries);
    queries
}

fn collect(value: &Value, queries: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(expr)) = members.get("expr") {
                let mut expr = expr.replace("$__rate_interval", "10s");
                for variable in ["$job", "$instance", "$cluster"] {
                    expr = expr.replace(variable, ".*");
                }
                assert!(!expr.contains('$'), "an unknown variable in {expr}");
                queries.push(expr);
            }
            members.values().for_each(|it| collect(it, queries));
        }
        Value::Array(elements) => elements.iter().for_each(|it| collect(it, queries)),
        _ => {}
    }
}

#[test]
fn rules_pass_promtool() {
    promtool(&[
        "check",
        "rules",
        "config/prometheus/alerts.yaml",
        "config/prometheus/rules.yaml",
    ]);
}

#[test]
fn alerts_fire_on_what_they_are_for() {
    promtool(&["test", "rules", "tests/data/prometheus/alerts.yaml"]);
}

#[test]
fn rules_and_dashboard_name_metrics_that_are_there() {
    let metrics = fs::read_to_string(repository("tests/data/metrics.txt")).unwrap();
    let known: Vec<_> = metrics
        .lines()
        .map(|it| it.split(' ').next().unwrap())
        .collect();
    let mut texts = dashboard_queries();
    for name in ["alerts.yaml", "rules.yaml"] {
        texts.push(fs::read_to_string(repository("config/prometheus").join(name)).unwrap());
    }
    let mut found = 0;
    for text in &texts {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for word in words.filter(|it| it.starts_with("keyway_")) {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|it| word.strip_suffix(it));
            found += 1;
            assert!(known.contains(&family.unwrap_or(word)), "{word}");
        }
    }
    assert!(found > 60, "{found} names");
}

#[test]
fn the_dashboard_can_be_imported_anywhere() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|it| it["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "an id for each panel");
    for panel in panels.iter().filter(|it| it["type"] != "row") {
        // No data source of somebody's Grafana.
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        let place = &panel["gridPos"];
        let end = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
        assert!(end <= 24, "{panel}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["datasource", "job", "instance", "cluster"]);
}

#[test]
fn every_query_of_the_dashboard_is_answered() {
    let busy = Busy::start();
    busy.stir();
    let prometheus = Prometheus::start(busy.keyway.admin);
    let queries = dashboard_queries();
    assert!(queries.len() > 40, "{} queries", queries.len());
    for query in queries {
        until(&query, || {
            busy.stir();
            prometheus
                .query(&query)
                .unwrap_or_else(|error| panic!("{query}: {error}"))
                > 0
        });
    }
    for rule in [
        "route:keyway_request_errors:ratio_rate5m",
        "shard:keyway_nodes_healthy:min",
    ] {
        until(rule, || prometheus.query(rule).is_ok_and(|it| it > 0));
    }
}

#[test]
fn dead_nodes_are_told() {
    let busy = Busy::start();
    busy.stir();
    let prometheus = Prometheus::start(busy.keyway.admin);
    until("healthy nodes", || {
        busy.keyway.count("keyway_nodes", &["standing=\"healthy\""]) == 3
    });
    assert_eq!(prometheus.firing("KeywayShardDown"), [Value::Null; 0]);
    for node in [&busy.nodes[0], &busy.nodes[2]] {
        node.kill();
    }
    let failing = |target: &str| busy.keyway.get(target).status >= 502;
    until("an alert for the shard", || {
        assert!(failing("/one/1"));
        let fires = prometheus.firing("KeywayShardDown");
        fires
            .iter()
            .any(|it| it["shard"] == "s1" && it["cluster"] == "c")
    });
    until("an alert for the other's node", || {
        let fires = prometheus.firing("KeywayNodeOut");
        fires.iter().any(|it| it["node"] == "a")
    });
    until("an alert for the route", || {
        assert!(failing("/one/1"));
        let fires = prometheus.firing("KeywayErrors");
        fires.iter().any(|it| it["route"] == "r")
    });
    // The other shard has a node that is well, and nothing is said of either.
    assert_eq!(busy.keyway.get("/zero/1").node(), "b");
    assert_eq!(prometheus.firing("KeywayShardDown").len(), 1);
    let of_b = |it: &Value| it["node"] == "b";
    assert!(!prometheus.firing("KeywayNodeOut").iter().any(of_b));
}
