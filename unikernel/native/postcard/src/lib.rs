//! Reads what the crate postcard writes: <https://postcard.jamesmunns.com/wire-format>.
//!
//! wasmtime has what it knows of a compiled module in that format, and needs `from_bytes` of the crate and nothing else.
//! This stands in its place, as code is made of it for each type that is read: here an error tells no reasons, and no
//! structure may have more than [`MOST_FIELDS`] fields. The only one that has is a table of what instructions cost in
//! fuel, which no module of ours has, and the code to read it would take a thirtieth of the kernel.

#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::de::{EnumAccess, MapAccess, SeqAccess, VariantAccess};

/// The most fields that a structure may have.
pub const MOST_FIELDS: usize = 255;

/// The bytes are not those of such a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error;

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("the bytes are not those of a value of this type")
    }
}

impl core::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Error
    }
}

pub type Result<T> = core::result::Result<T, Error>;

/// The value that bytes begin with.
pub fn from_bytes<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    T::deserialize(&mut Reader(bytes))
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(Error)?;
        self.0 = left;
        Ok(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT]> {
        self.take(COUNT)?.try_into().map_err(|_| Error)
    }

    fn byte(&mut self) -> Result<u8> {
        let (byte, left) = self.0.split_first().ok_or(Error)?;
        self.0 = left;
        Ok(*byte)
    }

    /// A number in groups of seven bits, the lowest first; the highest bit of a byte says that another one follows.
    fn number(&mut self) -> Result<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(first.into()); // as most are
        }
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Error);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Error)
    }

    /// A number with a sign: 0, -1, 1, -2 and so on are 0, 1, 2, 3.
    fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn unsigned<N: TryFrom<u64>>(&mut self) -> Result<N> {
        self.number()?.try_into().map_err(|_| Error)
    }

    fn length(&mut self) -> Result<usize> {
        self.unsigned()
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error),
        }
    }

    fn text(&mut self) -> Result<&'a str> {
        let length = self.length()?;
        core::str::from_utf8(self.take(length)?).map_err(|_| Error)
    }
}

/// Reads a sort of value, and shows it to the visitor.
macro_rules! values {
    ($($method:ident: $visit:ident($reader:ident) $read:expr;)*) => {
        $(
            fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
                let $reader = self;
                visitor.$visit($read)
            }
        )*
    };
}

impl<'a> Deserializer<'a> for &mut Reader<'a> {
    type Error = Error;

    values! {
        deserialize_bool: visit_bool(reader) reader.flag()?;
        deserialize_u8: visit_u8(reader) reader.byte()?;
        deserialize_u16: visit_u16(reader) reader.unsigned()?;
        deserialize_u32: visit_u32(reader) reader.unsigned()?;
        deserialize_u64: visit_u64(reader) reader.number()?;
        deserialize_i8: visit_i8(reader) reader.byte()? as i8;
        deserialize_i16: visit_i16(reader) reader.signed()?.try_into().map_err(|_| Error)?;
        deserialize_i32: visit_i32(reader) reader.signed()?.try_into().map_err(|_| Error)?;
        deserialize_i64: visit_i64(reader) reader.signed()?;
        deserialize_f32: visit_f32(reader) f32::from_le_bytes(reader.array()?);
        deserialize_f64: visit_f64(reader) f64::from_le_bytes(reader.array()?);
        deserialize_str: visit_borrowed_str(reader) reader.text()?;
        deserialize_string: visit_borrowed_str(reader) reader.text()?;
        deserialize_bytes: visit_borrowed_bytes(reader) { let length = reader.length()?; reader.take(length)? };
        deserialize_byte_buf: visit_borrowed_bytes(reader) { let length = reader.length()?; reader.take(length)? };
        deserialize_seq: visit_seq(reader) { let left = reader.length()?; Elements { reader, left } };
        deserialize_map: visit_map(reader) { let left = reader.length()?; Elements { reader, left } };
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        let mut characters = self.text()?.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => visitor.visit_char(character),
            _ => Err(Error),
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        if self.flag()? { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, left: usize, visitor: V) -> Result<V::Value> {
        visitor.visit_seq(Elements { reader: self, left })
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(self, _: &'static str, length: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(length, visitor)
    }

    // So that the compiler sees how many fields there are, and makes nothing of what is not read.
    #[inline(always)]
    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if fields.len() > MOST_FIELDS { Err(Error) } else { self.deserialize_tuple(fields.len(), visitor) }
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(self)
    }

    /// What a value is isn't told by its bytes.
    fn deserialize_any<V: Visitor<'a>>(self, _: V) -> Result<V::Value> {
        Err(Error)
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, _: V) -> Result<V::Value> {
        Err(Error)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, _: V) -> Result<V::Value> {
        Err(Error)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements that are left of a list, or the entries of a map.
struct Elements<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
}

impl Elements<'_, '_> {
    /// Whether there is one more, which is to be read then.
    fn next(&mut self) -> bool {
        let is_there = self.left > 0;
        self.left -= usize::from(is_there);
        is_there
    }

    /// An element takes a byte at least, but for those that are nothing.
    fn most(&self) -> Option<usize> {
        Some(self.left.min(self.reader.0.len()))
    }
}

impl<'a> SeqAccess<'a> for Elements<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        self.most()
    }
}

impl<'a> MapAccess<'a> for Elements<'_, 'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if self.next() { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.most()
    }
}

impl<'a> EnumAccess<'a> for &mut Reader<'a> {
    type Error = Error;
    type Variant = Self;

    /// The number of the case comes first.
    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self)> {
        let number: U32Deserializer<Error> = self.unsigned::<u32>()?.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'a> VariantAccess<'a> for &mut Reader<'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'a>>(self, length: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'a>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}
