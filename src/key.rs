//! Pure: where a request's key is, and the key found there.
//!
//! A [`KeySpec`] is a list of sources; the first that yields a key wins. Keys are bytes and may be
//! any. Absent and empty are the same: missing. A source that a request carries twice with
//! differing values is ambiguous: keyway and the node could read it differently.

use std::borrow::Cow;

use crate::head::{Captures, RequestHead};

mod json;
mod parse;
mod source;

pub use parse::KeySpecError;
pub use source::KeyError;
use source::Part;

/// How much of a body is read to find a key in it, in bytes: beyond, the key is missing.
pub const BODY_KEY_MAX: usize = 64 << 10;

/// Where a request's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Tried in order; each is a template of one part or more.
    alternatives: Vec<Vec<Part>>,
}

/// What is known of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'b> {
    /// Nothing was read yet.
    Unread,
    /// This was read.
    Read {
        /// The bytes, up to [`BODY_KEY_MAX`] and some.
        bytes: &'b [u8],
        /// Whether that is the whole body.
        complete: bool,
    },
}

/// What looking for a key came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The key, never empty.
    Key(Cow<'a, [u8]>),
    /// There is none.
    Missing,
    /// It depends on the body, which is still unread.
    NeedsBody,
}

impl KeySpec {
    /// Whether a request's body may have to be read.
    pub fn needs_body(&self) -> bool {
        self.alternatives.iter().flatten().any(Part::needs_body)
    }

    /// Whether the key may be in the header field `name`.
    pub fn reads_header(&self, name: &str) -> bool {
        self.alternatives
            .iter()
            .flatten()
            .any(|it| it.reads_header(name))
    }

    /// Looks for the key. The body only counts when no source before it yields.
    ///
    /// # Errors
    /// When a source contradicts itself.
    pub fn lookup<'a>(
        &self,
        head: &RequestHead<'a>,
        captures: &Captures<'a>,
        body: Body<'_>,
    ) -> Result<Lookup<'a>, KeyError> {
        for parts in &self.alternatives {
            let found = match parts.as_slice() {
                [part] => part.lookup(head, captures, body)?,
                parts => template(parts, head, captures, body)?,
            };
            if found != Lookup::Missing {
                return Ok(found);
            }
        }
        Ok(Lookup::Missing)
    }
}

/// The parts' values joined; missing when any of them is.
fn template<'a>(
    parts: &[Part],
    head: &RequestHead<'a>,
    captures: &Captures<'a>,
    body: Body<'_>,
) -> Result<Lookup<'a>, KeyError> {
    let mut key = Vec::new();
    for part in parts {
        match part.lookup(head, captures, body)? {
            Lookup::Key(value) => key.extend_from_slice(&value),
            other => return Ok(other),
        }
    }
    Ok(Lookup::Key(key.into()))
}

#[cfg(test)]
mod tests;
