//! The interfaces of Spiderlightning for a guest in Rust: the generated modules, as a crate.

mod canonical_abi;
pub mod http_handler;
pub mod http_server;
pub mod http_server_export;
pub mod http_types;
pub mod keyvalue;
pub mod kv;
pub mod types;
