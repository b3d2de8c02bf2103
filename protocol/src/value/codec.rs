//! The bytes of a typed value, as stored under a key. Version 1.
//!
//! ```text
//! stored  := plain | encoded
//! plain   := any bytes that do not begin with DC 44: text (UTF-8), bytes, or a decimal integer
//! encoded := DC 44, version (01), value          nothing may follow
//!
//! value   := 00                                  none
//!          | 01 bool                             00 false, 01 true
//!          | 02 zigzag                           integer that fits 128 bits with sign
//!          | 03 varint                           integer above 2^127 - 1
//!          | 04 8 bytes                          float: IEEE 754 double, little-endian
//!          | 05 string
//!          | 06 varint bytes                     bytes, their number first
//!          | 07 varint value*                    list, the number of elements first
//!          | 08 varint value*                    tuple
//!          | 09 varint value*                    set
//!          | 0A varint (value value)*            map: the number of pairs, then key, value, ...
//!          | 0B string variant value             object: name, variant, content
//! string  := varint bytes                        UTF-8, the number of bytes first
//! variant := 00 | 01 string                      a struct has none, an enum has one
//!
//! varint  := 00..FA                              the number itself
//!          | FB 2 bytes | FC 4 bytes | FD 8 bytes | FE 16 bytes     little-endian
//! zigzag  := varint of (n >= 0 ? 2n : -2n - 1)
//! ```
//!
//! This is `bincode` 2 in its standard configuration. The content of an object is a map from
//! field names, a tuple of unnamed fields, one unnamed field as itself, or an empty tuple.
//!
//! No UTF-8 text begins with `DC 44`, so text is always plain; bytes that do begin so are
//! encoded, as tag `06`, and nothing is ever misread.
//! A reader refuses values that nest deeper than 128 or count more than 16,777,216.
//!
//! # Keys
//!
//! Keys use the same encoding in a canonical form: pairs of maps and elements of sets are sorted
//! by their encoded bytes, so that equal maps make equal keys.
//! The key `1` is the key `"1"`, as for every Redis client; `("user", 42)` is a key of its own.
//! Floats are compared by their bits: `0.0` and `-0.0` are two keys.

use bincode::config::{Configuration, standard};
use bincode::de::read::{BorrowReader, Reader};
use bincode::de::{BorrowDecode, BorrowDecoder, Decode, DecoderImpl};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder, EncoderImpl};
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plain::{PlainDeserializer, guess};
use super::{Object, Value, ValueError, from_value, to_value};
use crate::limits::{VALUE_DEPTH_MAX, VALUE_NODES_MAX};

/// The bytes with which every encoded value begins, and no UTF-8 text.
pub const MAGIC: [u8; 2] = [0xDC, 0x44];

/// The version of the format, the byte after [`MAGIC`].
pub const VERSION: u8 = 1;

/// Returns the bytes to store for `source`.
///
/// # Errors
///
/// As [`to_value`]; [`ValueError::TooDeep`] and [`ValueError::TooManyNodes`] at the limits.
pub fn encode<T: Serialize + ?Sized>(source: &T) -> Result<Vec<u8>, ValueError> {
    encode_value(&to_value(source)?)
}

/// Returns the bytes of the key `source`, the same for equal values.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_key<T: Serialize + ?Sized>(source: &T) -> Result<Vec<u8>, ValueError> {
    encode_value(&canonical(to_value(source)?)?)
}

/// Returns the bytes to store for `value`: plain where Redis clients have a form for it.
///
/// # Errors
///
/// [`ValueError::TooDeep`] and [`ValueError::TooManyNodes`] at the limits.
pub fn encode_value(value: &Value) -> Result<Vec<u8>, ValueError> {
    Ok(match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Bytes(bytes) if !bytes.starts_with(&MAGIC) => bytes.clone(),
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Unsigned(number) => number.to_string().into_bytes(),
        value => {
            let mut output = Output(Vec::with_capacity(64));
            output.0.extend_from_slice(&MAGIC);
            output.0.push(VERSION);
            write_body(value, output)?
        }
    })
}

/// Returns the `T` in stored bytes, whoever wrote them.
///
/// # Errors
///
/// [`ValueError::Type`] or [`ValueError::NotANumber`] if they hold something else, the other
/// errors if they begin as an encoded value and are damaged.
pub fn decode<T: DeserializeOwned>(bytes: Vec<u8>) -> Result<T, ValueError> {
    match bytes.strip_prefix(&MAGIC) {
        Some(encoded) => from_value(read_encoded(encoded)?),
        None => T::deserialize(PlainDeserializer(bytes)),
    }
}

/// Returns the value in stored bytes, with the best guess where their type was not stored.
///
/// # Errors
///
/// Only if they begin as an encoded value and are damaged.
pub fn decode_value(bytes: Vec<u8>) -> Result<Value, ValueError> {
    match bytes.strip_prefix(&MAGIC) {
        Some(encoded) => read_encoded(encoded),
        None => Ok(guess(bytes)),
    }
}

/// Sorts whatever has no order, so that equal values have equal bytes.
fn canonical(value: Value) -> Result<Value, ValueError> {
    let all = |values: Vec<Value>| values.into_iter().map(canonical).collect::<Result<Vec<_>, _>>();
    Ok(match value {
        Value::List(values) => Value::List(all(values)?),
        Value::Tuple(values) => Value::Tuple(all(values)?),
        Value::Set(values) => Value::Set(sorted(all(values)?, |value| value)?),
        Value::Map(pairs) => {
            let pair = |(key, value)| Ok((canonical(key)?, canonical(value)?));
            let pairs = pairs.into_iter().map(pair).collect::<Result<Vec<_>, ValueError>>()?;
            Value::Map(sorted(pairs, |(key, _)| key)?)
        }
        Value::Object(object) => {
            let Object { name, variant, content } = *object;
            Value::Object(Box::new(Object { name, variant, content: canonical(content)? }))
        }
        value => value,
    })
}

fn sorted<T>(items: Vec<T>, key: impl Fn(&T) -> &Value) -> Result<Vec<T>, ValueError> {
    let with_bytes = |item| Ok((write_body(key(&item), Output(Vec::new()))?, item));
    let mut items = items.into_iter().map(with_bytes).collect::<Result<Vec<_>, ValueError>>()?;
    items.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

/// The bytes that have been written.
struct Output(Vec<u8>);

impl Writer for Output {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// What a value may still use of the limits.
struct Budget {
    depth: usize,
    nodes: usize,
}

impl Budget {
    fn new() -> Self {
        Self { depth: VALUE_DEPTH_MAX, nodes: VALUE_NODES_MAX }
    }

    /// Counts one value that begins.
    fn enter(&mut self) -> Result<(), ValueError> {
        self.depth = self.depth.checked_sub(1).ok_or(ValueError::TooDeep)?;
        self.nodes = self.nodes.checked_sub(1).ok_or(ValueError::TooManyNodes)?;
        Ok(())
    }

    /// Counts the same value's end.
    fn leave(&mut self) {
        self.depth += 1;
    }
}

fn write_body(value: &Value, output: Output) -> Result<Vec<u8>, ValueError> {
    let mut encoder = EncoderImpl::new(output, standard());
    write_value(&mut encoder, value, &mut Budget::new())?;
    Ok(encoder.into_writer().0)
}

/// Our writer only appends to memory, so this says "cannot happen" in a text if it ever does.
fn write<T: Encode + ?Sized>(encoder: &mut impl Encoder, item: &T) -> Result<(), ValueError> {
    item.encode(encoder).map_err(|error| ValueError::Type(error.to_string()))
}

fn write_value(
    encoder: &mut impl Encoder,
    value: &Value,
    budget: &mut Budget,
) -> Result<(), ValueError> {
    budget.enter()?;
    let tag: u8 = tag_of(value);
    write(encoder, &tag)?;
    match value {
        Value::None => {}
        Value::Bool(truth) => write(encoder, truth)?,
        Value::Integer(number) => write(encoder, number)?,
        Value::Unsigned(number) => write(encoder, number)?,
        Value::Float(number) => write(encoder, number)?,
        Value::String(text) => write(encoder, text.as_str())?,
        Value::Bytes(bytes) => write(encoder, bytes.as_slice())?,
        Value::List(values) | Value::Tuple(values) | Value::Set(values) => {
            write(encoder, &(values.len() as u64))?;
            for value in values {
                write_value(encoder, value, budget)?;
            }
        }
        Value::Map(pairs) => {
            write(encoder, &(pairs.len() as u64))?;
            for (key, value) in pairs {
                write_value(encoder, key, budget)?;
                write_value(encoder, value, budget)?;
            }
        }
        Value::Object(object) => {
            write(encoder, object.name.as_str())?;
            write(encoder, &object.variant)?;
            write_value(encoder, &object.content, budget)?;
        }
    }
    budget.leave();
    Ok(())
}

fn tag_of(value: &Value) -> u8 {
    match value {
        Value::None => 0x00,
        Value::Bool(_) => 0x01,
        Value::Integer(_) => 0x02,
        Value::Unsigned(_) => 0x03,
        Value::Float(_) => 0x04,
        Value::String(_) => 0x05,
        Value::Bytes(_) => 0x06,
        Value::List(_) => 0x07,
        Value::Tuple(_) => 0x08,
        Value::Set(_) => 0x09,
        Value::Map(_) => 0x0A,
        Value::Object(_) => 0x0B,
    }
}

/// The bytes that are still to be read.
struct Input<'a>(&'a [u8]);

impl Reader for Input<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        bytes.copy_from_slice(self.take_bytes(bytes.len())?);
        Ok(())
    }
}

impl<'a> BorrowReader<'a> for Input<'a> {
    fn take_bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.0.split_at_checked(length) else {
            return Err(DecodeError::UnexpectedEnd { additional: length - self.0.len() });
        };
        self.0 = rest;
        Ok(taken)
    }
}

type InputDecoder<'a> = DecoderImpl<Input<'a>, Configuration, ()>;

/// Returns the value in `bytes`, which follow the magic.
fn read_encoded(bytes: &[u8]) -> Result<Value, ValueError> {
    let body = match bytes.split_first() {
        Some((&VERSION, body)) => body,
        Some((&version, _)) => {
            return Err(ValueError::UnknownVersion { version, supported: VERSION });
        }
        None => return Err(ValueError::Damaged("it ends after the magic".to_owned())),
    };
    let mut decoder = DecoderImpl::new(Input(body), standard(), ());
    let value = read_value(&mut decoder, &mut Budget::new())?;
    match decoder.borrow_reader().0.len() {
        0 => Ok(value),
        rest => Err(ValueError::TrailingBytes(rest)),
    }
}

fn damaged(error: &DecodeError) -> ValueError {
    ValueError::Damaged(match error {
        DecodeError::UnexpectedEnd { additional } => {
            format!("it ends {additional} bytes too early")
        }
        DecodeError::InvalidBooleanValue(byte) => format!("byte {byte:#04x} for a boolean"),
        DecodeError::Utf8 { .. } => "a string is not UTF-8".to_owned(),
        _ => "a number is out of range".to_owned(),
    })
}

fn read<T: Decode<()>>(decoder: &mut InputDecoder<'_>) -> Result<T, ValueError> {
    T::decode(decoder).map_err(|error| damaged(&error))
}

/// Returns a length or count, which the rest of the input must be able to hold.
///
/// Every element takes a byte at least, so a larger count is damage, found before any allocation.
fn read_len(decoder: &mut InputDecoder<'_>) -> Result<usize, ValueError> {
    let claimed: u64 = read(decoder)?;
    let left = decoder.borrow_reader().0.len();
    match usize::try_from(claimed) {
        Ok(len) if len <= left => Ok(len),
        _ => Err(ValueError::Damaged(format!("length {claimed} where {left} bytes are left"))),
    }
}

fn read_text(decoder: &mut InputDecoder<'_>) -> Result<String, ValueError> {
    <&str>::borrow_decode(decoder).map(str::to_owned).map_err(|error| damaged(&error))
}

fn read_value(decoder: &mut InputDecoder<'_>, budget: &mut Budget) -> Result<Value, ValueError> {
    budget.enter()?;
    let value = match read::<u8>(decoder)? {
        0x00 => Value::None,
        0x01 => Value::Bool(read(decoder)?),
        0x02 => Value::Integer(read(decoder)?),
        0x03 => Value::from_u128(read(decoder)?),
        0x04 => Value::Float(read(decoder)?),
        0x05 => Value::String(read_text(decoder)?),
        0x06 => {
            let bytes = <&[u8]>::borrow_decode(decoder).map_err(|error| damaged(&error))?;
            Value::Bytes(bytes.to_vec())
        }
        0x07 => Value::List(read_values(decoder, budget)?),
        0x08 => Value::Tuple(read_values(decoder, budget)?),
        0x09 => Value::Set(read_values(decoder, budget)?),
        0x0A => {
            let count = read_len(decoder)?;
            let mut pairs = Vec::with_capacity(count.min(CAPACITY_MAX));
            for _ in 0..count {
                pairs.push((read_value(decoder, budget)?, read_value(decoder, budget)?));
            }
            Value::Map(pairs)
        }
        0x0B => {
            let name = read_text(decoder)?;
            let variant = match read::<bool>(decoder)? {
                true => Some(read_text(decoder)?),
                false => None,
            };
            let content = read_value(decoder, budget)?;
            Value::Object(Box::new(Object { name, variant, content }))
        }
        tag => return Err(ValueError::Damaged(format!("unknown tag {tag:#04x}"))),
    };
    budget.leave();
    Ok(value)
}

/// The most elements that are allocated for before they are seen: a value takes more memory than
/// the byte that claims it.
const CAPACITY_MAX: usize = 1024;

fn read_values(
    decoder: &mut InputDecoder<'_>,
    budget: &mut Budget,
) -> Result<Vec<Value>, ValueError> {
    let count = read_len(decoder)?;
    let mut values = Vec::with_capacity(count.min(CAPACITY_MAX));
    for _ in 0..count {
        values.push(read_value(decoder, budget)?);
    }
    Ok(values)
}
