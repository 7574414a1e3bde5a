//! Stores of keys and values: `wit/keyvalue.wit` for a guest in Rust.

use std::{error, fmt};

use crate::canonical_abi::{Expected, List, Unit};

/// What can go wrong with a store. Each case carries a text for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    KeyNotFound(String),
    InvalidKey(String),
    InvalidValue(String),
    ConnectionError(String),
    AuthenticationError(String),
    TimeoutError(String),
    IoError(String),
    UnexpectedError(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (case, text) = match self {
            Error::KeyNotFound(text) => ("key not found", text),
            Error::InvalidKey(text) => ("invalid key", text),
            Error::InvalidValue(text) => ("invalid value", text),
            Error::ConnectionError(text) => ("connection error", text),
            Error::AuthenticationError(text) => ("authentication error", text),
            Error::TimeoutError(text) => ("timeout error", text),
            Error::IoError(text) => ("I/O error", text),
            Error::UnexpectedError(text) => ("unexpected error", text),
        };
        write!(f, "{case}: {text}")
    }
}

impl error::Error for Error {}

/// One store; dropping it closes it.
#[derive(Debug)]
pub struct Keyvalue {
    handle: u32,
}

impl Keyvalue {
    /// Opens the store that the slightfile grants under `name`.
    pub fn open(name: &str) -> Result<Self, Error> {
        let handle = call(|result| unsafe { import_open(name.as_ptr(), name.len(), result) })?;
        Ok(Keyvalue { handle })
    }

    /// The value under `key`; [`Error::KeyNotFound`] where there is none.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, Error> {
        let value = call(|result| unsafe { import_get(self.handle, key.as_ptr(), key.len(), result) })?;
        // SAFETY: the result of an import is the guest's.
        Ok(unsafe { value.take() })
    }

    /// Puts `value` under `key`, in place of what may be there.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        call(|result| unsafe { import_set(self.handle, key.as_ptr(), key.len(), value.as_ptr(), value.len(), result) })
            .map(|_| ())
    }

    /// The keys of this store, in no particular order.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        let keys = call(|result| unsafe { import_keys(self.handle, result) })?;
        // SAFETY: the result of an import is the guest's.
        Ok(unsafe { keys.take().into_iter().map(|key| key.take_string()).collect() })
    }

    /// Removes `key` and its value; [`Error::KeyNotFound`] where there is none.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        call(|result| unsafe { import_delete(self.handle, key.as_ptr(), key.len(), result) }).map(|_| ())
    }
}

impl Drop for Keyvalue {
    fn drop(&mut self) {
        unsafe { import_drop(self.handle) }
    }
}

/// A `keyvalue-error` in memory.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawError {
    case: u8,
    text: List<u8>,
}

fn call<T: Copy>(import: impl FnOnce(*mut Expected<T, RawError>)) -> Result<T, Error> {
    Expected::of(import).map_err(|error| {
        // SAFETY: the result of an import is the guest's.
        let text = unsafe { error.text.take_string() };
        match error.case {
            0 => Error::KeyNotFound(text),
            1 => Error::InvalidKey(text),
            2 => Error::InvalidValue(text),
            3 => Error::ConnectionError(text),
            4 => Error::AuthenticationError(text),
            5 => Error::TimeoutError(text),
            6 => Error::IoError(text),
            7 => Error::UnexpectedError(text),
            case => panic!("{case} is not a case of keyvalue-error"),
        }
    })
}

#[link(wasm_import_module = "keyvalue")]
extern "C" {
    #[link_name = "keyvalue::open"]
    fn import_open(name: *const u8, name_len: usize, result: *mut Expected<u32, RawError>);

    #[link_name = "keyvalue::get"]
    fn import_get(store: u32, key: *const u8, key_len: usize, result: *mut Expected<List<u8>, RawError>);

    #[link_name = "keyvalue::set"]
    fn import_set(
        store: u32,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
        result: *mut Expected<Unit, RawError>,
    );

    #[link_name = "keyvalue::keys"]
    fn import_keys(store: u32, result: *mut Expected<List<List<u8>>, RawError>);

    #[link_name = "keyvalue::delete"]
    fn import_delete(store: u32, key: *const u8, key_len: usize, result: *mut Expected<Unit, RawError>);
}

#[link(wasm_import_module = "canonical_abi")]
extern "C" {
    #[link_name = "resource_drop_keyvalue"]
    fn import_drop(store: u32);
}
