//! wasmtime's engine: its settings, its clock, and how guests that compute take turns.
//!
//! A module can be loaded only where it was compiled with the same settings: `slight_py/ahead.py` has those.

use wasmtime::{Config, Engine, Result};

use crate::memory::modules;

/// Bytes of stack that a guest may use, as with `slight-py run`.
const GUEST_STACK: usize = 512 << 10;

/// Bytes of stack for what the guest calls of the host, which runs on the guest's stack.
const HOST_STACK: usize = 128 << 10;

/// An engine with the settings that modules are compiled with.
pub fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config
        // The code checks bounds and divisors itself: no fault of the processor has to become a trap.
        .signals_based_traps(false)
        // There are no files to map memory from, no unwinder, no threads and no garbage collector.
        .memory_init_cow(false)
        .native_unwind_info(false)
        .concurrency_support(false)
        .gc_support(false)
        .memory_reservation(0)
        .memory_guard_size(0)
        .memory_reservation_for_growth(1 << 20)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(GUEST_STACK + HOST_STACK);
    modules::prepare(&mut config);
    Engine::new(&config)
}

/// Begins the clock by which guests take turns: an epoch is a tick of 10 ms.
#[cfg(not(feature = "std"))]
pub fn start_clock(engine: &Engine) {
    static ENGINE: spin::Once<Engine> = spin::Once::new();
    ENGINE.call_once(|| engine.clone());
    crate::cpu::clock::on_tick(|| {
        if let Some(engine) = ENGINE.get() {
            engine.increment_epoch();
        }
    });
}

/// The same for a program with threads.
#[cfg(feature = "std")]
pub fn start_clock(engine: &Engine) {
    let engine = engine.weak();
    std::thread::spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
}
