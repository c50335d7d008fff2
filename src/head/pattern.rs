//! Pure: patterns of paths, and what they capture.
//!
//! Paths match byte for byte, as they came: `/a` and `/a/` differ, `%61` is not `a`, and nothing
//! is normalised. What is routed by is what is forwarded.

use std::fmt;
use std::str::FromStr;

/// The most captures of one pattern: the bound of what a request carries about.
pub const CAPTURES_MAX: usize = 8;

/// The most segments of one pattern.
const SEGMENTS_MAX: usize = 64;

/// A path's pattern: literal segments, `{name}` for one segment that is not empty, and at the end
/// `**` for any number of segments, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
    rest: bool,
    text: String,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Capture(String),
}

/// The segments that a pattern's `{name}`s stood for, in the pattern's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captures<'a> {
    values: [&'a str; CAPTURES_MAX],
    len: usize,
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct PatternError {
    /// What a pattern has there.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |expected, found: &str| PatternError {
            expected,
            found: found.to_owned(),
        };
        let Some(path) = text.strip_prefix('/') else {
            return Err(error("a path that begins with /", text));
        };
        if text.contains(['?', '#']) || !text.is_ascii() || text.contains(|c: char| c <= ' ') {
            return Err(error(
                "a path as requests carry it, without query, fragment or space",
                text,
            ));
        }
        let mut parts: Vec<_> = path.split('/').collect();
        let rest = parts.last() == Some(&"**");
        if rest {
            parts.pop();
        }
        let mut segments = Vec::with_capacity(parts.len());
        for part in parts {
            segments.push(part.parse()?);
        }
        let pattern = Self {
            segments,
            rest,
            text: text.to_owned(),
        };
        let mut names: Vec<_> = pattern.captures().collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(error("each name once", text));
        }
        if names.len() > CAPTURES_MAX || pattern.segments.len() > SEGMENTS_MAX {
            return Err(error("at most 8 names and 64 segments", text));
        }
        Ok(pattern)
    }
}

impl FromStr for Segment {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |expected| PatternError {
            expected,
            found: text.to_owned(),
        };
        if let Some(name) = text.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let is_name = !name.is_empty() && name.chars().all(plain);
            return is_name
                .then(|| Self::Capture(name.to_owned()))
                .ok_or_else(|| error("{name} of letters, digits, - and _"));
        }
        if text.contains("**") {
            return Err(error("** as the whole last segment"));
        }
        if text.contains(['{', '}', '*']) {
            return Err(error("a literal segment, or {name} as a whole one"));
        }
        Ok(Self::Literal(text.to_owned()))
    }
}

impl PathPattern {
    /// The names that it captures, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|it| match it {
            Segment::Literal(_) => None,
            Segment::Capture(name) => Some(name.as_str()),
        })
    }

    /// What it captures of `path`; `None` when it does not match.
    pub fn matches<'a>(&self, path: &'a str) -> Option<Captures<'a>> {
        let mut captures = Captures::default();
        let mut left = segments(path)?;
        for segment in &self.segments {
            let found = left.next()?;
            match segment {
                Segment::Literal(literal) if literal != found => return None,
                Segment::Capture(_) if found.is_empty() => return None,
                Segment::Literal(_) => {}
                Segment::Capture(_) => captures.push(found),
            }
        }
        (self.rest || left.next().is_none()).then_some(captures)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn has_rest(&self) -> bool {
        self.rest
    }
}

/// The segments of `path`: what stands between its slashes. `None` for `*`, which is no path.
pub(crate) fn segments(path: &str) -> Option<std::str::Split<'_, char>> {
    path.strip_prefix('/').map(|it| it.split('/'))
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'a> Captures<'a> {
    /// The segment that the `index`th name stood for.
    pub fn get(&self, index: usize) -> Option<&'a str> {
        self.values[..self.len].get(index).copied()
    }

    fn push(&mut self, value: &'a str) {
        self.values[self.len] = value;
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
        let captures = pattern.parse::<PathPattern>().unwrap().matches(path)?;
        Some((0..).map_while(|at| captures.get(at)).collect())
    }

    #[test]
    fn matches_segment_by_segment() {
        let none: Option<Vec<&str>> = None;
        let table = [
            ("/", "/", Some(vec![])),
            ("/", "/a", none.clone()),
            ("/a", "/a", Some(vec![])),
            ("/a", "/a/", none.clone()),
            ("/a/", "/a/", Some(vec![])),
            ("/a", "/A", none.clone()),
            ("/a", "/%61", none.clone()),
            ("/users/{id}", "/users/42", Some(vec!["42"])),
            ("/users/{id}", "/users/", none.clone()),
            ("/users/{id}", "/users/42/x", none.clone()),
            ("/users/{id}/**", "/users/42", Some(vec!["42"])),
            ("/users/{id}/**", "/users/42/", Some(vec!["42"])),
            ("/users/{id}/**", "/users/42/x/y", Some(vec!["42"])),
            ("/{a}/x/{b}", "/1/x/2", Some(vec!["1", "2"])),
            ("/**", "/", Some(vec![])),
            ("/**", "//", Some(vec![])),
            ("/**", "*", none.clone()),
            ("//a", "//a", Some(vec![])),
            ("//a", "/a", none),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(captured(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        let bad = [
            "",
            "a",
            "/a/**/b",
            "/a**",
            "/{}",
            "/{a b}",
            "/{a}x",
            "/x{a}",
            "/{a}/{a}",
            "/a?b",
            "/a#b",
            "/a b",
            "/ä",
            "/*",
            "/{a",
            "/{1}/{2}/{3}/{4}/{5}/{6}/{7}/{8}/{9}",
        ];
        for text in bad {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
    }
}
