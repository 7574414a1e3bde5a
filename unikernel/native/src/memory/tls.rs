//! What wasmtime asks of its platform: words of thread-local storage. The machine has one thread; an ordinary program for
//! tests may have more. wasmtime's `runtime/vm/sys/custom/capi.rs` says what they are for.

/// wasmtime has two, and uses the first.
type Slots = [core::cell::Cell<*mut u8>; 2];

const NONE: Slots = [const { core::cell::Cell::new(core::ptr::null_mut()) }; 2];

#[cfg(feature = "std")]
fn with<T>(function: impl FnOnce(&Slots) -> T) -> T {
    std::thread_local! { static SLOTS: Slots = const { NONE } }
    SLOTS.with(function)
}

#[cfg(not(feature = "std"))]
fn with<T>(function: impl FnOnce(&Slots) -> T) -> T {
    struct OneThread(Slots);
    // SAFETY: there is one thread, and interrupts use no thread-local storage.
    unsafe impl Sync for OneThread {}
    static SLOTS: OneThread = OneThread(NONE);
    function(&SLOTS.0)
}

// SAFETY: nothing else has this name, and wasmtime declares it so.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    with(|slots| slots[slot].get())
}

// SAFETY: nothing else has this name, and wasmtime declares it so.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(slot: usize, value: *mut u8) {
    with(|slots| slots[slot].set(value));
}
