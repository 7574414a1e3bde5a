//! Interrupts of devices.

/// Has `handler` called when the device at an input of the IOAPIC has something to say.
///
/// The interrupt itself only notes that and silences the line. The handler runs afterwards, where [`handle_pending`] is
/// called, so it may take locks and memory; it must have the device take its request back (acknowledge), after which
/// the line is opened again.
pub fn register(line: u8, handler: fn()) {
    let _ = (line, handler);
}

/// Calls the handlers of the devices that have asked for it. The executor does so between tasks, and [`super::clock::idle`].
pub fn handle_pending() {}

/// Runs a function that no interrupt may come into.
pub fn without<T>(function: impl FnOnce() -> T) -> T {
    x86_64::instructions::interrupts::without_interrupts(function)
}
