//! Pure: a key's description, as written in the configuration.

use http::HeaderName;

use super::KeySpec;
use super::source::{Part, Source};
use crate::head::PathPattern;

/// A text that describes no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct KeySpecError {
    /// What a description has there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// What a source may be, for whoever wrote something else.
const SOURCES: &str = "header:NAME, cookie:NAME, query:NAME, raw:query:NAME, path:NAME, path, target, \
                       host, client_ip, body:/POINTER or a template of {SOURCE}s";

impl KeySpec {
    /// Parses a list of sources; `path` is the route's pattern, whose captures may be named.
    ///
    /// # Errors
    /// When the list is empty or a source is not one.
    pub fn parse(sources: &[String], path: Option<&PathPattern>) -> Result<Self, KeySpecError> {
        if sources.is_empty() {
            return Err(error("at least one source", "none"));
        }
        let alternatives = sources.iter().map(|it| parse_alternative(it, path));
        Ok(Self {
            alternatives: alternatives.collect::<Result<_, _>>()?,
        })
    }
}

fn parse_alternative(text: &str, path: Option<&PathPattern>) -> Result<Vec<Part>, KeySpecError> {
    if text.contains(['{', '}']) {
        parse_template(text, path)
    } else {
        Ok(vec![Part::Source(parse_source(text, path)?)])
    }
}

/// `"{header:x-tenant}/{path:id}"`; `{{` and `}}` stand for braces.
fn parse_template(text: &str, path: Option<&PathPattern>) -> Result<Vec<Part>, KeySpecError> {
    let unbalanced = || error("a } for each {, or doubled braces", text);
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut left = text;
    while let Some(at) = left.find(['{', '}']) {
        literal.push_str(&left[..at]);
        let (brace, doubled) = (
            &left[at..=at],
            left[at..].starts_with("{{") || left[at..].starts_with("}}"),
        );
        if doubled {
            literal.push_str(brace);
            left = &left[at + 2..];
            continue;
        }
        let (source, rest) = left[at + 1..].split_once('}').ok_or_else(unbalanced)?;
        if brace == "}" || source.contains('{') {
            return Err(unbalanced());
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Source(parse_source(source, path)?));
        left = rest;
    }
    literal.push_str(left);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    let has_source = parts.iter().any(|it| matches!(it, Part::Source(_)));
    has_source
        .then_some(parts)
        .ok_or_else(|| error("a template with a {SOURCE}", text))
}

fn parse_source(text: &str, path: Option<&PathPattern>) -> Result<Source, KeySpecError> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    let has_name = text.contains(':');
    match (kind, has_name) {
        ("header", true) => HeaderName::from_bytes(name.as_bytes())
            .map(Source::Header)
            .map_err(|_invalid| error("header:NAME with a field's name", text)),
        ("cookie", true) => named(text, name).map(Source::Cookie),
        ("query", true) => named(text, name).map(Source::Query),
        ("raw", true) => match name.split_once(':') {
            Some(("query", name)) => named(text, name).map(Source::RawQuery),
            _ => Err(error("raw:query:NAME", text)),
        },
        ("path", true) => capture(text, name, path),
        ("body", true) => pointer(text, name).map(Source::Body),
        ("path", false) => Ok(Source::Path),
        ("target", false) => Ok(Source::Target),
        ("host", false) => Ok(Source::Host),
        ("client_ip", false) => Ok(Source::ClientIp),
        _ => Err(error(SOURCES, text)),
    }
}

fn named(text: &str, name: &str) -> Result<String, KeySpecError> {
    let named = !name.is_empty();
    named
        .then(|| name.to_owned())
        .ok_or_else(|| error("a name after the colon", text))
}

fn capture(text: &str, name: &str, path: Option<&PathPattern>) -> Result<Source, KeySpecError> {
    let mut captures = path.into_iter().flat_map(PathPattern::captures);
    captures
        .position(|it| it == name)
        .map(Source::Capture)
        .ok_or_else(|| {
            let names: Vec<_> = path.into_iter().flat_map(PathPattern::captures).collect();
            let expected = match names.as_slice() {
                [] => "a path pattern with a {name} for path:NAME".to_owned(),
                names => format!("path: and one of {}", names.join(", ")),
            };
            error(&expected, text)
        })
}

/// A JSON pointer's tokens (RFC 6901 section 3 and 4): `~1` is `/`, `~0` is `~`.
fn pointer(text: &str, pointer: &str) -> Result<Vec<String>, KeySpecError> {
    let expected = || error("body:/POINTER (RFC 6901)", text);
    let tokens = pointer.strip_prefix('/').ok_or_else(expected)?;
    let unescape = |token: &str| {
        let escapes = token.replace("~0", "").replace("~1", "");
        let valid = !escapes.contains('~');
        valid
            .then(|| token.replace("~1", "/").replace("~0", "~"))
            .ok_or_else(expected)
    };
    tokens.split('/').map(unescape).collect()
}

fn error(expected: &str, found: &str) -> KeySpecError {
    KeySpecError {
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
