//! Memory: frames, page tables, the heap, stacks with guard pages, memories of guests, code.

#[cfg(target_os = "none")]
mod heap;
pub mod modules;
mod tls;

#[cfg(target_os = "none")]
pub use machine::*;

#[cfg(target_os = "none")]
mod machine {
    use super::heap;
    use crate::boot::Region;
    use crate::cpu;

    unsafe extern "C" {
        static __image_end: u8;
    }

    /// The first address behind the kernel: of a page.
    pub fn image_end() -> u64 {
        (&raw const __image_end) as u64
    }

    pub fn page_fault(_: u64, _: u64) -> bool {
        false
    }

    pub fn is_stack_guard(_: u64) -> bool {
        false
    }

    pub fn map_device(physical: u64, _: usize) -> core::ptr::NonNull<u8> {
        core::ptr::NonNull::new(physical as *mut u8).unwrap()
    }

    /// Takes the RAM from `used_until` on into use.
    pub fn init(regions: &[Region], used_until: u64) {
        let start = (used_until + 4095) & !4095;
        let Some(region) = regions.iter().find(|region| region.start <= start && start < region.end) else {
            cpu::give_up("there is no memory behind the application: give the machine more with --memory");
        };
        heap::claim(start, region.end.min(1 << 30));
    }
}
