//! Bytes without a type, as any Redis client stores them: the type that is asked for decides.

use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::{Value, ValueError, de};

/// The longest decimal text of a 128-bit integer: sign and 39 digits.
const INTEGER_TEXT_LEN_MAX: usize = 40;

/// The most characters of stored text that an error repeats.
const ERROR_TEXT_CHARS_MAX: usize = 40;

/// Reads plainly stored bytes as whatever is asked for.
pub(super) struct PlainDeserializer(pub(super) Vec<u8>);

/// Returns what plainly stored bytes most probably are: an integer in canonical form, else text,
/// else bytes.
pub(super) fn guess(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => match parse_integer(&text) {
            Some((number, canonical)) if canonical == text => number,
            _ => Value::String(text),
        },
        Err(error) => Value::Bytes(error.into_bytes()),
    }
}

/// Returns the integer and the one text that every client writes for it.
fn parse_integer(text: &str) -> Option<(Value, String)> {
    if text.len() > INTEGER_TEXT_LEN_MAX {
        return None;
    }
    if let Ok(number) = text.parse::<i128>() {
        return Some((Value::Integer(number), number.to_string()));
    }
    let number = text.parse::<u128>().ok()?;
    Some((Value::Unsigned(number), number.to_string()))
}

impl PlainDeserializer {
    fn integer(self) -> Result<Value, ValueError> {
        let text = std::str::from_utf8(&self.0).ok();
        match text.and_then(parse_integer) {
            Some((number, _)) => Ok(number),
            None => Err(self.not("an integer")),
        }
    }

    fn float(self) -> Result<f64, ValueError> {
        let text = std::str::from_utf8(&self.0).ok();
        text.and_then(|text| text.parse().ok()).ok_or_else(|| self.not("a number"))
    }

    fn not(&self, expected: &'static str) -> ValueError {
        let text = String::from_utf8_lossy(&self.0).chars().take(ERROR_TEXT_CHARS_MAX).collect();
        ValueError::NotANumber { text, expected }
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            self.integer()?.deserialize_any(visitor)
        })*
    };
}

macro_rules! guessed {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, ValueError> {
            guess(self.0).$method($($argument,)* visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for PlainDeserializer {
    type Error = ValueError;

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    guessed! {
        deserialize_any()
        deserialize_bool()
        deserialize_unit()
        deserialize_map()
        deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str)
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match String::from_utf8(self.0) {
            Ok(text) => visitor.visit_string(text),
            Err(_) => Err(Error::invalid_type(Unexpected::Other("bytes, not UTF-8"), &visitor)),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_byte_buf(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_byte_buf(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        de::visit_bytes_as_elements(self.0, visitor)
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
}
