//! config/REFERENCE.md: made from the schemas, the list of reasons and a scrape, so that it cannot say
//! anything else than keyway does. `KEYWAY_BLESS=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use keyway::reason::Reason;
use serde_json::{Map, Value};

use crate::metrics::every_family;

const INTRODUCTION: &str = "\
# Reference

Made from `keyway schema`, `keyway schema topology`, the code and `/metrics`; a test holds it to them.

- **Values**: durations, sizes and shares are strings with units (`250ms`, `64KiB`, `20%`). `${NAME}` in a value is taken from the
  environment.
- **When a change takes effect**: at once, but for `listeners`, `admin`, `threads` and `topology`, which need a restart
  (`keyway_config_restart_required` tells).
- `[]` stands for each member of a list, `NAME` for a name of your choice.
";

#[test]
fn the_reference_says_what_is_true() {
    let mut text = INTRODUCTION.to_owned();
    for (file, title) in [("keyway", "keyway.yaml"), ("topology", "topology.yaml")] {
        write!(text, "\n## {title}\n\n").unwrap();
        text += "| key | value | what it is |\n|---|---|---|\n";
        let schema = schema(file);
        Keys { root: &schema }.table("", &schema, &mut text);
    }
    text += &reasons();
    text += &metrics();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/REFERENCE.md");
    if std::env::var_os("KEYWAY_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    let differs = text
        .lines()
        .zip(found.lines())
        .find(|(new, old)| new != old);
    assert!(
        text == found,
        "config/REFERENCE.md is not what KEYWAY_BLESS=1 writes, first here: {differs:#?}"
    );
}

fn schema(file: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
    let output = command.args(["schema", file]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What keyway answers by itself, by status.
fn reasons() -> String {
    let mut text = "\n## Errors\n\nThe field `x-keyway-error` of an answer that keyway made itself, and the label `reason` of `keyway_errors_total`.\n\n\
         | reason | status | gRPC | what it is |\n|---|---|---|---|\n"
        .to_owned();
    let mut reasons = Reason::ALL;
    reasons.sort_by_key(|it| it.status());
    for reason in reasons {
        let (name, status) = (reason.as_str(), reason.status().as_u16());
        let (grpc, title) = (reason.grpc_status(), reason.title());
        writeln!(text, "| `{name}` | {status} | {grpc} | {title} |").unwrap();
    }
    text
}

/// What is scraped of a keyway that everything happened to.
fn metrics() -> String {
    let mut text = "\n## Metrics\n\nWith `metrics: { detail: node }`. What the labels' values are is in the README.\n\n\
         | metric | type | labels | what it is |\n|---|---|---|---|\n"
        .to_owned();
    for family in every_family() {
        let labels = Vec::from_iter(family.labels).join(", ");
        let (name, kind, help) = (family.name, family.kind, family.help);
        let help = help.replace('|', "\\|");
        writeln!(text, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    text
}

/// The way through a schema.
struct Keys<'a> {
    root: &'a Value,
}

impl Keys<'_> {
    /// Writes a line for each key below `place`, and for those below it.
    fn table(&self, place: &str, schema: &Value, text: &mut String) {
        let none = Map::new();
        for (name, property) in schema["properties"].as_object().unwrap_or(&none) {
            let place = match place {
                "" => name.clone(),
                place => format!("{place}.{name}"),
            };
            let meaning = property["description"].as_str().unwrap_or_default();
            let meaning = meaning.replace('\n', " ").replace('|', "\\|");
            let values = self.values(property);
            let values: Vec<_> = values.iter().map(|it| it.replace('|', "\\|")).collect();
            writeln!(text, "| `{place}` | {} | {meaning} |", values.join(", ")).unwrap();
            self.below(&place, property, text);
        }
    }

    /// The keys of the objects that `property` may be, or be made of.
    fn below(&self, place: &str, property: &Value, text: &mut String) {
        let schema = self.resolved(property);
        for form in forms(schema) {
            let form = self.resolved(form);
            if forms(form).len() > 1 {
                self.below(place, form, text);
            }
            if form["properties"].is_object() {
                self.table(place, form, text);
            }
            if form["items"].is_object() {
                self.below(&format!("{place}[]"), &form["items"], text);
            }
            if form["additionalProperties"].is_object() {
                self.below(
                    &format!("{place}.NAME"),
                    &form["additionalProperties"],
                    text,
                );
            }
        }
    }

    /// What may stand there, in a word or as it is written.
    fn values(&self, property: &Value) -> BTreeSet<String> {
        let schema = self.resolved(property);
        let forms = forms(schema);
        if !(forms.len() == 1 && std::ptr::eq(forms[0], schema)) {
            return forms.into_iter().flat_map(|it| self.values(it)).collect();
        }
        if let Some(value) = schema.get("const") {
            return [literal(value)].into();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values.iter().map(literal).collect();
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let named = |kind: &&str| match *kind {
            "null" => None,
            "string" => Some(string(schema)),
            "object" => Some("object".to_owned()),
            "array" => {
                let of: Vec<_> = self.values(&schema["items"]).into_iter().collect();
                Some(format!("list of {}", of.join(" or ")))
            }
            kind => Some(kind.to_owned()),
        };
        kinds.iter().filter_map(named).collect()
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str();
        name.map_or(schema, |it| {
            &self.root["$defs"][it.trim_start_matches("#/$defs/")]
        })
    }
}

/// The forms that a value may have; itself when there is one.
fn forms(schema: &Value) -> Vec<&Value> {
    let several = [&schema["anyOf"], &schema["oneOf"]];
    let several = several.into_iter().find_map(Value::as_array);
    several.map_or_else(|| vec![schema], |it| it.iter().collect())
}

fn literal(value: &Value) -> String {
    format!(
        "`{}`",
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    )
}

/// A string by the pattern that it must match.
fn string(schema: &Value) -> String {
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    let kinds = [
        ("(us|ms|s|m|h)", "duration"),
        ("(B|KiB|MiB|GiB)", "size"),
        ("%", "share"),
    ];
    let is_number = pattern.starts_with("^(?:[0-9]");
    let kind = kinds
        .into_iter()
        .find(|(part, _)| is_number && pattern.contains(part));
    kind.map_or("string", |it| it.1).to_owned()
}
