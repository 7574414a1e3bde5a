//! The interfaces of Spiderlightning for a guest in Rust: the generated modules, as a crate.

pub mod blob_store;
pub mod blob_types;
mod canonical_abi;
pub mod configs;
pub mod distributed_locking;
pub mod http_client;
pub mod http_handler;
pub mod http_server;
pub mod http_server_export;
pub mod http_types;
pub mod keyvalue;
pub mod kv;
pub mod messaging;
pub mod sql;
pub mod types;
