//! `keyvalue.memory`: stores that live as long as the machine, and that all its instances share.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use crate::capabilities::keyvalue::backend::{Backend, Pending, Store};
use crate::capabilities::keyvalue::errors::{Kind, StoreError, key_not_found, out_of_memory, too_many_keys};
use crate::capabilities::keyvalue::limits::{LISTING_KEY_BYTES, LISTING_LIMIT, check_key, check_value};
use crate::host::executor;
use crate::host::sync::Mutex;

/// What all stores together may take where the machine has room for it, in bytes.
pub const LIMIT: usize = 256 * 1024 * 1024;

/// What an entry counts for beside its key and value, in bytes, as in `capabilities.keyvalue.memory`.
pub const ENTRY_BYTES: usize = 192;

/// What a store that holds anything counts for beside its name and entries, in bytes.
pub const STORE_BYTES: usize = 320;

/// How many keys are listed before other tasks have their turn.
const PAGE_KEYS: usize = 10_000;

/// What the stores may take in a machine with so many bytes of memory: [`LIMIT`], and at most half of the machine's, as
/// guests need the rest.
pub fn limit_in(machine_bytes: u64) -> usize {
    usize::try_from(machine_bytes / 2).map_or(LIMIT, |half| half.min(LIMIT))
}

/// The stores, bounded in all. A clone is the same stores.
#[derive(Clone)]
pub struct MemoryStores(Arc<Mutex<Stores>>);

struct Stores {
    by_name: BTreeMap<String, Entries>,
    used: usize,
    limit: usize,
}

/// The keys and values of one store.
#[derive(Default)]
struct Entries {
    values: BTreeMap<String, Box<[u8]>>,
    /// What all keys take together.
    key_bytes: usize,
}

impl MemoryStores {
    /// Keys and values count for their bytes and [`ENTRY_BYTES`], a store that has any for its name and
    /// [`STORE_BYTES`].
    pub fn new(limit_bytes: usize) -> MemoryStores {
        MemoryStores(Arc::new(Mutex::new(Stores { by_name: BTreeMap::new(), used: 0, limit: limit_bytes })))
    }

    /// What is counted against the limit.
    pub fn used_bytes(&self) -> usize {
        self.0.lock().used
    }
}

impl Backend for MemoryStores {
    fn open(&self, name: &str) -> Result<Arc<dyn Store>, StoreError> {
        check_key(name)?;
        Ok(Arc::new(MemoryStore { stores: self.clone(), name: name.into() }))
    }
}

impl Stores {
    fn get(&self, name: &str, key: &str) -> Result<Vec<u8>, StoreError> {
        let value = self.value(name, key).ok_or_else(|| key_not_found(key))?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(value.len()).map_err(|_| out_of_memory(value.len()))?;
        copy.extend_from_slice(value);
        Ok(copy)
    }

    fn value(&self, name: &str, key: &str) -> Option<&[u8]> {
        Some(self.by_name.get(name)?.values.get(key)?)
    }

    /// Changes nothing where the limit leaves no room.
    fn set(&mut self, name: &str, key: String, value: Vec<u8>) -> Result<(), StoreError> {
        let old = self.value(name, &key).map(<[u8]>::len);
        let freed = old.unwrap_or(0);
        let mut added = value.len();
        if old.is_none() {
            added += key.len() + ENTRY_BYTES;
        }
        if !self.by_name.contains_key(name) {
            added += name.len() + STORE_BYTES;
        }
        if added > freed && self.used + added - freed > self.limit {
            return Err(full(self.limit));
        }
        let entries = self.by_name.entry(name.into()).or_default();
        if old.is_none() {
            entries.key_bytes += key.len();
        }
        entries.values.insert(key, value.into_boxed_slice());
        self.used = self.used + added - freed;
        Ok(())
    }

    fn delete(&mut self, name: &str, key: &str) -> Result<(), StoreError> {
        let entries = self.by_name.get_mut(name).ok_or_else(|| key_not_found(key))?;
        let value = entries.values.remove(key).ok_or_else(|| key_not_found(key))?;
        entries.key_bytes -= key.len();
        self.used -= key.len() + value.len() + ENTRY_BYTES;
        if entries.values.is_empty() {
            self.by_name.remove(name);
            self.used -= name.len() + STORE_BYTES;
        }
        Ok(())
    }

    fn check_listing(&self, name: &str) -> Result<(), StoreError> {
        let size =
            self.by_name.get(name).map_or(0, |entries| entries.key_bytes + LISTING_KEY_BYTES * entries.values.len());
        if size > LISTING_LIMIT { Err(too_many_keys()) } else { Ok(()) }
    }

    /// Up to [`PAGE_KEYS`] keys, in order, from behind `last` on.
    fn page(&self, name: &str, last: Option<&str>) -> Vec<String> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.by_name.get(name);
        entries.map_or_else(Vec::new, |entries| {
            entries
                .values
                .range::<str, _>((from, Bound::Unbounded))
                .take(PAGE_KEYS)
                .map(|(key, _)| key.clone())
                .collect()
        })
    }
}

fn full(limit: usize) -> StoreError {
    let text = format!("the stores in memory are full: they may take {limit} bytes in all");
    let notice = format!("keyvalue.memory: {text}; delete what isn't needed, or use another resource type");
    StoreError::with_notice(Kind::Unexpected, text, notice)
}

struct MemoryStore {
    stores: MemoryStores,
    name: String,
}

impl Store for MemoryStore {
    fn get(&self, key: String) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            check_key(&key)?;
            self.stores.0.lock().get(&self.name, &key)
        })
    }

    fn set(&self, key: String, value: Vec<u8>) -> Pending<'_, ()> {
        Box::pin(async move {
            check_value(&value)?;
            check_key(&key)?;
            self.stores.0.lock().set(&self.name, key, value)
        })
    }

    /// What changes between two pages may or may not be in the list.
    fn keys(&self) -> Pending<'_, Vec<String>> {
        Box::pin(async move {
            self.stores.0.lock().check_listing(&self.name)?;
            let mut keys: Vec<String> = Vec::new();
            loop {
                let page = self.stores.0.lock().page(&self.name, keys.last().map(String::as_str));
                let is_last = page.len() < PAGE_KEYS;
                keys.extend(page);
                if is_last {
                    return Ok(keys);
                }
                executor::yield_now().await;
            }
        })
    }

    fn delete(&self, key: String) -> Pending<'_, ()> {
        Box::pin(async move {
            check_key(&key)?;
            self.stores.0.lock().delete(&self.name, &key)
        })
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
