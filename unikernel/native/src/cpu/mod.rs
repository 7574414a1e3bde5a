//! The processor: descriptor tables, interrupts, ports, clocks, random numbers.

mod apic;
pub mod clock;
pub mod console;
mod exceptions;
pub mod features;
pub mod interrupts;
mod panic;
pub mod port;
pub mod random;
pub mod rtc;
mod segments;
mod shutdown;
#[cfg(feature = "trials")]
pub(crate) mod trials;
pub mod uhyve;
pub(crate) mod unshared;
mod vectors;

pub use console::is_uhyve;
pub use shutdown::{give_up, give_up_with, shutdown};

/// Makes the processor ready: exceptions are told, and what guests' code needs is switched on. To be called once, and first.
pub fn init() {
    segments::load();
    vectors::load();
    features::enable();
}

/// Starts interrupts and clocks, when there is memory. `tsc_khz` is the rate of the time stamp counter, where the loader tells it.
pub fn start(tsc_khz: Option<u32>) {
    apic::start();
    interrupts::start();
    clock::start(tsc_khz);
    x86_64::instructions::interrupts::enable();
}

/// The exit code of a kernel that panicked, or met an exception of the processor: what the launcher ends with where the
/// machine can't tell it a code.
pub const PANIC_CODE: u8 = 1;
