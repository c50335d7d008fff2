//! Pure: why a value does not fit its type.

use std::fmt;

use serde::de::{Expected, Unexpected};

/// Why a value does not fit.
#[derive(Debug)]
pub(super) enum Error {
    /// It was noted where it stands.
    Noted,
    /// A key is missing.
    Missing(&'static str),
    /// One thing was expected and another found.
    Mismatch {
        expected: String,
        found: Option<String>,
    },
}

impl Error {
    pub(super) fn mismatch(expected: &str) -> Self {
        Self::Mismatch {
            expected: expected.to_owned(),
            found: None,
        }
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        // The errors of our own types say both.
        match message
            .strip_prefix("expected ")
            .and_then(|it| it.split_once(", found "))
        {
            Some((expected, found)) => Self::Mismatch {
                expected: expected.to_owned(),
                found: Some(found.to_owned()),
            },
            None => Self::Mismatch {
                expected: message,
                found: None,
            },
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }

    fn invalid_type(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch(plain(&expected.to_string()))
    }

    fn invalid_value(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch(plain(&expected.to_string()))
    }

    fn unknown_variant(_found: &str, variants: &'static [&'static str]) -> Self {
        Self::mismatch(&format!("one of {}", variants.join(", ")))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noted => f.write_str("noted"),
            Self::Missing(name) => write!(f, "expected a key {name}"),
            Self::Mismatch { expected, .. } => write!(f, "expected {expected}"),
        }
    }
}

impl std::error::Error for Error {}

/// Rust's name of a type in the words of whoever writes files.
fn plain(expected: &str) -> &str {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number",
        "a nonzero u8" => "a whole number from 1 to 255",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a string" => "a text (quote it)",
        other => other,
    }
}
