//! Input and output ports.
use core::arch::asm;

/// Writes a byte to a port.
///
/// # Safety
/// The device behind the port must not break Rust's rules for it: it must not write to memory that is in use.
pub unsafe fn write_u8(port: u16, value: u8) {
    // SAFETY: the caller knows the device.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Writes 32 bits to a port.
///
/// # Safety
/// As for [`write_u8`]. Memory whose address is written may be read and changed.
pub unsafe fn write_u32(port: u16, value: u32) {
    // SAFETY: the caller knows the device. It may look at memory (a hypercall's parameters), so no `nomem`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) }
}

/// Reads a byte from a port.
///
/// # Safety
/// As for [`write_u8`].
pub unsafe fn read_u8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller knows the device.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads 32 bits from a port.
///
/// # Safety
/// As for [`write_u8`].
pub unsafe fn read_u32(port: u16) -> u32 {
    let value;
    // SAFETY: the caller knows the device.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}
