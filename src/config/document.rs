//! Pure: a YAML file as a tree whose nodes know where they stand.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_saphyr::Spanned;

use super::problem::Problem;

/// The largest file that is read, in bytes: a thousand times a large topology.
pub(super) const FILE_MAX: usize = 16 << 20;

/// A parsed file.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) file: String,
    pub(super) root: Node,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) kind: Kind,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// A text in which an environment variable was put: it may stand for a number too.
    Expanded(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Document {
    /// Parses `text`; `file` is its name in errors.
    ///
    /// # Errors
    /// The first place where the text is no YAML.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let options = serde_saphyr::options! { strict_booleans: true };
        let parsed = serde_saphyr::from_str_with_options::<Spanned<Kind>>(text, options);
        match parsed {
            Ok(root) => Ok(Self {
                file: file.to_owned(),
                root: Node::from(root),
            }),
            Err(error) => {
                let place = error
                    .location()
                    .map_or((1, 1), |it| (it.line(), it.column()));
                let message = error.without_snippet().to_string();
                let found = message.lines().next().unwrap_or_default().to_owned();
                Err(Problem {
                    file: file.to_owned(),
                    line: place.0.max(1),
                    column: place.1.max(1),
                    key: String::new(),
                    expected: "YAML".to_owned(),
                    found,
                })
            }
        }
    }

    /// Puts the environment's values in place of `${NAME}`s in scalars; `$${` stays `${`.
    pub(super) fn expand(&mut self, env: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
        expand(&mut self.root, &self.file, "", env, problems);
    }

    /// The same values as JSON text.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.root).expect("YAML with text for keys must be JSON")
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        match &self.kind {
            Kind::Null => json.serialize_unit(),
            Kind::Bool(value) => json.serialize_bool(*value),
            Kind::Integer(value) => json.serialize_i128(*value),
            Kind::Float(value) => json.serialize_f64(*value),
            Kind::Text(text) | Kind::Expanded(text) => json.serialize_str(text),
            Kind::List(items) => json.collect_seq(items),
            Kind::Map(entries) => json.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

fn expand(
    node: &mut Node,
    file: &str,
    key: &str,
    env: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) {
    match &mut node.kind {
        Kind::Text(text) if text.contains("${") => match expanded(text, env) {
            Ok(text) => node.kind = Kind::Expanded(text),
            Err(found) => problems.push(Problem {
                file: file.to_owned(),
                line: node.line,
                column: node.column,
                key: key.to_owned(),
                expected: "the name of a set environment variable as ${NAME}".to_owned(),
                found,
            }),
        },
        Kind::List(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                expand(item, file, &format!("{key}[{at}]"), env, problems);
            }
        }
        Kind::Map(entries) => {
            for (name, value) in entries {
                expand(value, file, &join(key, name), env, problems);
            }
        }
        Kind::Null
        | Kind::Bool(_)
        | Kind::Integer(_)
        | Kind::Float(_)
        | Kind::Text(_)
        | Kind::Expanded(_) => {}
    }
}

fn expanded(text: &str, env: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut left = text;
    while let Some(at) = left.find("${") {
        if left[..at].ends_with('$') {
            out.push_str(&left[..at - 1]);
            out.push_str("${");
            left = &left[at + 2..];
            continue;
        }
        out.push_str(&left[..at]);
        let (name, rest) = left[at + 2..]
            .split_once('}')
            .ok_or_else(|| format!("{text:?}"))?;
        let value = env
            .get(name)
            .ok_or_else(|| format!("{name:?}, which is not set"))?;
        out.push_str(value);
        left = rest;
    }
    out.push_str(left);
    Ok(out)
}

/// The path of the member `name` of what is at `key`.
pub(super) fn join(key: &str, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else {
        format!("{key}.{name}")
    }
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Self {
        let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
        Self {
            line,
            column,
            kind: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(yaml: D) -> Result<Self, D::Error> {
        yaml.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, yaml: D) -> Result<Kind, D::Error> {
        yaml.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Kind>>()? {
            items.push(item.into());
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Spanned<Kind>>()? {
            entries.push((key, value.into()));
        }
        Ok(Kind::Map(entries))
    }
}
