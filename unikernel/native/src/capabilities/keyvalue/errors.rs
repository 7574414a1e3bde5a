//! What can go wrong with a store: the classes of errors of `capabilities.keyvalue`, with their texts.

use alloc::format;
use alloc::string::String;

use crate::bindings::keyvalue::KeyvalueError;
use crate::capabilities::keyvalue::limits::{KEY_LIMIT, VALUE_LIMIT};
use crate::capabilities::text::quote;

/// Which case of the interface an error is; docs/keyvalue.md says when each one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    KeyNotFound,
    InvalidKey,
    InvalidValue,
    Connection,
    Authentication,
    Timeout,
    Unexpected,
}

/// What a store can't do for a guest.
///
/// `text` is for the guest, which is hostile by assumption: no address and no secret. `notice` is for whoever runs the
/// machine: what is wrong, where, and what to do about it, without secrets; `None` where there is nothing to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    pub kind: Kind,
    pub text: String,
    pub notice: Option<String>,
}

impl StoreError {
    pub fn new(kind: Kind, text: impl Into<String>) -> StoreError {
        StoreError { kind, text: text.into(), notice: None }
    }

    pub fn with_notice(kind: Kind, text: impl Into<String>, notice: impl Into<String>) -> StoreError {
        StoreError { kind, text: text.into(), notice: Some(notice.into()) }
    }
}

impl From<StoreError> for KeyvalueError {
    fn from(error: StoreError) -> KeyvalueError {
        match error.kind {
            Kind::KeyNotFound => KeyvalueError::KeyNotFound(error.text),
            Kind::InvalidKey => KeyvalueError::InvalidKey(error.text),
            Kind::InvalidValue => KeyvalueError::InvalidValue(error.text),
            Kind::Connection => KeyvalueError::ConnectionError(error.text),
            Kind::Authentication => KeyvalueError::AuthenticationError(error.text),
            Kind::Timeout => KeyvalueError::TimeoutError(error.text),
            Kind::Unexpected => KeyvalueError::UnexpectedError(error.text),
        }
    }
}

/// What is wrong with the configuration of a capability, and what to do about it. It holds no value of the
/// configuration, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

pub fn key_not_found(key: &str) -> StoreError {
    StoreError::new(Kind::KeyNotFound, format!("there is no value under {}", quote(key)))
}

pub fn key_too_long(bytes: usize) -> StoreError {
    StoreError::new(Kind::InvalidKey, format!("{bytes} bytes are more than the {KEY_LIMIT} a key may have"))
}

/// For a value of so many bytes, be it a guest's or what somebody else put into the store.
pub fn value_too_long(bytes: usize) -> StoreError {
    StoreError::new(Kind::InvalidValue, format!("{bytes} bytes are more than the {VALUE_LIMIT} a value may have"))
}

pub fn too_many_keys() -> StoreError {
    StoreError::new(Kind::Unexpected, "the store holds more keys than can be listed at once")
}

/// For an answer that the machine has no memory for.
pub fn out_of_memory(bytes: usize) -> StoreError {
    let text = format!("the machine has no memory left for {bytes} bytes of an answer");
    let notice = format!("keyvalue: {text}; start it with more (--memory)");
    StoreError::with_notice(Kind::Unexpected, text, notice)
}
