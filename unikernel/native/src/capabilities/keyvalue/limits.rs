//! How long keys, values and listings may be: those of `capabilities.keyvalue`, which docs/keyvalue.md describes.

use alloc::string::String;
use alloc::vec::Vec;

use crate::capabilities::keyvalue::errors::{StoreError, key_too_long, too_many_keys, value_too_long};

/// How long a key, or the name of a store, may be: in bytes of UTF-8. Both may be empty.
pub const KEY_LIMIT: usize = 65_536;

/// How long a value may be, in bytes.
pub const VALUE_LIMIT: usize = 64 * 1024 * 1024;

/// How much `keys` may return, in bytes, where a key takes its length and [`LISTING_KEY_BYTES`].
pub const LISTING_LIMIT: usize = 64 * 1024 * 1024;

/// What a key takes in a listing beside its length, in bytes.
pub const LISTING_KEY_BYTES: usize = 32;

/// Fails for a key, or a store's name, past [`KEY_LIMIT`].
pub fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() > KEY_LIMIT { Err(key_too_long(key.len())) } else { Ok(()) }
}

/// Fails for a value past [`VALUE_LIMIT`].
pub fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > VALUE_LIMIT { Err(value_too_long(value.len())) } else { Ok(()) }
}

/// The keys that a store is found to have, page by page, up to a limit in bytes.
pub struct Listing {
    pub keys: Vec<String>,
    size: usize,
    limit: usize,
}

impl Listing {
    pub fn new(limit: usize) -> Listing {
        Listing { keys: Vec::new(), size: 0, limit }
    }

    /// Counts a key, in bytes, whether or not it is one to return. Fails past the limit.
    pub fn count(&mut self, key_bytes: usize) -> Result<(), StoreError> {
        self.size = self.size.saturating_add(key_bytes).saturating_add(LISTING_KEY_BYTES);
        if self.size > self.limit { Err(too_many_keys()) } else { Ok(()) }
    }
}
