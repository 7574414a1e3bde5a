//! What serde doesn't check of a message by itself.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::net::Ipv4Addr;
use core::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::base64;

const MAX_COUNT: u64 = (1 << 53) - 1;
const MAX_SECONDS: f64 = 1e10;
const MAX_SEED: usize = 1024;
const MAX_TAG: usize = 31;
const MAX_PATH: usize = 4096;

pub fn count<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let count = u64::deserialize(from)?;
    if count > MAX_COUNT { Err(Error::custom("past 2^53 - 1")) } else { Ok(count) }
}

pub fn optional_count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(from)? {
        Some(count) if count > MAX_COUNT => Err(Error::custom("past 2^53 - 1")),
        count => Ok(count),
    }
}

pub fn optional_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    match Option::<f64>::deserialize(from)? {
        Some(seconds) if !(0.0..MAX_SECONDS).contains(&seconds) => Err(Error::custom("no time")),
        seconds => Ok(seconds.map(Duration::from_secs_f64)),
    }
}

pub fn nanoseconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let time = u64::deserialize(from)?;
    if time >> 63 != 0 { Err(Error::custom("past 2^63 - 1")) } else { Ok(Duration::from_nanos(time)) }
}

pub fn signal<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    match u8::deserialize(from)? {
        signal @ (2 | 15) => Ok(signal),
        _ => Err(Error::custom("no signal that is passed on")),
    }
}

fn text<'de, D: Deserializer<'de>>(from: D, most: usize) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.chars().count() > most { Err(Error::custom("a text is too long")) } else { Ok(text) }
}

pub fn tag<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, MAX_TAG)
}

pub fn path<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, MAX_PATH)
}

pub fn seed<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = text(from, MAX_SEED)?;
    base64::decode(text.as_bytes()).ok_or_else(|| Error::custom("the seed is not base64"))
}

/// As `core` reads it: four numbers without leading zeros.
pub fn ipv4<'de, D: Deserializer<'de>>(from: D) -> Result<Ipv4Addr, D::Error> {
    String::deserialize(from)?.parse().map_err(|_| Error::custom("not IPv4"))
}

/// An address and the bits of its network.
pub fn address<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let is_address = text.split_once('/').is_some_and(|(address, bits)| {
        let is_number = bits == "0" || (bits.bytes().all(|byte| byte.is_ascii_digit()) && !bits.starts_with('0'));
        address.parse::<Ipv4Addr>().is_ok() && is_number && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    });
    if is_address { Ok(text) } else { Err(Error::custom("no address with a network")) }
}

/// What is written as an object: serde would take a list of its members' values as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        from.deserialize_map(Members(PhantomData)).map(Object)
    }
}

pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Object::deserialize(from).map(|Object(object)| object)
}

pub fn boxed_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Box<T>, D::Error> {
    object(from).map(Box::new)
}

/// Must be there, if only as null.
pub fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(from)?.map(|Object(object)| object))
}

pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<Object<T>>::deserialize(from)?.into_iter().map(|Object(object)| object).collect())
}

/// Texts by their names, none of which is there twice.
pub fn table<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Table;

    impl<'de> Visitor<'de> for Table {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let mut table = BTreeMap::new();
            while let Some((name, value)) = members.next_entry()? {
                if table.insert(name, value).is_some() {
                    return Err(Error::custom("a member is there twice"));
                }
            }
            Ok(table)
        }
    }

    from.deserialize_map(Table)
}

/// The same in the order that they are said in.
pub fn pairs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
            let (mut pairs, mut names) = (Vec::new(), BTreeSet::new());
            while let Some((name, value)) = members.next_entry::<String, String>()? {
                if !names.insert(name.clone()) {
                    return Err(Error::custom("a member is there twice"));
                }
                pairs.push((name, value));
            }
            Ok(pairs)
        }
    }

    from.deserialize_map(Pairs)
}
