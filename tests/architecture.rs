//! Holds the three rules that keep the crate one house: modules name only modules above them,
//! files that call themselves pure are, and only one place swaps the state.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// What a pure file does not name: I/O, clocks, runtimes, randomness.
const IMPURE: [&str; 9] = [
    "tokio::",
    "hyper::",
    "hyper_util::",
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime::now",
];

/// A source file.
struct Source {
    /// Relative to `src`.
    path: PathBuf,
    text: String,
}

#[test]
fn modules_name_only_modules_declared_above_them() {
    let order = declared_modules();
    assert!(order.len() > 10, "lib.rs declares the modules");
    for source in sources() {
        let Some(rank) = order.iter().position(|it| *it == source.module()) else {
            continue;
        };
        for used in source.used_modules() {
            let above = order
                .iter()
                .position(|it| *it == used)
                .is_some_and(|at| at <= rank);
            assert!(
                above,
                "{}: crate::{used} is not above",
                source.path.display()
            );
        }
    }
}

#[test]
fn pure_files_touch_nothing() {
    let mut pure = 0;
    for source in sources()
        .iter()
        .filter(|it| it.text.starts_with("//! Pure:"))
    {
        pure += 1;
        let code = source.production();
        let named = IMPURE.iter().find(|it| code.contains(**it));
        assert_eq!(named, None, "{} is pure", source.path.display());
    }
    assert!(pure > 20, "the domain is pure");
}

#[test]
fn the_domain_is_pure() {
    for module in [
        "head",
        "placement",
        "key",
        "topology",
        "health",
        "retry",
        "routing",
        "reason",
        "limits",
    ] {
        for source in sources().iter().filter(|it| it.module() == module) {
            let tests = source.path.ends_with("tests.rs") || source.path.ends_with("oracle.rs");
            let pure = source.text.starts_with("//! Pure:");
            assert!(
                pure || tests,
                "{} belongs to the domain",
                source.path.display()
            );
        }
    }
}

#[test]
fn one_state_is_swapped_at_one_place() {
    let stores = |it: &&Source| it.production().contains("current.store(");
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|it| stores(&it))
        .map(|it| it.path)
        .collect();
    assert_eq!(found, [Path::new("cluster/state.rs")]);
}

#[test]
fn a_scrape_takes_no_lock() {
    let scrape =
        |it: &Source| it.path.starts_with("admin/metrics") || it.path.ends_with("metrics.rs");
    let mut files = 0;
    for source in sources().iter().filter(|it| scrape(it)) {
        files += 1;
        let code = source.production();
        let named = [".lock()", ".budget"].iter().find(|it| code.contains(**it));
        assert_eq!(named, None, "{} reads atomics", source.path.display());
    }
    assert!(files > 5, "the metrics are found");
}

impl Source {
    /// The top-level module that the file belongs to.
    fn module(&self) -> String {
        let first = self.path.components().next().unwrap();
        first
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned()
    }

    /// The code without comments and without unit tests: docs may link up, tests may build anything.
    fn production(&self) -> String {
        let code = self.text.split("#[cfg(test)]").next().unwrap();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The first names after every `crate::`, of `crate::{a::b, c}` each.
    fn used_modules(&self) -> Vec<String> {
        let code = self.production();
        let mut used = Vec::new();
        for rest in code.split("crate::").skip(1) {
            match rest.strip_prefix('{') {
                None => used.push(first_name(rest)),
                Some(group) => used.extend(members(group).iter().map(|it| first_name(it))),
            }
        }
        used.retain(|it| !it.is_empty());
        used
    }
}

/// The members of a use group, up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut members, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.push(group[start..at].trim_start());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(group[start..at].trim_start());
                start = at + 1;
            }
            _ => {}
        }
    }
    members
}

fn first_name(path: &str) -> String {
    path.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The top-level modules, in the order that `lib.rs` declares them.
fn declared_modules() -> Vec<String> {
    let text = fs::read_to_string(root().join("lib.rs")).unwrap();
    let declared = text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    });
    declared.collect()
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
