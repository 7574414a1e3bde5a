//! Stores of keys and values: what answers the interfaces `keyvalue` and `kv` of docs/keyvalue.md.
//!
//! [`Stores`] answers the guests, and hands their calls to the store that [`grants`] finds for a name. What keeps the
//! stores are the [`backend`]s: [`memory`] and [`redis`]. A guest can't tell them from those of the Linux flavour: limits
//! and errors are those of `capabilities.keyvalue` in Python, and the same suite of tests is run against both.

pub mod backend;
pub mod errors;
pub mod grants;
pub mod limits;
pub mod memory;
pub mod redis;
mod setup;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::bindings::keyvalue::{self, HostKeyvalue, Keyvalue, KeyvalueError};
use crate::bindings::kv::{self, HostKv, Kv};
use crate::bindings::types;
use crate::capabilities::notices;
use backend::Store;
use errors::StoreError;
use grants::Granted;
pub use setup::{Wanted, backends};

/// What answers all instances of the machine.
pub struct Stores(Granted);

impl Stores {
    pub fn new(granted: Granted) -> Arc<Stores> {
        Arc::new(Stores(granted))
    }

    fn open(&self, name: &str) -> Result<Opened, KeyvalueError> {
        let opened = self.0.backend(name).and_then(|backend| backend.open(name));
        answer(opened).map(Opened)
    }
}

/// What a guest is told; whoever runs the machine is told the notice.
fn answer<T>(result: Result<T, StoreError>) -> Result<T, KeyvalueError> {
    result.map_err(|error| {
        if let Some(notice) = &error.notice {
            notices::tell(notice);
        }
        error.into()
    })
}

/// The text alone, which is all that guests of 2022 know.
fn described<T>(result: Result<T, KeyvalueError>) -> Result<T, types::Error> {
    result.map_err(|error| {
        types::Error::ErrorWithDescription(match error {
            KeyvalueError::KeyNotFound(text)
            | KeyvalueError::InvalidKey(text)
            | KeyvalueError::InvalidValue(text)
            | KeyvalueError::ConnectionError(text)
            | KeyvalueError::AuthenticationError(text)
            | KeyvalueError::TimeoutError(text)
            | KeyvalueError::IoError(text)
            | KeyvalueError::UnexpectedError(text) => text,
        })
    })
}

impl keyvalue::Host for Stores {
    /// `unexpected-error` for a name that is not granted.
    async fn keyvalue_open(&self, name: String) -> wasmtime::Result<Result<Keyvalue, KeyvalueError>> {
        Ok(self.open(&name).map(Keyvalue::new))
    }
}

impl kv::Host for Stores {
    async fn kv_open(&self, name: String) -> wasmtime::Result<Result<Kv, types::Error>> {
        Ok(described(self.open(&name)).map(Kv::new))
    }
}

/// A store as guests know it.
struct Opened(Arc<dyn Store>);

impl HostKeyvalue for Opened {
    async fn get(&self, key: String) -> wasmtime::Result<Result<Vec<u8>, KeyvalueError>> {
        Ok(answer(self.0.get(key).await))
    }

    async fn set(&self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), KeyvalueError>> {
        Ok(answer(self.0.set(key, value).await))
    }

    async fn keys(&self) -> wasmtime::Result<Result<Vec<String>, KeyvalueError>> {
        Ok(answer(self.0.keys().await))
    }

    async fn delete(&self, key: String) -> wasmtime::Result<Result<(), KeyvalueError>> {
        Ok(answer(self.0.delete(key).await))
    }
}

impl HostKv for Opened {
    async fn get(&self, key: String) -> wasmtime::Result<Result<Vec<u8>, types::Error>> {
        Ok(described(answer(self.0.get(key).await)))
    }

    async fn set(&self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), types::Error>> {
        Ok(described(answer(self.0.set(key, value).await)))
    }

    async fn keys(&self) -> wasmtime::Result<Result<Vec<String>, types::Error>> {
        Ok(described(answer(self.0.keys().await)))
    }

    async fn delete(&self, key: String) -> wasmtime::Result<Result<(), types::Error>> {
        Ok(described(answer(self.0.delete(key).await)))
    }
}
