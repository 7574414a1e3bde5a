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
use crate::host::trace::{Call, Shown};
use backend::Store;
use errors::StoreError;
use grants::Granted;
pub use setup::{Wanted, backends};

/// The interface, and its first name.
const KEYVALUE: &str = "keyvalue";
const KV: &str = "kv";

/// What answers all instances of the machine.
pub struct Stores(Granted);

impl Stores {
    pub fn new(granted: Granted) -> Arc<Stores> {
        Arc::new(Stores(granted))
    }

    fn open(&self, interface: &'static str, name: &str) -> Result<Opened, KeyvalueError> {
        let call = Call::begin(interface, "open", &[Shown::Name(name)]);
        let opened = self.0.backend(name).and_then(|backend| backend.open(name));
        let opened = answer(interface, call, opened, |_| Shown::Word(interface))?;
        Ok(Opened { interface, store: opened })
    }
}

/// What a guest is told; whoever runs the machine is told the notice, and with `--verbose` of the call.
fn answer<T>(
    interface: &str,
    call: Call,
    result: Result<T, StoreError>,
    shown: impl FnOnce(&T) -> Shown<'_>,
) -> Result<T, KeyvalueError> {
    match result {
        Ok(value) => {
            call.end(&shown(&value));
            Ok(value)
        }
        Err(error) => {
            if let Some(notice) = &error.notice {
                notices::tell(notice);
            }
            let error = error.into();
            let (case, text) = case(&error);
            call.end(&Shown::Error(if interface == KV { "error-with-description" } else { case }, text));
            Err(error)
        }
    }
}

/// An error's name in the interface, and its text.
fn case(error: &KeyvalueError) -> (&'static str, &str) {
    match error {
        KeyvalueError::KeyNotFound(text) => ("key-not-found", text),
        KeyvalueError::InvalidKey(text) => ("invalid-key", text),
        KeyvalueError::InvalidValue(text) => ("invalid-value", text),
        KeyvalueError::ConnectionError(text) => ("connection-error", text),
        KeyvalueError::AuthenticationError(text) => ("authentication-error", text),
        KeyvalueError::TimeoutError(text) => ("timeout-error", text),
        KeyvalueError::IoError(text) => ("io-error", text),
        KeyvalueError::UnexpectedError(text) => ("unexpected-error", text),
    }
}

/// The text alone, which is all that guests of 2022 know.
fn described<T>(result: Result<T, KeyvalueError>) -> Result<T, types::Error> {
    result.map_err(|error| types::Error::ErrorWithDescription(case(&error).1.into()))
}

impl keyvalue::Host for Stores {
    /// `unexpected-error` for a name that is not granted.
    async fn keyvalue_open(&self, name: String) -> wasmtime::Result<Result<Keyvalue, KeyvalueError>> {
        Ok(self.open(KEYVALUE, &name).map(Keyvalue::new))
    }
}

impl kv::Host for Stores {
    async fn kv_open(&self, name: String) -> wasmtime::Result<Result<Kv, types::Error>> {
        Ok(described(self.open(KV, &name)).map(Kv::new))
    }
}

/// A store as guests know it, by the interface that they opened it with.
struct Opened {
    interface: &'static str,
    store: Arc<dyn Store>,
}

impl Opened {
    async fn get(&self, key: String) -> Result<Vec<u8>, KeyvalueError> {
        let call = Call::begin(self.interface, "get", &[Shown::Name(&key)]);
        let got = self.store.get(key).await;
        answer(self.interface, call, got, |value| Shown::Count(value.len(), "byte"))
    }

    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), KeyvalueError> {
        let size = Shown::Count(value.len(), "byte");
        let call = Call::begin(self.interface, "set", &[Shown::Name(&key), size]);
        let done = self.store.set(key, value).await;
        answer(self.interface, call, done, |()| Shown::Word("ok"))
    }

    async fn keys(&self) -> Result<Vec<String>, KeyvalueError> {
        let call = Call::begin(self.interface, "keys", &[]);
        let keys = self.store.keys().await;
        answer(self.interface, call, keys, |keys| Shown::Count(keys.len(), "element"))
    }

    async fn delete(&self, key: String) -> Result<(), KeyvalueError> {
        let call = Call::begin(self.interface, "delete", &[Shown::Name(&key)]);
        let done = self.store.delete(key).await;
        answer(self.interface, call, done, |()| Shown::Word("ok"))
    }
}

impl HostKeyvalue for Opened {
    async fn get(&self, key: String) -> wasmtime::Result<Result<Vec<u8>, KeyvalueError>> {
        Ok(self.get(key).await)
    }

    async fn set(&self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), KeyvalueError>> {
        Ok(self.set(key, value).await)
    }

    async fn keys(&self) -> wasmtime::Result<Result<Vec<String>, KeyvalueError>> {
        Ok(self.keys().await)
    }

    async fn delete(&self, key: String) -> wasmtime::Result<Result<(), KeyvalueError>> {
        Ok(self.delete(key).await)
    }
}

impl HostKv for Opened {
    async fn get(&self, key: String) -> wasmtime::Result<Result<Vec<u8>, types::Error>> {
        Ok(described(self.get(key).await))
    }

    async fn set(&self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), types::Error>> {
        Ok(described(self.set(key, value).await))
    }

    async fn keys(&self) -> wasmtime::Result<Result<Vec<String>, types::Error>> {
        Ok(described(self.keys().await))
    }

    async fn delete(&self, key: String) -> wasmtime::Result<Result<(), types::Error>> {
        Ok(described(self.delete(key).await))
    }
}
