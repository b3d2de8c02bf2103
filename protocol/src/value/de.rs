//! From a [`Value`] to any serde type.
//!
//! The type that is asked for decides: a map reads as a struct and a struct as a map, and names
//! of structs are not compared, so that a renamed type still reads what it wrote before.

use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, Unexpected, VariantAccess,
    Visitor,
};

use super::{Object, VALUE_NAME, Value, ValueError};

impl Value {
    /// Returns what this value is called in serde's error texts.
    pub(super) fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::None => Unexpected::Option,
            Self::Bool(truth) => Unexpected::Bool(*truth),
            Self::Integer(number) => i64::try_from(*number)
                .map_or(Unexpected::Other("large integer"), Unexpected::Signed),
            Self::Unsigned(_) => Unexpected::Other("large integer"),
            Self::Float(number) => Unexpected::Float(*number),
            Self::String(text) => Unexpected::Str(text),
            Self::Bytes(_) => Unexpected::Other("bytes"),
            Self::List(_) | Self::Tuple(_) | Self::Set(_) => Unexpected::Seq,
            Self::Map(_) => Unexpected::Map,
            Self::Object(object) => match object.variant {
                Some(_) => Unexpected::Enum,
                None => Unexpected::Other("object"),
            },
        }
    }

    /// Whether this is how "no fields" and `()` are written, or were by earlier versions.
    fn is_unit(&self) -> bool {
        match self {
            Self::None => true,
            Self::Tuple(values) | Self::List(values) => values.is_empty(),
            _ => false,
        }
    }
}

fn visit_elements<'de, V: Visitor<'de>>(
    values: Vec<Value>,
    visitor: V,
) -> Result<V::Value, ValueError> {
    let mut elements = SeqDeserializer::new(values.into_iter());
    let result = visitor.visit_seq(&mut elements)?;
    // Elements that the type did not take would be lost silently.
    elements.end()?;
    Ok(result)
}

fn visit_pairs<'de, V: Visitor<'de>>(
    pairs: Vec<(Value, Value)>,
    visitor: V,
) -> Result<V::Value, ValueError> {
    let mut entries = MapDeserializer::new(pairs.into_iter());
    let result = visitor.visit_map(&mut entries)?;
    entries.end()?;
    Ok(result)
}

pub(super) fn visit_bytes_as_elements<'de, V: Visitor<'de>>(
    bytes: Vec<u8>,
    visitor: V,
) -> Result<V::Value, ValueError> {
    let mut elements = SeqDeserializer::new(bytes.into_iter());
    let result = visitor.visit_seq(&mut elements)?;
    elements.end()?;
    Ok(result)
}

fn visit_integer<'de, V: Visitor<'de>>(number: i128, visitor: V) -> Result<V::Value, ValueError> {
    // The narrowest that fits: serde's own integer types only accept the 64-bit calls.
    if let Ok(number) = i64::try_from(number) {
        visitor.visit_i64(number)
    } else if let Ok(number) = u64::try_from(number) {
        visitor.visit_u64(number)
    } else {
        visitor.visit_i128(number)
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let is_some_marker = self.is_some_marker();
        match self {
            // As serde's other self-describing formats read null; options take it as `None`.
            Self::None => visitor.visit_unit(),
            Self::Bool(truth) => visitor.visit_bool(truth),
            Self::Integer(number) => visit_integer(number, visitor),
            Self::Unsigned(number) => visitor.visit_u128(number),
            Self::Float(number) => visitor.visit_f64(number),
            Self::String(text) => visitor.visit_string(text),
            // What tagged, untagged and flattened types buffer is asked for as a sequence later,
            // and types that take bytes take a sequence too.
            Self::Bytes(bytes) => visit_bytes_as_elements(bytes, visitor),
            Self::List(values) | Self::Tuple(values) | Self::Set(values) => {
                visit_elements(values, visitor)
            }
            Self::Map(pairs) => visit_pairs(pairs, visitor),
            Self::Object(object) if is_some_marker => visitor.visit_some(object.content),
            Self::Object(object) => match *object {
                Object { variant: None, content, .. } => content.deserialize_any(visitor),
                // Only a variant without fields has this: one with an empty list, or `None`, has
                // content that would be lost.
                Object { variant: Some(variant), content: Self::Tuple(fields), .. }
                    if fields.is_empty() =>
                {
                    visitor.visit_string(variant)
                }
                // As JSON has it, which is what untagged and flattened types expect.
                Object { variant: Some(variant), content, .. } => {
                    visit_pairs(vec![(Self::String(variant), content)], visitor)
                }
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let is_some_marker = self.is_some_marker();
        match self {
            Self::None => visitor.visit_none(),
            Self::Object(object) if is_some_marker => visitor.visit_some(object.content),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Object(object) if object.variant.is_none() && object.content.is_unit() => {
                visitor.visit_unit()
            }
            value if value.is_unit() => visitor.visit_unit(),
            value => Err(Error::invalid_type(value.unexpected(), &visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Bytes(bytes) => visit_bytes_as_elements(bytes, visitor),
            Self::Object(object) if object.variant.is_none() => {
                object.content.deserialize_seq(visitor)
            }
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            // Text where it is UTF-8, as other clients may write it.
            Self::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            Self::String(text) => visitor.visit_byte_buf(text.into_bytes()),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if name == VALUE_NAME {
            return visitor.visit_enum(Variant::of_value(self));
        }
        match self {
            Self::Object(object) => match *object {
                Object { variant: Some(name), content, .. } => {
                    visitor.visit_enum(Variant { name, content })
                }
                Object { variant: None, content, .. } => {
                    Err(Error::invalid_type(content.unexpected(), &visitor))
                }
            },
            Self::String(name) => visitor.visit_enum(Variant { name, content: Self::None }),
            Self::Map(mut pairs) if pairs.len() == 1 => match pairs.pop() {
                Some((Self::String(name), content)) => {
                    visitor.visit_enum(Variant { name, content })
                }
                _ => Err(Error::invalid_type(Unexpected::Map, &visitor)),
            },
            value => Err(Error::invalid_type(value.unexpected(), &visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char map
    }
}

/// One variant of an enum, about to be read.
struct Variant {
    name: String,
    content: Value,
}

impl Variant {
    /// Returns `value` as `Value`'s derived `Deserialize` expects it.
    fn of_value(value: Value) -> Self {
        let (name, content) = match value {
            Value::None => ("None", Value::None),
            Value::Bool(_) => ("Bool", value),
            Value::Integer(_) => ("Integer", value),
            Value::Unsigned(_) => ("Unsigned", value),
            Value::Float(_) => ("Float", value),
            Value::String(_) => ("String", value),
            Value::Bytes(_) => ("Bytes", value),
            Value::List(_) => ("List", value),
            Value::Tuple(_) => ("Tuple", value),
            Value::Set(_) => ("Set", value),
            Value::Map(pairs) => {
                let pair = |(key, value)| Value::Tuple(vec![key, value]);
                ("Map", Value::List(pairs.into_iter().map(pair).collect()))
            }
            Value::Object(object) => {
                let Object { name, variant, content } = *object;
                let fields = vec![
                    ("name".into(), Value::String(name)),
                    ("variant".into(), variant.map_or(Value::None, Value::String)),
                    ("content".into(), content),
                ];
                ("Object", Value::Map(fields))
            }
        };
        Self { name: name.to_owned(), content }
    }
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = ValueError;
    type Variant = Value;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Value), ValueError> {
        let name: StringDeserializer<ValueError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Value {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        if self.is_unit() {
            return Ok(());
        }
        Err(Error::invalid_type(self.unexpected(), &"a variant without fields"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, ValueError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_any(visitor)
    }
}
