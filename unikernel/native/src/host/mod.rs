//! What runs the application: tasks and timers, the control channel, wasmtime, WASI, instances.
#![deny(unsafe_code)]

pub mod application;
pub mod control;
pub mod engine;
pub mod executor;
pub mod guest;
pub mod input;
pub mod launcher;
mod log;
pub mod manifest;
pub mod output;
pub mod platform;
mod random;
mod signals;
pub mod sync;
pub mod wasi;

/// Runs the application. Returns the exit code.
pub fn main(info: crate::boot::BootInfo) -> u8 {
    if info.payload.is_none() {
        platform::console(b"slight-machine: this kernel has no application: slight-py image build puts one behind it\n");
        return 2;
    }
    0
}
