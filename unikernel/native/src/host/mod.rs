//! What runs the application: tasks and timers, the control channel, wasmtime, WASI, instances.
#![deny(unsafe_code)]

pub mod application;
pub mod control;
pub mod engine;
pub mod executor;
pub mod guest;
#[cfg(all(test, feature = "guests"))]
mod guests_for_tests;
pub mod input;
pub mod json;
pub mod launcher;
pub mod log;
pub mod manifest;
pub mod output;
pub mod platform;
mod random;
mod signals;
#[cfg(not(feature = "std"))]
mod start;
pub mod sync;
pub mod trace;
pub mod wasi;

#[cfg(not(feature = "std"))]
pub use start::main;
