//! What runs the application: tasks and timers, the control channel, wasmtime, WASI, instances.
#![deny(unsafe_code)]

pub mod executor;
pub mod platform;
mod random;
pub mod sync;
