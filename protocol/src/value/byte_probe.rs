//! Recognises elements that are `u8`, so that `Vec<u8>` becomes bytes and not a list of numbers.

use serde::ser::{Impossible, Serialize, Serializer};

use super::ValueError;

/// A serializer that accepts a `u8` and refuses all else at once.
///
/// Serde has no type for "sequence of bytes" that `Vec<u8>` would use by itself.
pub(super) struct ByteProbe;

/// The one answer to everything that is no `u8`; never shown to a user.
fn no_byte<T>() -> Result<T, ValueError> {
    Err(ValueError::Type(String::new()))
}

macro_rules! refuse {
    ($($method:ident($source:ty)),* $(,)?) => {
        $(fn $method(self, _: $source) -> Result<u8, ValueError> {
            no_byte()
        })*
    };
}

impl Serializer for ByteProbe {
    type Ok = u8;
    type Error = ValueError;
    type SerializeSeq = Impossible<u8, ValueError>;
    type SerializeTuple = Impossible<u8, ValueError>;
    type SerializeTupleStruct = Impossible<u8, ValueError>;
    type SerializeTupleVariant = Impossible<u8, ValueError>;
    type SerializeMap = Impossible<u8, ValueError>;
    type SerializeStruct = Impossible<u8, ValueError>;
    type SerializeStructVariant = Impossible<u8, ValueError>;

    fn serialize_u8(self, byte: u8) -> Result<u8, ValueError> {
        Ok(byte)
    }

    refuse! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32),
        serialize_i64(i64), serialize_i128(i128), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_u128(u128), serialize_f32(f32), serialize_f64(f64),
        serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str),
    }

    fn serialize_none(self) -> Result<u8, ValueError> {
        no_byte()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<u8, ValueError> {
        no_byte()
    }

    fn serialize_unit(self) -> Result<u8, ValueError> {
        no_byte()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<u8, ValueError> {
        no_byte()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<u8, ValueError> {
        no_byte()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<u8, ValueError> {
        no_byte()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, ValueError> {
        no_byte()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, ValueError> {
        no_byte()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, ValueError> {
        no_byte()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, ValueError> {
        no_byte()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, ValueError> {
        no_byte()
    }

    fn serialize_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStruct, ValueError> {
        no_byte()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, ValueError> {
        no_byte()
    }
}
