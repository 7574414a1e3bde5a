//! Interrupts of devices. They come through the IOAPIC (Intel's 82093AA), the same one in QEMU's microvm and q35, in
//! Firecracker and in uhyve; or as messages of the devices, where these are on PCI and can send them.
use core::mem;
use core::ops::Range;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::{apic, vectors};
use crate::memory;

const IOAPIC: u64 = 0xfec0_0000;
const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
const REDIRECTIONS: u32 = 0x10;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

/// How many inputs the IOAPIC has.
const LINES: u8 = 24;

/// Messages have the vectors between the timer's and the spurious one. Like the lines, they are counted from `DEVICES`.
const MESSAGES: Range<usize> = (vectors::TIMER - vectors::DEVICES) as usize + 1..NUMBERS;
const NUMBERS: usize = (vectors::SPURIOUS - vectors::DEVICES) as usize;

/// Where messages for processors are written to, and where the processor's number goes.
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;
const MESSAGE_PROCESSOR: u32 = 12;

static MAPPED: AtomicU64 = AtomicU64::new(0);
static HANDLERS: [Handlers; NUMBERS] = [const { [const { AtomicPtr::new(null_mut()) }; SHARED] }; NUMBERS];

/// Those of the devices that share a line.
type Handlers = [AtomicPtr<()>; SHARED];
const SHARED: usize = 8;

/// Why no interrupts come from a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterError {
    /// There is no such input of the IOAPIC.
    NoSuchLine,
    /// More devices share it than are expected, or there are more drivers than messages.
    TooManyDevices,
}

/// Silences all devices.
pub(super) fn start() {
    MAPPED.store(memory::map_device(IOAPIC, 4096).as_ptr() as u64, Ordering::Relaxed);
    (0..LINES).for_each(mask);
}

/// Has `handler` called when the device at an input of the IOAPIC interrupts. `line` is the number that follows the
/// address in `virtio_mmio.device=`, or the interrupt line in a PCI device's configuration.
///
/// The handler runs within the interrupt: it may set atomic variables, and take neither locks nor memory. The line is
/// silent from then on, until [`open`] is called, which is for after the device has taken its request back. Devices may
/// say something in between, so their queues are to be looked through after `open`.
///
/// Devices may share a line: all their handlers are called.
pub fn register(line: u8, handler: fn()) -> Result<(), RegisterError> {
    let handlers = HANDLERS[..usize::from(LINES)].get(usize::from(line)).ok_or(RegisterError::NoSuchLine)?;
    let free = handlers.iter().find(|handler| handler.load(Ordering::Relaxed).is_null());
    free.ok_or(RegisterError::TooManyDevices)?.store(handler as *mut (), Ordering::Relaxed);
    without(|| write(line, 1, apic::identifier() << 24));
    open(line);
    Ok(())
}

/// What a device sends: a write of `data` to `address` (Intel's manual, volume 3, 10.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub address: u32,
    pub data: u32,
}

/// Has `handler` called when a device sends the message that this gives. It runs within the interrupt, as those of
/// [`register`] do, and messages need not be let through again. Devices with the same handler send the same message.
pub fn register_message(handler: fn()) -> Result<Message, RegisterError> {
    let handler = handler as *mut ();
    for number in MESSAGES {
        let place = &HANDLERS[number][0];
        let known = place.load(Ordering::Relaxed);
        if known.is_null() || known == handler {
            place.store(handler, Ordering::Relaxed);
            let address = MESSAGE_ADDRESS | (apic::identifier() & 0xff) << MESSAGE_PROCESSOR;
            return Ok(Message { address, data: u32::from(vectors::DEVICES) + number as u32 });
        }
    }
    Err(RegisterError::TooManyDevices)
}

/// Lets interrupts of this line through again.
pub fn open(line: u8) {
    if line < LINES {
        without(|| write(line, 0, u32::from(vectors::DEVICES + line) | LEVEL));
    }
}

fn mask(line: u8) {
    // All else stays as it is when the line is open: one that waits for edges doesn't notice the end of a level, and the
    // end of the interrupt is told to lines of its vector.
    write(line, 0, u32::from(vectors::DEVICES + line) | LEVEL | MASKED);
}

/// Called by the interrupt of a line or a message.
pub(super) fn handle(number: u8) {
    if number < LINES {
        mask(number);
    }
    for handler in HANDLERS.get(usize::from(number)).into_iter().flatten() {
        let handler = handler.load(Ordering::Relaxed);
        if !handler.is_null() {
            // SAFETY: what isn't null was a `fn()` in `register`.
            unsafe { mem::transmute::<*mut (), fn()>(handler)() };
        }
    }
}

/// Runs a function that no interrupt may come into.
pub fn without<T>(function: impl FnOnce() -> T) -> T {
    x86_64::instructions::interrupts::without_interrupts(function)
}

/// Writes half of the 64 bits that say where interrupts of a line go.
fn write(line: u8, half: u32, value: u32) {
    let base = MAPPED.load(Ordering::Relaxed);
    // SAFETY: `start` has mapped the registers. Interrupts are off between the two writes (`without`, or an interrupt),
    // so they belong together, and come only by vectors that the table of interrupts has.
    unsafe {
        ((base + SELECT) as *mut u32).write_volatile(REDIRECTIONS + u32::from(line) * 2 + half);
        ((base + WINDOW) as *mut u32).write_volatile(value);
    }
}
