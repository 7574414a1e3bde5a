//! What stands behind a store's name: the Protocols `Backend` and `Store` of `capabilities.keyvalue` in Rust.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::Pin;

use crate::capabilities::keyvalue::errors::StoreError;

/// An answer that may take a while. Whoever drops it has no more use for it.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Where stores are kept.
pub trait Backend: Send + Sync + 'static {
    /// The store of that name, which costs nothing until it is used. Fails for a name that is too long.
    fn open(&self, name: &str) -> Result<Arc<dyn Store>, StoreError>;
}

/// The keys and values of one name. Keys have at most [`KEY_LIMIT`](super::limits::KEY_LIMIT) bytes, values
/// [`VALUE_LIMIT`](super::limits::VALUE_LIMIT); each method fails past them.
pub trait Store: Send + Sync + 'static {
    /// The value under the key, which may be empty. Fails with `KeyNotFound`.
    fn get(&self, key: String) -> Pending<'_, Vec<u8>>;

    /// Puts the value under the key, in place of what may be there.
    fn set(&self, key: String, value: Vec<u8>) -> Pending<'_, ()>;

    /// The keys, in no particular order.
    fn keys(&self) -> Pending<'_, Vec<String>>;

    /// Removes the key and its value. Fails with `KeyNotFound`.
    fn delete(&self, key: String) -> Pending<'_, ()>;
}
