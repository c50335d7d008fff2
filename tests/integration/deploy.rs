//! The files that deploy keyway: read by the tools that read them in earnest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::python;

fn manifest(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("config/kubernetes").join(name)
}

fn parsed(name: &str) -> Value {
    let text = fs::read_to_string(manifest(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Against the schemas of the API, strictly: a key that is misspelt is an error.
#[test]
fn the_manifests_are_valid() {
    let validator = python("kubernetes-validate");
    for name in ["configmap.yaml", "deployment.yaml"] {
        run(Command::new(&validator).arg("--strict").arg(manifest(name)));
    }
    // The validator can say no.
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    let text = fs::read_to_string(manifest("deployment.yaml")).unwrap();
    fs::write(&wrong, text.replace("restartPolicy:", "restartPolcy:")).unwrap();
    let status = Command::new(&validator)
        .arg("--strict")
        .arg(&wrong)
        .output();
    assert!(!status.unwrap().status.success());
}

#[test]
fn the_configuration_in_the_config_map_is_one() {
    let data = &parsed("configmap.yaml")["data"];
    let folder = tempfile::tempdir().unwrap();
    for name in ["keyway.yaml", "topology.yaml"] {
        fs::write(folder.path().join(name), data[name].as_str().unwrap()).unwrap();
    }
    let mut check = Command::new(env!("CARGO_BIN_EXE_keyway"));
    run(check.arg("check").arg(folder.path().join("keyway.yaml")));
}

/// The grace period covers the drain and leaves the application some of it.
#[test]
fn the_grace_periods_fit_together() {
    let keyway: Value = {
        let data = &parsed("configmap.yaml")["data"];
        serde_saphyr::from_str(data["keyway.yaml"].as_str().unwrap()).unwrap()
    };
    let duration = |key: &str| humantime::parse_duration(keyway[key].as_str().unwrap()).unwrap();
    let pod = &parsed("deployment.yaml")["spec"]["template"]["spec"];
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    let drain = duration("pre_drain") + duration("drain_timeout");
    assert!(
        drain + Duration::from_secs(30) <= grace,
        "{drain:?} of {grace:?}"
    );
}

/// Every port that a probe, a scraper or the application uses is one that keyway listens on.
#[test]
fn the_ports_are_those_of_the_configuration() {
    let data = &parsed("configmap.yaml")["data"];
    let keyway = data["keyway.yaml"].as_str().unwrap();
    let template = &parsed("deployment.yaml")["spec"]["template"];
    let sidecar = &template["spec"]["initContainers"][0];
    let admin = &sidecar["ports"][0];
    assert!(keyway.contains(&format!("0.0.0.0:{}", admin["containerPort"])));
    let scraped = &template["metadata"]["annotations"]["prometheus.io/port"];
    assert_eq!(
        scraped.as_str().unwrap(),
        admin["containerPort"].to_string()
    );
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(sidecar[probe]["httpGet"]["port"], admin["name"], "{probe}");
    }
    let url = &template["spec"]["containers"][0]["env"][0]["value"];
    let url = url.as_str().unwrap().trim_start_matches("http://");
    assert!(keyway.contains(url.split('/').next().unwrap()));
}

/// Without a warning of the formatter, and with every command in it.
#[test]
fn the_manual_page_is_one() {
    let mut keyway = Command::new(env!("CARGO_BIN_EXE_keyway"));
    let page = keyway.arg("man").output().unwrap().stdout;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyway.1");
    fs::write(&file, &page).unwrap();
    let mut formatter = Command::new("groff");
    let output = formatter
        .args(["-man", "-Tutf8", "-ww", "-P-cbou"])
        .arg(&file)
        .output();
    let output = output.expect("tests/run installs groff");
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && warnings.is_empty(), "{warnings}");
    let shown = String::from_utf8(output.stdout).unwrap();
    for said in ["KEYWAY RUN", "KEYWAY RING DIFF", "KEYWAY TOP", "--config"] {
        assert!(shown.contains(said), "{said} in {shown}");
    }
    assert!(!shown.contains("--serve-node"), "what is hidden is");
}
