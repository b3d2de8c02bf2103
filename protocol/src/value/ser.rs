//! From any serde type to a [`Value`].

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::byte_probe::ByteProbe;
use super::set::SET_NAME;
use super::{OPTION_NAME, Object, SOME_VARIANT, VALUE_NAME, Value, ValueError};
use crate::limits::VALUE_DEPTH_MAX;

/// Builds the value of whatever is serialized into it.
#[derive(Clone, Copy)]
pub(super) struct ValueSerializer {
    depth: usize,
}

impl ValueSerializer {
    pub(super) fn new() -> Self {
        Self { depth: 0 }
    }

    /// Returns the serializer of what is nested in this one's value.
    fn nested(self) -> Result<Self, ValueError> {
        // Only the stack is guarded here, the exact limit is the codec's: a map within a `Value`
        // takes two levels by way of serde.
        if self.depth == 2 * VALUE_DEPTH_MAX {
            return Err(ValueError::TooDeep);
        }
        Ok(Self { depth: self.depth + 1 })
    }

    fn elements(self, kind: ElementsKind, len: usize) -> Result<Elements, ValueError> {
        // The length is a hint by the type's author: never allocate by it alone.
        let values = Vec::with_capacity(len.min(1024));
        Ok(Elements { nested: self.nested()?, kind, bytes: Vec::new(), values })
    }

    fn pairs(
        self,
        object: Option<(&'static str, Option<&'static str>)>,
        len: usize,
    ) -> Result<Pairs, ValueError> {
        let pairs = Vec::with_capacity(len.min(1024));
        Ok(Pairs { nested: self.nested()?, object, key: None, pairs })
    }
}

/// Returns the object of a struct or of an enum's variant.
///
/// A [`Value`] that was serialized by its derived code comes by here too, and is unwrapped.
fn object(name: &str, variant: Option<&str>, content: Value) -> Result<Value, ValueError> {
    if let (VALUE_NAME, Some(variant)) = (name, variant) {
        return unwrap_value(variant, content);
    }
    let variant = variant.map(str::to_owned);
    Ok(Value::Object(Box::new(Object { name: name.to_owned(), variant, content })))
}

/// Undoes what `Value`'s derived `Serialize` does: `content` is what it wrote for `variant`.
fn unwrap_value(variant: &str, content: Value) -> Result<Value, ValueError> {
    Ok(match (variant, content) {
        ("None", _) => Value::None,
        ("Bytes", Value::List(_)) => Value::Bytes(Vec::new()),
        ("Tuple", Value::List(values)) => Value::Tuple(values),
        ("Set", Value::List(values)) => Value::Set(values),
        ("Map", Value::List(pairs)) => {
            Value::Map(pairs.into_iter().map(unwrap_pair).collect::<Result<_, _>>()?)
        }
        ("Object", Value::Object(derived)) => Value::Object(Box::new(unwrap_object(*derived))),
        (_, content) => content,
    })
}

fn unwrap_pair(pair: Value) -> Result<(Value, Value), ValueError> {
    match pair {
        Value::Tuple(pair) => match <[Value; 2]>::try_from(pair) {
            Ok([key, value]) => Ok((key, value)),
            Err(other) => Err(ValueError::Type(format!("{} values for a pair", other.len()))),
        },
        other => Err(ValueError::Type(format!("{} for a pair", other.kind()))),
    }
}

/// Returns the object whose own fields were serialized as those of a struct.
fn unwrap_object(derived: Object) -> Object {
    let mut object = Object { name: String::new(), variant: None, content: Value::None };
    if let Value::Map(fields) = derived.content {
        for field in fields {
            match field {
                (Value::String(key), Value::String(name)) if key == "name" => object.name = name,
                (Value::String(key), Value::String(name)) if key == "variant" => {
                    object.variant = Some(name);
                }
                (Value::String(key), content) if key == "content" => object.content = content,
                _ => {}
            }
        }
    }
    object
}

macro_rules! integers {
    ($($method:ident($source:ty)),* $(,)?) => {
        $(fn $method(self, number: $source) -> Result<Value, ValueError> {
            Ok(Value::Integer(number.into()))
        })*
    };
}

impl Serializer for ValueSerializer {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = Elements;
    type SerializeTuple = Elements;
    type SerializeTupleStruct = Elements;
    type SerializeTupleVariant = Elements;
    type SerializeMap = Pairs;
    type SerializeStruct = Pairs;
    type SerializeStructVariant = Pairs;

    integers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64),
    }

    fn serialize_u128(self, number: u128) -> Result<Value, ValueError> {
        Ok(Value::from_u128(number))
    }

    fn serialize_bool(self, truth: bool) -> Result<Value, ValueError> {
        Ok(Value::Bool(truth))
    }

    fn serialize_f32(self, number: f32) -> Result<Value, ValueError> {
        Ok(Value::Float(number.into()))
    }

    fn serialize_f64(self, number: f64) -> Result<Value, ValueError> {
        Ok(Value::Float(number))
    }

    fn serialize_char(self, character: char) -> Result<Value, ValueError> {
        Ok(Value::String(character.into()))
    }

    fn serialize_str(self, text: &str) -> Result<Value, ValueError> {
        Ok(Value::String(text.to_owned()))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, ValueError> {
        Ok(Value::Bytes(bytes.to_vec()))
    }

    fn serialize_none(self) -> Result<Value, ValueError> {
        Ok(Value::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, inner: &T) -> Result<Value, ValueError> {
        let value = inner.serialize(self.nested()?)?;
        // Only here would `Some` be lost: `Some(None)` would read back as `None`.
        if value == Value::None || value.is_some_marker() {
            return object(OPTION_NAME, Some(SOME_VARIANT), value);
        }
        Ok(value)
    }

    fn serialize_unit(self) -> Result<Value, ValueError> {
        Ok(Value::None)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<Value, ValueError> {
        object(name, None, Value::None)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, ValueError> {
        object(name, Some(variant), Value::Tuple(Vec::new()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        inner: &T,
    ) -> Result<Value, ValueError> {
        let value = inner.serialize(self.nested()?)?;
        Ok(match value {
            Value::List(values) if name == SET_NAME => Value::Set(values),
            Value::Bytes(bytes) if name == SET_NAME => {
                Value::Set(bytes.into_iter().map(Value::from).collect())
            }
            value => value,
        })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        inner: &T,
    ) -> Result<Value, ValueError> {
        // A `Value` inside a type adds no level of its own: its content is the level.
        let serializer = if name == VALUE_NAME { self } else { self.nested()? };
        object(name, Some(variant), inner.serialize(serializer)?)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Elements, ValueError> {
        self.elements(ElementsKind::List, len.unwrap_or(0))
    }

    fn serialize_tuple(self, len: usize) -> Result<Elements, ValueError> {
        self.elements(ElementsKind::Tuple, len)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Elements, ValueError> {
        self.elements(ElementsKind::Fields(name, None), len)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Elements, ValueError> {
        self.elements(ElementsKind::Fields(name, Some(variant)), len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Pairs, ValueError> {
        self.pairs(None, len.unwrap_or(0))
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Pairs, ValueError> {
        self.pairs(Some((name, None)), len)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Pairs, ValueError> {
        self.pairs(Some((name, Some(variant))), len)
    }
}

enum ElementsKind {
    List,
    Tuple,
    Fields(&'static str, Option<&'static str>),
}

/// A sequence in the making: bytes as long as every element is a `u8`, values from then on.
pub(super) struct Elements {
    nested: ValueSerializer,
    kind: ElementsKind,
    bytes: Vec<u8>,
    values: Vec<Value>,
}

impl Elements {
    fn push<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), ValueError> {
        let may_be_bytes = !matches!(self.kind, ElementsKind::Fields(..));
        if may_be_bytes
            && self.values.is_empty()
            && let Ok(byte) = element.serialize(ByteProbe)
        {
            self.bytes.push(byte);
            return Ok(());
        }
        self.values.extend(self.bytes.drain(..).map(Value::from));
        self.values.push(element.serialize(self.nested)?);
        Ok(())
    }

    fn finish(self) -> Result<Value, ValueError> {
        if !self.bytes.is_empty() {
            return Ok(Value::Bytes(self.bytes));
        }
        match self.kind {
            ElementsKind::List => Ok(Value::List(self.values)),
            ElementsKind::Tuple => Ok(Value::Tuple(self.values)),
            ElementsKind::Fields(name, variant) => object(name, variant, Value::Tuple(self.values)),
        }
    }
}

macro_rules! elements {
    ($($interface:ident::$method:ident),* $(,)?) => {
        $(impl $interface for Elements {
            type Ok = Value;
            type Error = ValueError;

            fn $method<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), ValueError> {
                self.push(element)
            }

            fn end(self) -> Result<Value, ValueError> {
                self.finish()
            }
        })*
    };
}

elements! {
    SerializeSeq::serialize_element, SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field, SerializeTupleVariant::serialize_field,
}

/// A map, or the named fields of an object, in the making.
pub(super) struct Pairs {
    nested: ValueSerializer,
    object: Option<(&'static str, Option<&'static str>)>,
    key: Option<Value>,
    pairs: Vec<(Value, Value)>,
}

impl Pairs {
    fn push_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        field: &T,
    ) -> Result<(), ValueError> {
        self.pairs.push((name.into(), field.serialize(self.nested)?));
        Ok(())
    }

    fn finish(self) -> Result<Value, ValueError> {
        let content = Value::Map(self.pairs);
        match self.object {
            None => Ok(content),
            Some((name, variant)) => object(name, variant, content),
        }
    }
}

impl SerializeMap for Pairs {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        self.key = Some(key.serialize(self.nested)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        let Some(key) = self.key.take() else {
            return Err(ValueError::Type("map value before its key".to_owned()));
        };
        self.pairs.push((key, value.serialize(self.nested)?));
        Ok(())
    }

    fn end(self) -> Result<Value, ValueError> {
        self.finish()
    }
}

impl SerializeStruct for Pairs {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        field: &T,
    ) -> Result<(), ValueError> {
        self.push_field(name, field)
    }

    fn end(self) -> Result<Value, ValueError> {
        self.finish()
    }
}

impl SerializeStructVariant for Pairs {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        field: &T,
    ) -> Result<(), ValueError> {
        self.push_field(name, field)
    }

    fn end(self) -> Result<Value, ValueError> {
        self.finish()
    }
}
