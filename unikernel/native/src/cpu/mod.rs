//! The processor: descriptor tables, interrupts, ports, clocks, random numbers.

pub mod clock;
pub mod console;
pub mod interrupts;
pub mod port;
pub mod random;
mod shutdown;

pub use console as serial;
pub use shutdown::{give_up, give_up_with, shutdown};

/// Makes the processor ready for code that faults and takes memory. To be called once, and first.
pub fn init() {}

/// Starts clocks and interrupts. `tsc_khz` is the rate of the time stamp counter, where the loader tells it.
pub fn start(tsc_khz: Option<u32>) {
    clock::start(tsc_khz);
}

/// The exit code of a kernel that panicked, or met an exception of the processor.
pub const PANIC_CODE: u8 = 101;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    use core::sync::atomic::{AtomicBool, Ordering};
    static PANICKING: AtomicBool = AtomicBool::new(false);
    if !PANICKING.swap(true, Ordering::Relaxed) {
        console::line(format_args!("panic: {info}"));
    }
    shutdown(PANIC_CODE)
}
