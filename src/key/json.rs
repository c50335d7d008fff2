//! Pure: one value of a JSON text, found by pointer without building the rest.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

/// What is at a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No string and no number.
    Nothing,
    /// A string's text, or a number as written.
    Text(String),
    /// Members of one name with differing values: parsers disagree which one counts
    /// (RFC 8259 section 4).
    Several,
}

/// What is at `pointer` in `text`; nothing in what is no JSON. Nesting is bounded by `serde_json`'s
/// 128 levels.
pub(super) fn find(pointer: &[String], text: &[u8]) -> Found {
    let mut json = serde_json::Deserializer::from_slice(text);
    let found = Seek(pointer).deserialize(&mut json);
    match (found, json.end()) {
        (Ok(found), Ok(())) => found,
        _ => Found::Nothing,
    }
}

/// Follows a pointer's tokens.
struct Seek<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Found, D::Error> {
        if self.0.is_empty() {
            let raw: &RawValue = serde::Deserialize::deserialize(value)?;
            return leaf(raw.get()).map_err(D::Error::custom);
        }
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let Some((token, rest)) = self.0.split_first() else {
            return Ok(Found::Nothing);
        };
        let mut found = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            if name != *token {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value_seed(Seek(rest))?;
            found = Some(match found {
                Some(before) if before != value => Found::Several,
                _ => value,
            });
        }
        Ok(found.unwrap_or(Found::Nothing))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let Some((token, rest)) = self.0.split_first() else {
            return Ok(Found::Nothing);
        };
        let mut found = Found::Nothing;
        for index in 0.. {
            // RFC 6901 4: digits without a leading zero.
            if index_is(token, index) {
                match seq.next_element_seed(Seek(rest))? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Nothing)
    }
}

fn index_is(token: &str, index: usize) -> bool {
    token.parse() == Ok(index) && (token == "0" || !token.starts_with(['0', '+']))
}

fn leaf(raw: &str) -> serde_json::Result<Found> {
    Ok(match raw.as_bytes().first() {
        Some(b'"') => Found::Text(serde_json::from_str(raw)?),
        Some(b'-' | b'0'..=b'9') => Found::Text(raw.to_owned()),
        _ => Found::Nothing,
    })
}
