//! Panics: one line, and the end of the machine.
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{PANIC_CODE, console, shutdown};
use crate::memory;

/// How Rust's library begins its panic where the heap has no memory.
const NO_MEMORY: &str = "memory allocation of";

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    if !PANICKING.swap(true, Ordering::Relaxed) {
        let mut begin = Beginning { text: [0; NO_MEMORY.len()], length: 0 };
        let _ = write!(begin, "{}", info.message()); // ends when it's full
        if begin.text == NO_MEMORY.as_bytes() {
            console::line(format_args!("out of memory: {}; {}", info.message(), memory::explain()));
        } else if let Some(place) = info.location() {
            match place.line() {
                // The lines of other crates are not kept: they take room.
                0 => console::line(format_args!("panic: {} ({})", info.message(), place.file())),
                line => console::line(format_args!("panic: {} ({}:{line})", info.message(), place.file())),
            }
        }
    }
    shutdown(PANIC_CODE)
}

/// The first bytes of a text.
struct Beginning {
    text: [u8; NO_MEMORY.len()],
    length: usize,
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.text[self.length..];
        let copied = room.len().min(text.len());
        room[..copied].copy_from_slice(&text.as_bytes()[..copied]);
        self.length += copied;
        if copied < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
