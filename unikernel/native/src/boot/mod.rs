//! From the first instruction to a machine that the application can run on: entries, what the loader tells, the payload.

pub mod command_line;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod hermit;
pub mod payload;
#[cfg(target_os = "none")]
mod pvh;

use alloc::string::String;
use core::time::Duration;

pub use payload::Payload;

/// Bytes of the stack that the kernel runs on, below which lies a guard page.
pub const STACK_BYTES: usize = 256 << 10;

/// Whose machine this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// QEMU, Firecracker, Cloud Hypervisor, and whoever else boots by PVH: a serial port, and nothing to call.
    Pvh,
    /// uhyve, which is called through ports.
    Uhyve,
}

/// What is known when the machine has been set up.
#[derive(Debug)]
pub struct BootInfo {
    /// The words that the kernel was started with, as they were written.
    pub command_line: String,
    pub vmm: Vmm,
    /// Bytes of RAM.
    pub memory: u64,
    /// The time since 1970 (UTC) at the start, where the loader or a clock of the machine tells it.
    pub wall: Option<Duration>,
    /// The application, where one was put behind the kernel.
    pub payload: Option<Payload>,
}

/// A range of RAM: physical addresses, the second one past the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub start: u64,
    pub end: u64,
}

/// What an entry finds out from its loader, in words that both have.
#[cfg(target_os = "none")]
struct Loaded<'a> {
    command_line: &'a str,
    vmm: Vmm,
    regions: &'a [Region],
    tsc_khz: Option<u32>,
    wall: Option<Duration>,
}

/// The most ranges of RAM that are used: machines have two to ten.
#[cfg(target_os = "none")]
const MAX_REGIONS: usize = 32;

/// Sets the machine up, runs the application, and ends.
#[cfg(target_os = "none")]
fn run(loaded: Loaded) -> ! {
    use crate::{cpu, memory};

    cpu::init();
    let payload = payload::behind_the_kernel(loaded.regions);
    let end = payload.as_ref().map_or(memory::image_end(), payload::Placed::end);
    memory::init(loaded.regions, end);
    cpu::start(loaded.tsc_khz);
    let info = BootInfo {
        command_line: loaded.command_line.into(),
        vmm: loaded.vmm,
        memory: loaded.regions.iter().map(|region| region.end - region.start).sum(),
        wall: loaded.wall,
        payload: payload.map(payload::Placed::into_payload),
    };
    memory::add_low_memory(loaded.regions);
    #[cfg(feature = "trials")]
    cpu::shutdown(cpu::trials::main(&info));
    #[cfg(not(feature = "trials"))]
    cpu::shutdown(crate::host::main(info))
}
