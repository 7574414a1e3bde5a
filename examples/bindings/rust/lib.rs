//! The interfaces of Spiderlightning for a guest in Rust.

mod canonical_abi;
pub mod http;
pub mod keyvalue;
