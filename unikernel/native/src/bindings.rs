//! What the interfaces look like to a host, generated: `make bindings` writes all files of the folder.
#![deny(unsafe_code)]

pub mod canonical_abi;
pub mod http_handler;
pub mod http_server;
pub mod http_server_export;
pub mod http_types;
pub mod keyvalue;
pub mod kv;
pub mod types;
