//! Registers of devices, mapped.
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::frames::PAGE;
use super::ram::{IDENTITY_END, Ram, explain, with};
use super::tables::Access;
use crate::cpu;

/// Where registers are mapped that lie higher than RAM is mapped: Cloud Hypervisor has them at the end of what
/// the processor can address.
const FAR_DEVICES: u64 = 3 << 38;

/// Maps the registers of a device: where they are, or in a range of their own where that isn't mapped. Gives up where
/// there is no memory for the table, and where they are said to lie in memory.
pub fn map_device(physical: u64, length: usize) -> NonNull<u8> {
    static FREE: AtomicU64 = AtomicU64::new(FAR_DEVICES);
    let start = physical / PAGE * PAGE;
    let bytes = (physical + length as u64).next_multiple_of(PAGE) - start;
    let far = physical + length as u64 > IDENTITY_END;
    let at = if far { FREE.fetch_add(bytes, Ordering::Relaxed) } else { start };
    let is_memory = |ram: &Ram, page| ram.tables.look_up(page).is_some_and(|(_, access)| access != Access::Device);
    let mapped = with(|ram| {
        if (at..at + bytes).step_by(PAGE as usize).any(|page| is_memory(ram, page)) {
            return None;
        }
        Some(ram.tables.map(&mut ram.frames, at, start, bytes, Access::Device, false))
    });
    let Some(mapped) = mapped else {
        cpu::give_up_with(format_args!("the device at {physical:#x} can't be used: the machine's memory lies there"))
    };
    match NonNull::new((at + physical % PAGE) as *mut u8) {
        Some(address) if mapped.is_ok() => address,
        _ => cpu::give_up_with(format_args!("the device at {physical:#x} can't be mapped: {}", explain())),
    }
}
