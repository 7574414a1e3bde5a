//! The reader in place of the crate postcard, with the examples of <https://postcard.jamesmunns.com/wire-format>.

use std::collections::BTreeMap;
use std::fmt::{Debug, Formatter};
use std::ops::Range;
use std::time::Duration;

use postcard::{Error, MOST_FIELDS, from_bytes};
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

fn is<'a, T: Deserialize<'a> + PartialEq + Debug>(bytes: &'a [u8], value: T) {
    assert_eq!(from_bytes(bytes), Ok(value));
    assert!(bytes.is_empty() || from_bytes::<T>(&bytes[..bytes.len() - 1]).is_err(), "{bytes:?} without its end");
}

#[test]
fn numbers_are_in_groups_of_seven_bits() {
    is(&[0x00], 0_u16);
    is(&[0x7f], 127_u16);
    is(&[0x80, 0x01], 128_u16);
    is(&[0xff, 0x7f], 16_383_u16);
    is(&[0x80, 0x80, 0x01], 16_384_u16);
    is(&[0xff, 0xff, 0x03], 65_535_u16);
    is(&[0xff, 0xff, 0xff, 0xff, 0x0f], u32::MAX);
    is(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], u64::MAX);
    is(&[0xff], 255_u8);
}

#[test]
fn the_sign_is_the_lowest_bit() {
    is(&[0x00], 0_i16);
    is(&[0x01], -1_i16);
    is(&[0x02], 1_i16);
    is(&[0x7e], 63_i16);
    is(&[0x7f], -64_i16);
    is(&[0x81, 0x01], -65_i16);
    is(&[0xfe, 0xff, 0x03], 32_767_i16);
    is(&[0xff, 0xff, 0x03], -32_768_i16);
    is(&[0xff], -1_i8);
    is(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], i64::MIN);
    is(&[0x00, 0x06, 0x00, 0xc2], -32.005_859_375_f32);
}

#[test]
fn texts_and_lists_begin_with_their_length_and_structures_with_nothing() {
    is(&[0x02, b'a', b'b'], "ab");
    is(&[0x02, 0xc3, 0xa4], 'ä');
    is(&[0x02, 0x80, 0x01, 0x05], vec![128_u32, 5]);
    is(&[0x01, 0x01, b'k', 0x07], BTreeMap::from([("k", 7_u8)]));
    is(&[0x05, 0x80, 0x01], Range { start: 5_u32, end: 128 });
    is(&[0x01, 0x02], (1_u8, ((), 1_i32)));
    is(&[0x02, 0x80, 0x94, 0xeb, 0xdc, 0x01], Duration::new(2, 463_129_088));
}

#[test]
fn cases_begin_with_their_number() {
    is(&[0x00], None::<u8>);
    is(&[0x01, 0x09], Some(9_u8));
    is(&[0x00, 0x09], Ok::<u8, bool>(9));
    is(&[0x01, 0x01], Err::<u8, bool>(true));
}

#[test]
fn what_is_none_of_the_values_there_are_is_refused() {
    assert_eq!(from_bytes::<u16>(&[0x80, 0x80, 0x04]), Err(Error)); // 65,536
    assert_eq!(from_bytes::<u32>(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(Error));
    assert_eq!(from_bytes::<u64>(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03]), Err(Error));
    assert_eq!(from_bytes::<u64>(&[0x80; 11]), Err(Error));
    assert_eq!(from_bytes::<bool>(&[0x02]), Err(Error));
    assert_eq!(from_bytes::<Option<u8>>(&[0x02, 0x00]), Err(Error));
    assert_eq!(from_bytes::<Result<u8, u8>>(&[0x02, 0x00]), Err(Error));
    assert_eq!(from_bytes::<&str>(&[0x01, 0xff]), Err(Error));
    assert_eq!(from_bytes::<char>(&[0x02, b'a', b'b']), Err(Error));
    assert_eq!(from_bytes::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Err(Error));
}

/// A structure of so many fields, each a byte: their sum.
#[derive(Debug, PartialEq)]
struct Fields<const COUNT: usize>(u32);

impl<'de, const COUNT: usize> Deserialize<'de> for Fields<COUNT> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Sum;

        impl<'de> Visitor<'de> for Sum {
            type Value = u32;

            fn expecting(&self, to: &mut Formatter) -> std::fmt::Result {
                to.write_str("bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<u32, A::Error> {
                let mut sum = 0;
                while let Some(field) = fields.next_element::<u8>()? {
                    sum += u32::from(field);
                }
                Ok(sum)
            }
        }

        from.deserialize_struct("Fields", const { &[""; COUNT] }, Sum).map(Fields)
    }
}

#[test]
fn structures_have_a_most_of_fields() {
    is(&[1; MOST_FIELDS], Fields::<MOST_FIELDS>(255));
    assert_eq!(from_bytes::<Fields<256>>(&[1; 256]), Err(Error));
}

#[test]
fn nothing_is_read_that_does_not_tell_what_it_is() {
    assert!(from_bytes::<IgnoredAny>(&[0x00]).is_err());
}

proptest! {
    #[test]
    fn whatever_bytes_come_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = from_bytes::<(u64, Vec<Option<(&str, i32)>>, Result<char, BTreeMap<u16, f64>>)>(&bytes);
    }
}
