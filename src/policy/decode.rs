//! Decodes the tree into serde types, and reports every mistake in one pass.
//!
//! serde stops at the first error. So the node of an error is reported and made void, and decoding is repeated without
//! it, until no error is left. This terminates, because every field of the document is optional and every round voids a
//! node. Messages quote the text as written, never the value of a reference.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess};
use serde::de::{SeqAccess, Unexpected, VariantAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::decode_error::{DecodeError, Expectation, What};
use super::diagnostic::Problems;
use super::source::quote;
use super::tree::{Kind, NodeId, Scalar, Tree};

/// Maximum number of rounds. Problems are bounded anyway, but equal ones (behind aliases) are kept once and not counted.
const ROUNDS: usize = 300;

/// Decodes the tree. Reports every mistake, and makes its node void.
pub(crate) fn decode<T: DeserializeOwned + Default>(tree: &mut Tree, problems: &mut Problems) -> T {
    for _ in 0..ROUNDS {
        let root = tree.root();
        if tree.is_void(root) || problems.is_full() {
            break;
        }
        match T::deserialize(Decoder { tree, id: root }) {
            Ok(document) => return document,
            Err(fault) => {
                let node = fault.report(tree, problems);
                tree.void(node);
            }
        }
    }
    // Too much is wrong to decode the rest.
    tree.void(tree.root());
    T::default()
}

/// Decodes one node.
#[derive(Clone, Copy)]
struct Decoder<'t> {
    tree: &'t Tree,
    id: NodeId,
}

impl<'t> Decoder<'t> {
    fn kind(self) -> &'t Kind {
        self.tree.kind(self.id)
    }

    fn fault(self, what: What) -> DecodeError {
        DecodeError::new(what).at(self.id)
    }

    /// Returns the scalar at this node, which must not be null.
    fn scalar(self, expectation: impl FnOnce() -> Expectation) -> Result<&'t Scalar, DecodeError> {
        match self.kind() {
            Kind::Scalar(scalar) if scalar.is_null() => Err(self.fault(What::NoValue(expectation()))),
            Kind::Scalar(scalar) => Ok(scalar),
            _ => Err(self.fault(What::Expected(expectation()))),
        }
    }

    /// Parses a scalar that is not text: it must not be in quotes, unless it comes from a reference.
    fn value<T>(self, expectation: impl Fn() -> Expectation, parse: fn(&str) -> Option<T>) -> Result<T, DecodeError> {
        let scalar = self.scalar(&expectation)?;
        let parsed = parse(scalar.value()).ok_or_else(|| self.fault(What::Expected(expectation())))?;
        if scalar.plain || scalar.is_reference() { Ok(parsed) } else { Err(self.fault(What::Quoted(expectation()))) }
    }

    fn visit_text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let scalar = self.scalar(|| Expectation::of(&visitor))?;
        // A visitor's own message may quote the value, so it is not used for the value of a reference.
        let secret = scalar.is_reference().then(|| Expectation::of(&visitor));
        visitor.visit_str(scalar.value()).map_err(|fault: DecodeError| match secret {
            Some(expectation) => self.fault(What::Expected(expectation)),
            None => fault.at(self.id),
        })
    }

    fn visit_sequence<'de, V: Visitor<'de>>(self, items: &'t [NodeId], visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Items { tree: self.tree, items: items.iter() }).map_err(|fault| fault.at(self.id))
    }

    fn visit_mapping<'de, V: Visitor<'de>>(
        self,
        entries: &'t [(NodeId, NodeId)],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor
            .visit_map(Entries { tree: self.tree, entries: entries.iter(), value: None })
            .map_err(|fault| fault.at(self.id))
    }

    fn is_null(self) -> bool {
        matches!(self.kind(), Kind::Scalar(scalar) if scalar.is_null())
    }

    /// Returns the error for a node that is not the expected list or map.
    fn mismatch(self, expectation: Expectation) -> DecodeError {
        self.fault(if self.is_null() { What::NoValue(expectation) } else { What::Expected(expectation) })
    }
}

/// Parses a whole number: no plus sign, no leading zeros (which some parsers read as octal).
fn parse_whole<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.starts_with('+') || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let expectation = || Expectation::Other(format!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX));
            let number = self.value(expectation, parse_whole::<$type>)?;
            visitor.$visit(number).map_err(|fault: DecodeError| fault.at(self.id))
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.kind() {
            Kind::Scalar(_) => self.visit_text(visitor),
            Kind::Sequence(items) => self.visit_sequence(items, visitor),
            Kind::Mapping(entries) => self.visit_mapping(entries, visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let flag = self.value(|| Expectation::Flag, |text| text.parse().ok())?;
        visitor.visit_bool(flag).map_err(|fault: DecodeError| fault.at(self.id))
    }

    whole_numbers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_i64 visit_i64 i64;
    }

    /// For what may be `null` on purpose.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.kind() {
            Kind::Scalar(scalar) if scalar.is_null() && !scalar.written().is_empty() => visitor.visit_unit(),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit_text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        // A key without a value is a mistake and not an absent key: the inner type says what is missing.
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.kind() {
            Kind::Sequence(items) => self.visit_sequence(items, visitor),
            _ => Err(self.mismatch(Expectation::List)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.kind() {
            Kind::Mapping(entries) => self.visit_mapping(entries, visitor),
            _ => Err(self.mismatch(Expectation::Map)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.kind() {
            Kind::Mapping(entries) => self.visit_mapping(entries, visitor),
            _ => Err(self.mismatch(Expectation::Keys(fields))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let (tag, content) = match self.kind() {
            Kind::Scalar(_) => (self.scalar(|| Expectation::OneOf(variants)).map(|_| self.id)?, None),
            Kind::Mapping(entries) => {
                let mut live = entries.iter().filter(|(key, _)| !self.tree.is_void(*key));
                match (live.next(), live.next()) {
                    (Some((_, content)), None) if self.tree.is_void(*content) => return Err(self.fault(What::Void)),
                    (Some((tag, content)), None) => (*tag, Some(*content)),
                    (Some((first, _)), Some((second, _))) => {
                        let (first, second) = (self.tree.key_text(*first), self.tree.key_text(*second));
                        let message = format!("one entry has both {} and {}", quote(first), quote(second));
                        let help =
                            "indent settings deeper than what they belong to, and begin every entry with its own `- `";
                        return Err(self.fault(What::Custom(format!("{message}\n{help}"))));
                    }
                    (None, _) if !entries.is_empty() => return Err(self.fault(What::Void)),
                    (None, _) => return Err(self.fault(What::Expected(Expectation::OneOf(variants)))),
                }
            }
            Kind::Sequence(_) => return Err(self.fault(What::Expected(Expectation::OneOf(variants)))),
        };
        visitor.visit_enum(Choice { whole: self, tag, content }).map_err(|fault: DecodeError| fault.at(self.id))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 f64 char bytes byte_buf unit_struct tuple tuple_struct
    }
}

/// Elements of a list, except void ones.
struct Items<'t> {
    tree: &'t Tree,
    items: std::slice::Iter<'t, NodeId>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let tree = self.tree;
        let Some(id) = self.items.find(|id| !tree.is_void(**id)).copied() else { return Ok(None) };
        seed.deserialize(Decoder { tree, id }).map(Some).map_err(|fault| fault.at(id))
    }
}

/// Entries of a map, except void ones.
struct Entries<'t> {
    tree: &'t Tree,
    entries: std::slice::Iter<'t, (NodeId, NodeId)>,
    value: Option<NodeId>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let tree = self.tree;
        let Some((key, value)) = self.entries.find(|(key, value)| !tree.is_void(*key) && !tree.is_void(*value)) else {
            return Ok(None);
        };
        self.value = Some(*value);
        seed.deserialize(Name { tree, id: *key }).map(Some).map_err(|fault| fault.at(*key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let Some(id) = self.value.take() else { return Err(de::Error::custom("a value was asked for before its key")) };
        seed.deserialize(Decoder { tree: self.tree, id }).map_err(|fault| fault.at(id))
    }
}

/// A key or the name of a variant: always text, even if it looks like a number.
struct Name<'t> {
    tree: &'t Tree,
    id: NodeId,
}

impl<'de> Deserializer<'de> for Name<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let text = match self.tree.kind(self.id) {
            Kind::Scalar(scalar) => scalar.value(),
            _ => "",
        };
        visitor.visit_str(text).map_err(|fault: DecodeError| fault.at(self.id))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// An enum: `name`, or `name: settings`.
struct Choice<'t> {
    /// The whole entry, which is made void if the choice is wrong.
    whole: Decoder<'t>,
    tag: NodeId,
    content: Option<NodeId>,
}

impl<'t, 'de> EnumAccess<'de> for Choice<'t> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let name = Name { tree: self.whole.tree, id: self.tag };
        seed.deserialize(name).map(|variant| (variant, self))
    }
}

impl<'t> Choice<'t> {
    fn shown(&self) -> &'t str {
        self.whole.tree.key_text(self.tag)
    }

    fn wrong(&self, message: &str, help: &str) -> DecodeError {
        self.whole.fault(What::Custom(format!("{} {message}\n{help}", quote(self.shown()))))
    }

    fn content(&self) -> Result<Decoder<'t>, DecodeError> {
        match self.content {
            Some(id) => Ok(Decoder { tree: self.whole.tree, id }),
            None => {
                let help = format!("write them behind it, such as `{}: {{ … }}`", self.shown());
                Err(self.wrong("needs its settings", &help))
            }
        }
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content {
            None => Ok(()),
            Some(_) => {
                Err(self.wrong("takes no settings", &format!("write {} alone, without a `:`", quote(self.shown()))))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        let content = self.content()?;
        seed.deserialize(content).map_err(|fault| fault.at(content.id))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.content()?.deserialize_struct("", fields, visitor)
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Custom(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Expected(Expectation::of(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Expected(Expectation::of(expected)))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(What::Expected(Expectation::of(expected)))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownVariant(expected))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownField(expected))
    }
}
