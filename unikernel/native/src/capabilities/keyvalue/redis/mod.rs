//! `keyvalue.redis`: stores in a Redis, under the keys `NAME:KEY`, where the Linux flavour has them as well.
//!
//! A `:` or `%` in a store's name is percent-encoded, so that the first `:` always ends the name: else the store `a`
//! could reach the data of a store `a:b` by keys that start with `b:`.

mod address;
mod answers;
mod calls;
mod client;
mod command;
mod connection;
mod faults;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::capabilities::keyvalue::backend::{Backend, Pending, Store};
use crate::capabilities::keyvalue::errors::{ConfigError, StoreError, key_not_found, out_of_memory, value_too_long};
use crate::capabilities::keyvalue::limits::{LISTING_LIMIT, Listing, check_key, check_value};
use crate::host::executor;
use address::Address;
use answers::Answer;
use client::Client;
pub use client::Times;
use command::Command;

/// How many of Redis's keys one SCAN looks at.
const SCAN_COUNT: &[u8] = b"1000";

/// How many keys are put into a list before other tasks have their turn.
const PAGE_KEYS: usize = 10_000;

/// Stores in one database of one Redis.
pub struct RedisBackend {
    client: Arc<Client>,
}

impl RedisBackend {
    /// Touches no network. `address` is what REDIS_ADDRESS is.
    pub fn new(address: &str) -> Result<RedisBackend, ConfigError> {
        RedisBackend::with_times(address, Times::default())
    }

    pub fn with_times(address: &str, times: Times) -> Result<RedisBackend, ConfigError> {
        Ok(RedisBackend { client: Arc::new(Client::new(Address::parse(address)?, times)) })
    }
}

impl Backend for RedisBackend {
    fn open(&self, name: &str) -> Result<Arc<dyn Store>, StoreError> {
        check_key(name)?;
        Ok(Arc::new(RedisStore { client: self.client.clone(), prefix: key_prefix(name) }))
    }
}

/// What the Redis keys of a store start with, and those of no other store.
fn key_prefix(name: &str) -> Vec<u8> {
    let mut prefix = name.replace('%', "%25").replace(':', "%3A").into_bytes();
    prefix.push(b':');
    prefix
}

struct RedisStore {
    client: Arc<Client>,
    prefix: Vec<u8>,
}

impl RedisStore {
    fn redis_key(&self, key: &str) -> Result<Vec<u8>, StoreError> {
        check_key(key)?;
        Ok([&self.prefix, key.as_bytes()].concat())
    }

    /// What SCAN is to match: the prefix as it is, and anything behind it.
    fn pattern(&self) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.prefix.len() + 1);
        for byte in &self.prefix {
            if br"\*?[]".contains(byte) {
                pattern.push(b'\\');
            }
            pattern.push(*byte);
        }
        pattern.push(b'*');
        pattern
    }

    /// One page of a listing: where the next one begins, and keys of Redis.
    async fn scan(&self, cursor: &[u8], pattern: &[u8]) -> Result<(Vec<u8>, Vec<Answer>), StoreError> {
        let command = Command::new(&[b"SCAN", cursor, b"MATCH", pattern, b"COUNT", SCAN_COUNT]);
        let Answer::List(parts) = self.client.run(command, true).await? else { return Err(self.client.not_redis()) };
        match <[Answer; 2]>::try_from(parts) {
            Ok([Answer::Value(cursor), Answer::List(keys)]) => Ok((cursor, keys)),
            _ => Err(self.client.not_redis()),
        }
    }
}

impl Store for RedisStore {
    fn get(&self, key: String) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            let command = Command::new(&[b"GET", &self.redis_key(&key)?]);
            match self.client.run(command, true).await? {
                Answer::Value(value) => Ok(value),
                Answer::Nothing => Err(key_not_found(&key)),
                Answer::TooLong(bytes) => Err(value_too_long(bytes)),
                Answer::NoMemory(bytes) => Err(out_of_memory(bytes)),
                _ => Err(self.client.not_redis()),
            }
        })
    }

    fn set(&self, key: String, value: Vec<u8>) -> Pending<'_, ()> {
        Box::pin(async move {
            check_value(&value)?;
            let command = Command::with_value(&[b"SET", &self.redis_key(&key)?], value);
            match self.client.run(command, true).await? {
                Answer::Status(_) => Ok(()),
                _ => Err(self.client.not_redis()),
            }
        })
    }

    /// Those that aren't UTF-8, which others may have put there, are left out: a guest has no name for them.
    fn keys(&self) -> Pending<'_, Vec<String>> {
        Box::pin(async move {
            let pattern = self.pattern();
            let mut cursor = b"0".to_vec();
            let mut listing = Listing::new(LISTING_LIMIT);
            // SCAN may return a key more than once.
            let mut found = BTreeSet::new();
            loop {
                let (next, page) = self.scan(&cursor, &pattern).await?;
                for key in page {
                    let Answer::Value(key) = key else { return Err(self.client.not_redis()) };
                    listing.count(key.len())?;
                    let key = key.strip_prefix(&*self.prefix).ok_or_else(|| self.client.not_redis())?;
                    found.extend(core::str::from_utf8(key).map(String::from));
                }
                if next == b"0" {
                    return Ok(in_turns(found).await);
                }
                cursor = next;
            }
        })
    }

    /// Not repeatable: the second DEL would not find what the first one removed.
    fn delete(&self, key: String) -> Pending<'_, ()> {
        Box::pin(async move {
            let command = Command::new(&[b"DEL", &self.redis_key(&key)?]);
            match self.client.run(command, false).await? {
                Answer::Number(0) => Err(key_not_found(&key)),
                Answer::Number(_) => Ok(()),
                _ => Err(self.client.not_redis()),
            }
        })
    }
}

/// The keys as a list, with turns for others meanwhile.
async fn in_turns(mut found: BTreeSet<String>) -> Vec<String> {
    let mut keys = Vec::with_capacity(found.len());
    while let Some(key) = found.pop_first() {
        keys.push(key);
        if keys.len() % PAGE_KEYS == 0 {
            executor::yield_now().await;
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_the_first_colon() {
        assert_eq!(key_prefix("my-container"), b"my-container:");
        assert_eq!(key_prefix("a:b%"), b"a%3Ab%25:");
        assert_eq!(key_prefix(""), b":");
    }

    #[test]
    fn a_pattern_matches_the_prefix_alone() {
        let store = RedisBackend::new("redis://localhost").unwrap();
        let store = RedisStore { client: store.client.clone(), prefix: key_prefix("a*?[b]\\") };
        assert_eq!(store.pattern(), br"a\*\?\[b\]\\:*");
    }
}
