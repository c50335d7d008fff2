//! Pure: a value that may be off.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A value that may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrOff<T>(pub(super) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Any<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = OrOff<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or off")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OrOff<T>, E> {
                if text == "off" {
                    return Ok(OrOff(None));
                }
                let value = serde::de::value::StrDeserializer::<E>::new(text);
                T::deserialize(value).map(|it| OrOff(Some(it)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OrOff<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|it| OrOff(Some(it)))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<OrOff<T>, E> {
                let value = serde::de::value::F64Deserializer::<E>::new(number);
                T::deserialize(value).map(|it| OrOff(Some(it)))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<OrOff<T>, E> {
                let value = serde::de::value::U64Deserializer::<E>::new(number);
                T::deserialize(value).map(|it| OrOff(Some(it)))
            }
        }
        value.deserialize_any(Any(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OrOff<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "off" }, generator.subschema_for::<T>()] })
    }
}
