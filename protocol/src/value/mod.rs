//! Typed values: what the typed client stores under a key, readable from every language.
//!
//! [`to_value`] turns any serde type into a [`Value`], [`from_value`] turns it back, and
//! [`codec`] gives both their bytes.
//! Reading order: this file (the model), [`codec`] (the byte format), `ser` and `de` (serde).
//!
//! # What becomes what
//!
//! | Rust | [`Value`] | stored as |
//! |---|---|---|
//! | `&str`, `String`, `char` | `String` | its UTF-8 bytes |
//! | `Vec<u8>`, `&[u8]`, `[u8; N]` (not empty), `serde_bytes` | `Bytes` | the bytes |
//! | integers up to 128 bits | `Integer` (`Unsigned` above `i128::MAX`) | decimal text |
//! | `Some(x)` | what `x` becomes | what `x` becomes |
//! | newtype structs | what the content becomes | what the content becomes |
//! | `None` and `()`; `bool`; `f32`, `f64` | `None`; `Bool`; `Float` | encoded |
//! | sequences; tuples and arrays; maps | `List`; `Tuple`; `Map` | encoded |
//! | [`AsSet`] of a sequence | `Set` | encoded |
//! | structs; enum variants | `Object` with its name; and its variant | encoded |
//!
//! Text, bytes and integers are stored as any Redis client stores them, so `INCR` works on them
//! and `redis-cli` shows them. The price: their type is not stored, and the reader's type decides.
//! A reader that asks for a [`Value`], or for an untagged type, gets an integer if the text is one
//! in canonical form, else a string if it is UTF-8, else bytes.
//!
//! Types that serde reads by way of a buffer (`tag`, `untagged`, `flatten`) read all of these
//! too, with two limits. Bytes are a sequence of numbers in that buffer, at 32 bytes of memory
//! each while they are read. A [`Value`] cannot be read out of it: there, use a type of your own,
//! or one such as `serde_json::Value`.

mod byte_probe;
pub mod codec;
mod de;
mod error;
mod plain;
mod ser;
mod set;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use codec::{decode, encode, encode_key};
pub use error::ValueError;
pub use set::{AsSet, as_set};

/// The name under which [`Value`] tells our own serializer and deserializer to pass it unchanged.
const VALUE_NAME: &str = "distcache::Value";

/// The object name that keeps `Some(None)` apart from `None`.
const OPTION_NAME: &str = "Option";
/// The variant of [`OPTION_NAME`].
const SOME_VARIANT: &str = "Some";

/// One value that says itself what it is.
///
/// It serialises losslessly into any serde format, as an externally tagged enum; inside a type
/// given to [`to_value`] it stays what it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename = "distcache::Value")]
pub enum Value {
    /// No value: `None`, `null`, `nil`.
    #[default]
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number of up to 128 bits.
    Integer(i128),
    /// A whole number above `i128::MAX`; smaller ones are always [`Value::Integer`].
    Unsigned(u128),
    /// A number in IEEE 754 double precision.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes: an image, a compressed document.
    Bytes(Vec<u8>),
    /// A sequence of any length.
    List(Vec<Value>),
    /// A sequence whose length belongs to its type.
    Tuple(Vec<Value>),
    /// A collection without order or duplicates.
    Set(Vec<Value>),
    /// Pairs of key and value, in the order in which they were written.
    Map(Vec<(Value, Value)>),
    /// An instance of a named type.
    Object(Box<Object>),
}

/// An instance of a struct or of one variant of an enum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// The name of the struct or enum. Informative: it is not compared when reading.
    pub name: String,
    /// The name of the variant, for an enum.
    pub variant: Option<String>,
    /// Named fields as a [`Value::Map`] from strings, unnamed fields as a [`Value::Tuple`],
    /// a single unnamed field as itself; no fields as an empty tuple for a variant, and as
    /// [`Value::None`] for a unit struct.
    pub content: Value,
}

/// Returns the value that `source` becomes.
///
/// # Errors
///
/// [`ValueError::TooDeep`] if it nests so deep that it cannot be encoded either;
/// [`ValueError::Type`] if its own `Serialize` fails.
pub fn to_value<T: Serialize + ?Sized>(source: &T) -> Result<Value, ValueError> {
    source.serialize(ser::ValueSerializer::new())
}

/// Returns the `T` that `value` holds.
///
/// # Errors
///
/// [`ValueError::Type`], naming what was found and what `T` expects.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, ValueError> {
    T::deserialize(value)
}

impl Value {
    /// Returns the word for this kind of value, as error texts use it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bool(_) => "boolean",
            Self::Integer(_) | Self::Unsigned(_) => "integer",
            Self::Float(_) => "float",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Set(_) => "set",
            Self::Map(_) => "map",
            Self::Object(_) => "object",
        }
    }

    /// Returns the integer in its one form: [`Value::Unsigned`] only above `i128::MAX`.
    fn from_u128(number: u128) -> Self {
        i128::try_from(number).map_or(Self::Unsigned(number), Self::Integer)
    }

    /// Whether this is the object that stands for `Some` of something that looks like `None`.
    fn is_some_marker(&self) -> bool {
        match self {
            Self::Object(object) => {
                object.name == OPTION_NAME && object.variant.as_deref() == Some(SOME_VARIANT)
            }
            _ => false,
        }
    }
}

macro_rules! value_from {
    ($($source:ty => $variant:ident),* $(,)?) => {
        $(impl From<$source> for Value {
            fn from(source: $source) -> Self {
                Self::$variant(source.into())
            }
        })*
    };
}

value_from! {
    bool => Bool, f32 => Float, f64 => Float, &str => String, String => String,
    i8 => Integer, i16 => Integer, i32 => Integer, i64 => Integer, i128 => Integer,
    u8 => Integer, u16 => Integer, u32 => Integer, u64 => Integer,
    Vec<u8> => Bytes, &[u8] => Bytes,
}

#[cfg(test)]
mod tests;
