//! Pure: a value that remembers where it was written, for checks that come after decoding.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::problem::Problem;

/// The name by which the decoder knows that a value's place is wanted, and what it gives.
pub(super) const AT: &str = "At";
pub(super) const FIELDS: [&str; 4] = ["line", "column", "key", "value"];

/// A value and its place in the file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct At<T> {
    line: u64,
    column: u64,
    key: String,
    pub(super) value: T,
}

impl<T> At<T> {
    /// What is wrong here.
    pub(super) fn problem(
        &self,
        file: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Problem {
        Problem {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            key: self.key.clone(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
