//! The processor's own interrupt controller and its timer (Intel's manual, volume 3, chapter 10), through memory or,
//! where there is x2APIC, through model-specific registers.
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use x86_64::registers::model_specific::Msr;

use super::{features, port, vectors};
use crate::memory;

const BASE_REGISTER: u32 = 0x1b;
const BASE_ADDRESS: u64 = 0xfee0_0000;
const ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
const X2APIC_REGISTERS: u32 = 0x800;

/// Registers, by their address in memory from the base.
#[derive(Clone, Copy)]
enum Register {
    Identifier = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    SpuriousVector = 0xf0,
    Timer = 0x320,
    LocalInterrupt0 = 0x350,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    Divider = 0x3e0,
}

const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_16: u32 = 0b0011;

/// How often the timer counts in a second, before it is divided: what QEMU and KVM have for all machines.
const TIMER_HERTZ: u64 = 1_000_000_000;
/// Nanoseconds of one count of the timer.
const COUNT_NANOSECONDS: u64 = 16 * 1_000_000_000 / TIMER_HERTZ;

static USES_X2APIC: AtomicBool = AtomicBool::new(false);
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Switches the controller on, with its timer stopped, and the two 8259s of a PC off.
pub(super) fn start() {
    let x2apic = features::X2APIC.is_there();
    USES_X2APIC.store(x2apic, Ordering::Relaxed);
    // SAFETY: the registers of the controller are at this address wherever QEMU, KVM or firmware have set it up. From
    // here on it's in the mode that `read` and `write` expect. The 8259s, where they are, are masked.
    unsafe {
        port::write_u8(0x21, 0xff);
        port::write_u8(0xa1, 0xff);
        let mut base = Msr::new(BASE_REGISTER);
        if x2apic {
            base.write(base.read() & 0xfff | BASE_ADDRESS | ENABLED);
            base.write(base.read() | X2APIC);
        } else {
            base.write(base.read() & 0xfff | BASE_ADDRESS | ENABLED);
            MAPPED.store(memory::map_device(BASE_ADDRESS, 4096).as_ptr() as u64, Ordering::Relaxed);
        }
    }
    // First of all, as the controller masks the others until it is on.
    write(Register::SpuriousVector, SOFTWARE_ENABLE | u32::from(vectors::SPURIOUS));
    write(Register::TaskPriority, 0);
    write(Register::LocalInterrupt0, MASKED);
    write(Register::Timer, vectors::TIMER.into());
    write(Register::Divider, DIVIDE_BY_16);
}

/// The number by which interrupts are sent to this processor.
pub(super) fn identifier() -> u32 {
    let identifier = read(Register::Identifier);
    if USES_X2APIC.load(Ordering::Relaxed) { identifier } else { identifier >> 24 }
}

pub(super) fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// Has the timer interrupt once, in so many nanoseconds or a bit later; in 68 s at the latest.
pub(super) fn interrupt_in(nanoseconds: u64) {
    let count = nanoseconds.div_ceil(COUNT_NANOSECONDS).clamp(1, u32::MAX.into());
    write(Register::InitialCount, count as u32);
}

/// Starts the timer as a stopwatch, which [`stopwatch`] reads, for at most 68 s.
pub(super) fn start_stopwatch() {
    write(Register::Timer, MASKED | u32::from(vectors::TIMER));
    write(Register::InitialCount, u32::MAX);
}

/// Nanoseconds since the stopwatch was started.
pub(super) fn stopwatch() -> u64 {
    u64::from(u32::MAX - read(Register::CurrentCount)) * COUNT_NANOSECONDS
}

/// Stops it: from here on the timer interrupts.
pub(super) fn stop_stopwatch() {
    write(Register::InitialCount, 0);
    write(Register::Timer, vectors::TIMER.into());
}

fn read(register: Register) -> u32 {
    // SAFETY: `start` has found out which way leads to these registers, which have no effect on memory.
    unsafe {
        if USES_X2APIC.load(Ordering::Relaxed) {
            Msr::new(X2APIC_REGISTERS + (register as u32 >> 4)).read() as u32
        } else {
            ((MAPPED.load(Ordering::Relaxed) + register as u64) as *const u32).read_volatile()
        }
    }
}

fn write(register: Register, value: u32) {
    // SAFETY: as in `read`; interrupts come only by vectors that the table of interrupts has.
    unsafe {
        if USES_X2APIC.load(Ordering::Relaxed) {
            Msr::new(X2APIC_REGISTERS + (register as u32 >> 4)).write(value.into());
        } else {
            ((MAPPED.load(Ordering::Relaxed) + register as u64) as *mut u32).write_volatile(value);
        }
    }
}
