//! The kernel's console: a 16550 serial port, or uhyve's.
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU16, Ordering};

use super::{interrupts, port};

/// The first serial port of a PC.
pub const COM1: u16 = 0x3f8;

const LINE_STATUS: u16 = 5;
const ROOM_TO_SEND: u8 = 0x20;
/// How often the port is asked for room before a byte is given up: a machine without one must not hang.
const PATIENCE: usize = 100_000;

const NONE: u16 = 0;
const UHYVE: u16 = 1;
static CONSOLE: AtomicU16 = AtomicU16::new(NONE);

/// Sends what follows to the serial port whose first register is at `base`.
pub fn use_serial_port(base: u16) {
    CONSOLE.store(base, Ordering::Relaxed);
}

/// Sends what follows to uhyve.
pub fn use_uhyve() {
    CONSOLE.store(UHYVE, Ordering::Relaxed);
}

/// Whether this is uhyve's machine.
pub fn is_uhyve() -> bool {
    CONSOLE.load(Ordering::Relaxed) == UHYVE
}

/// Writes bytes, and waits until they are on their way.
pub fn write(bytes: &[u8]) {
    match CONSOLE.load(Ordering::Relaxed) {
        NONE => {}
        UHYVE => bytes.chunks(CHUNK).for_each(write_to_uhyve),
        base => bytes.iter().for_each(|&byte| write_to_serial_port(base, byte)),
    }
}

/// Writes a line.
pub fn line(text: fmt::Arguments) {
    let _ = writeln!(Writer, "slight-machine: {text}");
}

/// Formatted text on the console.
pub struct Writer;

impl Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

fn write_to_serial_port(base: u16, byte: u8) {
    // SAFETY: a serial port's registers touch no memory, and nothing listens at them where there is none.
    unsafe {
        if (0..PATIENCE).any(|_| port::read_u8(base + LINE_STATUS) & ROOM_TO_SEND != 0) {
            port::write_u8(base, byte);
        }
    }
}

/// uhyve reads parameters and text at physical addresses, and stacks of tasks are not where their addresses say: both
/// are copied to a place in the kernel's data, which is.
const CHUNK: usize = 512;
const SERIAL_WRITE: u16 = 0x880;

#[repr(C)]
struct SerialWrite {
    address: u64,
    length: usize,
    text: [u8; CHUNK],
}

struct Shared(UnsafeCell<SerialWrite>);
// SAFETY: there is one processor, and `write_to_uhyve` keeps interrupts off while it uses this.
unsafe impl Sync for Shared {}
static SERIAL_WRITE_PARAMETERS: Shared =
    Shared(UnsafeCell::new(SerialWrite { address: 0, length: 0, text: [0; CHUNK] }));

fn write_to_uhyve(text: &[u8]) {
    interrupts::without(|| {
        // SAFETY: nobody else uses the parameters now. uhyve (interface 1, "serial write buffer") reads them and the
        // text, whose lengths are right, and writes to no memory.
        unsafe {
            let parameters = &mut *SERIAL_WRITE_PARAMETERS.0.get();
            parameters.text[..text.len()].copy_from_slice(text);
            parameters.address = (&raw const parameters.text) as u64;
            parameters.length = text.len();
            port::write_u32(SERIAL_WRITE, (&raw const *parameters) as u32);
        }
    });
}
