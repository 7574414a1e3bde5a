//! Time since the start, waiting for it, and the tick.
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use super::interrupts;

/// How often the tick comes while tasks run.
pub const TICK: Duration = Duration::from_millis(10);

static START: AtomicU64 = AtomicU64::new(0);
static TSC_KHZ: AtomicU64 = AtomicU64::new(2_000_000);
static ON_TICK: AtomicUsize = AtomicUsize::new(0);

pub(super) fn start(tsc_khz: Option<u32>) {
    START.store(tsc(), Ordering::Relaxed);
    if let Some(khz) = tsc_khz {
        TSC_KHZ.store(khz.into(), Ordering::Relaxed);
    }
}

/// The time since the start. It never goes back.
pub fn now() -> Duration {
    let ticks = tsc() - START.load(Ordering::Relaxed);
    Duration::from_nanos((u128::from(ticks) * 1_000_000 / u128::from(TSC_KHZ.load(Ordering::Relaxed))) as u64)
}

/// Waits for a device's interrupt, and no longer than until that moment. Returns at once where an interrupt has come
/// since the last call. The devices' handlers have run when it returns, not more: it may return early.
pub fn idle(until: Option<Duration>) {
    let _ = until;
    core::hint::spin_loop();
    interrupts::handle_pending();
}

/// Has a function called with every tick, by an interrupt: it may use atomic variables, and no lock or memory.
pub fn on_tick(function: fn()) {
    ON_TICK.store(function as usize, Ordering::Relaxed);
}

fn tsc() -> u64 {
    // SAFETY: every processor with 64 bits has this instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}
