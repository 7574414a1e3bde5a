//! JSON (RFC 8259) as a tree. What is read so is small and read once; code of its own for each type would take ten times
//! the room.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value.
#[derive(Debug, PartialEq)]
pub enum Json {
    Null,
    Flag(bool),
    /// A number without a sign, a fraction or an exponent.
    Whole(u64),
    /// Any other number.
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Members),
}

/// The members of an object in their order, none of which is there twice.
#[derive(Debug, Default, PartialEq)]
pub struct Members(Vec<(String, Json)>);

/// What is wrong with a value that is JSON, without the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong(pub &'static str);

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// Fails with the reason and where: the byte, from 1, of a text of one line.
pub fn read(text: &[u8]) -> Result<Json, (Wrong, usize)> {
    // serde_json bounds how deep it may be nested.
    serde_json::from_slice(text).map_err(|error| {
        (Wrong(if error.is_data() { "a member is there twice" } else { "it is not JSON" }), error.column())
    })
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Flag(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Whole(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object: Vec<(String, Json)> = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, Json>()? {
            object.push((name, value));
        }
        let mut names: Vec<&str> = object.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::custom("a member is there twice"));
        }
        Ok(Json::Object(Members(object)))
    }
}

impl Json {
    pub fn object(self) -> Result<Members, Wrong> {
        if let Json::Object(members) = self { Ok(members) } else { Err(Wrong("an object is none")) }
    }

    pub fn list(self) -> Result<Vec<Json>, Wrong> {
        if let Json::List(list) = self { Ok(list) } else { Err(Wrong("a list is none")) }
    }

    pub fn text(self) -> Result<String, Wrong> {
        if let Json::Text(text) = self { Ok(text) } else { Err(Wrong("a text is none")) }
    }

    pub fn texts(self) -> Result<Vec<String>, Wrong> {
        self.list()?.into_iter().map(Json::text).collect()
    }

    /// Names and texts, in their order.
    pub fn table(self) -> Result<Vec<(String, String)>, Wrong> {
        let Members(members) = self.object()?;
        members.into_iter().map(|(name, value)| Ok((name, value.text()?))).collect()
    }

    pub fn flag(self) -> Result<bool, Wrong> {
        if let Json::Flag(flag) = self { Ok(flag) } else { Err(Wrong("neither true nor false")) }
    }

    pub fn whole(self, most: u64) -> Result<u64, Wrong> {
        match self {
            Json::Whole(number) if number <= most => Ok(number),
            Json::Whole(_) => Err(Wrong("a number is too large")),
            _ => Err(Wrong("a whole number is none")),
        }
    }

    pub fn number(self) -> Result<f64, Wrong> {
        match self {
            Json::Whole(number) => Ok(number as f64),
            Json::Number(number) => Ok(number),
            _ => Err(Wrong("a number is none")),
        }
    }
}

impl Members {
    /// The only member.
    pub fn only(mut self) -> Result<(String, Json), Wrong> {
        match (self.0.pop(), self.0.is_empty()) {
            (Some(member), true) => Ok(member),
            _ => Err(Wrong("there is more or less than one member")),
        }
    }

    /// A member that must be there.
    pub fn take(&mut self, name: &str) -> Result<Json, Wrong> {
        let at = self.0.iter().position(|(known, _)| known == name).ok_or(Wrong("a member is missing"))?;
        Ok(self.0.swap_remove(at).1)
    }

    /// A member that may be missing, or null.
    pub fn optional<T>(
        &mut self,
        name: &str,
        convert: impl FnOnce(Json) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        match self.take(name) {
            Err(_) | Ok(Json::Null) => Ok(None),
            Ok(value) => convert(value).map(Some),
        }
    }

    /// There must be no further members.
    pub fn end(self) -> Result<(), Wrong> {
        if self.0.is_empty() { Ok(()) } else { Err(Wrong("there is a member too many")) }
    }
}

impl IntoIterator for Members {
    type Item = (String, Json);
    type IntoIter = alloc::vec::IntoIter<(String, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_sort_of_value_is_kept() {
        let read = read(br#"{"a": [null, true, 1, 18446744073709551615, -1, 1.0, 1e0, "\u00e4\n"], "b": {}}"#).unwrap();
        let [maximum, one] = [Json::Whole(u64::MAX), Json::Number(1.0)];
        let list = [Json::Null, Json::Flag(true), Json::Whole(1), maximum, Json::Number(-1.0), one, Json::Number(1.0)];
        let mut list = Vec::from(list);
        list.push(Json::Text("\u{e4}\n".into()));
        let b = Json::Object(Members::default());
        assert_eq!(read, Json::Object(Members(Vec::from([("a".into(), Json::List(list)), ("b".into(), b)]))));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        assert_eq!(read(b"[1,]"), Err((Wrong("it is not JSON"), 4)));
        assert_eq!(read(br#"{"a":1,"b":2,"a":1}"#).unwrap_err().0, Wrong("a member is there twice"));
        assert_eq!(read(&[b'['; 100_000]).unwrap_err().0, Wrong("it is not JSON"));
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn texts_come_back(text in ".*") {
            let line = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(read(line.as_bytes()), Ok(Json::Text(text)));
        }
    }
}
