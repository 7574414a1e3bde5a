//! What runs the application: tasks and timers, the control channel, wasmtime, WASI, instances.
#![deny(unsafe_code)]

pub mod engine;
pub mod executor;
pub mod guest;
mod input;
mod log;
mod output;
pub mod platform;
mod random;
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
