//! Pure: from a file's tree to its types, collecting everything that is wrong on the way.
//!
//! serde stops at the first error. So a value that does not fit is noted, set aside, and the tree
//! is decoded again without it, until nothing new is found. A key that is missing only because its
//! value was set aside is not noted a second time.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::document::{Document, Kind, Node, join};
use super::place::AT;
use super::problem::Problem;

mod access;
mod error;

use access::{List, Map, Placed, Variant};
use error::Error;

/// How many problems one file is told of: whoever has more has another kind of problem.
const PROBLEMS_MAX: usize = 100;

impl Document {
    /// The file as `T`, without what does not fit; `None` when nothing is left of it.
    pub(super) fn decode<T: DeserializeOwned>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        let notes = Notes {
            file: &self.file,
            noted: RefCell::default(),
            aside: RefCell::default(),
        };
        let mut decoded = None;
        while notes.noted.borrow().len() < PROBLEMS_MAX {
            let before = notes.aside.borrow().len();
            let node = Decode {
                notes: &notes,
                node: &self.root,
                key: String::new(),
            };
            match T::deserialize(node) {
                Ok(value) => {
                    decoded = Some(value);
                    break;
                }
                Err(Error::Noted) => {}
                Err(error) => notes.note(&self.root, "", error),
            }
            if notes.aside.borrow().len() == before || notes.is_aside(&self.root) {
                break;
            }
        }
        problems.append(&mut notes.noted.into_inner());
        decoded
    }
}

/// What was found wrong so far.
struct Notes<'d> {
    file: &'d str,
    noted: RefCell<Vec<Problem>>,
    /// The nodes that are left out, by their addresses: the tree does not change.
    aside: RefCell<HashSet<*const Node>>,
}

impl Notes<'_> {
    fn is_aside(&self, node: &Node) -> bool {
        self.aside.borrow().contains(&std::ptr::from_ref(node))
    }

    /// Notes `error` at `node` and sets the node aside, unless that was done further down.
    fn note(&self, node: &Node, key: &str, error: Error) {
        let (expected, found) = match error {
            Error::Noted => return,
            Error::Missing(name) => (format!("a key {name}"), "none".to_owned()),
            Error::Mismatch { expected, found } => {
                (expected, found.unwrap_or_else(|| describe(&node.kind)))
            }
        };
        self.aside.borrow_mut().insert(node);
        self.noted.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line: node.line,
            column: node.column,
            key: key.to_owned(),
            expected,
            found,
        });
    }
}

/// One node being decoded.
struct Decode<'d> {
    notes: &'d Notes<'d>,
    node: &'d Node,
    key: String,
}

impl<'d> Decode<'d> {
    /// Decodes a part of the node; what is wrong with it is noted there.
    fn part<'de, S: DeserializeSeed<'de>>(
        &self,
        node: &'d Node,
        key: &str,
        seed: S,
    ) -> Result<S::Value, Error> {
        let part = Decode {
            notes: self.notes,
            node,
            key: key.to_owned(),
        };
        seed.deserialize(part).map_err(|error| {
            self.notes.note(node, key, error);
            Error::Noted
        })
    }

    fn entries(&self) -> Result<&'d [(String, Node)], Error> {
        match &self.node.kind {
            Kind::Map(entries) => Ok(entries),
            // An empty section: all defaults.
            Kind::Null => Ok(&[]),
            _ => Err(Error::mismatch("a map of keys")),
        }
    }

    fn note_unknown_keys(&self, entries: &'d [(String, Node)], fields: &'static [&'static str]) {
        for (name, node) in entries {
            if !fields.contains(&name.as_str()) && !self.notes.is_aside(node) {
                let near = fields.iter().find(|it| is_near(it, name));
                let expected = match near {
                    Some(near) => format!("a known key (did you mean {near}?)"),
                    None if fields.is_empty() => "no key".to_owned(),
                    None => format!("one of {}", fields.join(", ")),
                };
                let found = Some(format!("the unknown key {name:?}"));
                let key = join(&self.key, name);
                self.notes
                    .note(node, &key, Error::Mismatch { expected, found });
            }
        }
    }
}

impl<'de> Deserializer<'de> for Decode<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => Err(Error::mismatch("a number of 64 bits")),
            },
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text(text) | Kind::Expanded(text) => visitor.visit_str(text),
            Kind::List(items) => visitor.visit_seq(List {
                of: &self,
                items,
                next: 0,
            }),
            Kind::Map(entries) => visitor.visit_map(Map {
                of: &self,
                entries,
                value: None,
            }),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Expanded(text) => match text.parse() {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => Err(Error::mismatch("a number")),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let entries = self.entries()?;
        visitor.visit_map(Map {
            of: &self,
            entries,
            value: None,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == AT {
            return visitor.visit_map(Placed { of: self, next: 0 });
        }
        let entries = self.entries()?;
        self.note_unknown_keys(entries, fields);
        let decoded = visitor.visit_map(Map {
            of: &self,
            entries,
            value: None,
        });
        decoded.map_err(|error| match error {
            Error::Missing(field) if entries.iter().any(|it| it.0 == field) => {
                // Its value was set aside, and with it goes what cannot be without it.
                self.notes.aside.borrow_mut().insert(self.node);
                Error::Noted
            }
            error => error,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Text(text) | Kind::Expanded(text) => visitor.visit_enum(Variant(text)),
            _ => Err(Error::mismatch(&format!("one of {}", variants.join(", ")))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct identifier ignored_any
    }
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Integer(value) => format!("the number {value}"),
        Kind::Float(value) => format!("the number {value}"),
        Kind::Text(text) | Kind::Expanded(text) => format!("{text:?}"),
        Kind::List(items) => format!("a list of {}", items.len()),
        Kind::Map(entries) => format!("a map of {} keys", entries.len()),
    }
}

/// Whether `found` is `known` with one slip: a letter more, less, other or swapped, or another case
/// or dash.
fn is_near(known: &str, found: &str) -> bool {
    let normal = |it: &str| it.to_ascii_lowercase().replace('-', "_").into_bytes();
    let (known, found) = (normal(known), normal(found));
    if known == found {
        return true;
    }
    let start = known.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let (known, found) = (&known[start..], &found[start..]);
    let without = |it: &[u8], n: usize| it.get(n..).map(<[u8]>::to_vec);
    let swapped = known.len() >= 2
        && found.len() >= 2
        && (known[0], known[1]) == (found[1], found[0])
        && known[2..] == found[2..];
    swapped
        || without(known, 1) == without(found, 1) && !known.is_empty()
        || without(known, 1).as_deref() == Some(found)
        || without(found, 1).as_deref() == Some(known)
}
