//! Pure: what serde asks of maps, lists, places and variants.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{Decode, Error};
use crate::config::document::{Node, join};
use crate::config::place::FIELDS;

/// The entries of a map that were not set aside.
pub(super) struct Map<'m, 'd> {
    pub(super) of: &'m Decode<'d>,
    pub(super) entries: &'d [(String, Node)],
    pub(super) value: Option<&'d (String, Node)>,
}

impl<'de> MapAccess<'de> for Map<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        loop {
            let Some((entry, rest)) = self.entries.split_first() else {
                return Ok(None);
            };
            self.entries = rest;
            if !self.of.notes.is_aside(&entry.1) {
                self.value = Some(entry);
                let name: StrDeserializer<'_, Error> = entry.0.as_str().into_deserializer();
                return seed.deserialize(name).map(Some);
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, node) = self.value.take().expect("a value must follow its key");
        self.of.part(node, &join(&self.of.key, name), seed)
    }
}

/// The items of a list that were not set aside.
pub(super) struct List<'m, 'd> {
    pub(super) of: &'m Decode<'d>,
    pub(super) items: &'d [Node],
    pub(super) next: usize,
}

impl<'de> SeqAccess<'de> for List<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        while let Some(item) = self.items.get(self.next) {
            let key = format!("{}[{}]", self.of.key, self.next);
            self.next += 1;
            if !self.of.notes.is_aside(item) {
                return self.of.part(item, &key, seed).map(Some);
            }
        }
        Ok(None)
    }
}

/// A value with its place, for [`At`](crate::config::place::At).
pub(super) struct Placed<'d> {
    pub(super) of: Decode<'d>,
    pub(super) next: usize,
}

impl<'de> MapAccess<'de> for Placed<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(name) = FIELDS.get(self.next) else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Error> = (*name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.next += 1;
        let Decode { notes, node, key } = &self.of;
        match self.next {
            1 => seed.deserialize(node.line.into_deserializer()),
            2 => seed.deserialize(node.column.into_deserializer()),
            3 => seed.deserialize(key.as_str().into_deserializer()),
            _ => seed.deserialize(Decode {
                notes,
                node,
                key: key.clone(),
            }),
        }
    }
}

/// The name of a variant without content.
pub(super) struct Variant<'d>(pub(super) &'d str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Error> {
        Err(Error::mismatch("a name"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::mismatch("a name"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        Err(Error::mismatch("a name"))
    }
}
