//! Time since the start, waiting for it, and the tick.
//!
//! Time is read from the processor's time stamp counter, and the timer of its interrupt controller wakes it.
use core::mem;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use core::time::Duration;

use raw_cpuid::CpuId;
use x86_64::instructions::interrupts as flag;

use super::{apic, interrupts};

/// How often the tick comes while tasks run.
pub const TICK: Duration = Duration::from_millis(10);
const TICK_NANOSECONDS: u64 = TICK.as_nanos() as u64;

/// For how long the counter is compared with the timer, where nobody tells its rate. The mistake is that of two looks at
/// the timer, which take up to a microsecond.
const CALIBRATION_NANOSECONDS: u64 = 3_000_000;

/// The counter at the start.
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds of a count, times 2^32.
static SCALE: AtomicU64 = AtomicU64::new(0);
static ON_TICK: AtomicPtr<()> = AtomicPtr::new(null_mut());
/// When the timer is to interrupt, in nanoseconds since the start. `NEVER` when it is stopped.
static ARMED: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;
/// Whether the processor waits in `idle`.
static IDLE: AtomicBool = AtomicBool::new(false);

/// Starts the clock, and the tick. `tsc_khz` is the counter's rate, where the loader tells it.
pub(super) fn start(tsc_khz: Option<u32>) {
    START.store(counter(), Ordering::Relaxed);
    let scale = match tsc_khz.map(u64::from).or_else(told_khz).filter(|&khz| khz > 0) {
        Some(khz) => (1_000_000 << 32) / khz,
        None => calibrated_scale(),
    };
    SCALE.store(scale, Ordering::Relaxed);
    interrupts::without(|| arm(TICK_NANOSECONDS));
}

/// The counter's rate as the processor tells it, or the machine (leaf 0x40000010, which VMware began with).
fn told_khz() -> Option<u64> {
    let id = CpuId::new();
    let machine = id.get_hypervisor_info().and_then(|info| info.tsc_frequency()).map(u64::from);
    machine.or_else(|| id.get_tsc_info()?.tsc_frequency().map(|hertz| hertz / 1000))
}

/// Compares the counter with the timer.
fn calibrated_scale() -> u64 {
    /// The counter and the timer at the same moment: of five tries the one that took the shortest.
    fn both() -> (u64, u64) {
        let tries = [(); 5].map(|()| {
            let before = counter();
            let time = apic::stopwatch();
            let after = counter();
            (after.saturating_sub(before), before + after.saturating_sub(before) / 2, time)
        });
        let (_, counted, time) = tries.into_iter().min().expect("five");
        (counted, time)
    }
    apic::start_stopwatch();
    let (first_count, first_time) = both();
    while apic::stopwatch() < first_time + CALIBRATION_NANOSECONDS {
        core::hint::spin_loop();
    }
    let (count, time) = both();
    apic::stop_stopwatch();
    ((time - first_time) << 32) / count.saturating_sub(first_count).max(1)
}

/// The time since the start. It never goes back.
pub fn now() -> Duration {
    Duration::from_nanos(now_nanoseconds())
}

fn now_nanoseconds() -> u64 {
    let counts = counter().saturating_sub(START.load(Ordering::Relaxed));
    (u128::from(counts) * u128::from(SCALE.load(Ordering::Relaxed)) >> 32) as u64
}

/// Waits until `ready` says yes, and no longer than until that moment. `ready` is asked with interrupts off, at first and
/// after every interrupt, so that none is missed.
pub fn idle(until: Option<Duration>, ready: impl Fn() -> bool) {
    let until = until.map_or(NEVER, |until| u64::try_from(until.as_nanos()).unwrap_or(NEVER));
    flag::disable();
    IDLE.store(true, Ordering::Relaxed);
    while !ready() && now_nanoseconds() < until {
        // A tick that is under way comes in 10 ms, and is left: waits are mostly shorter.
        if until < ARMED.load(Ordering::Relaxed) {
            arm(until);
        }
        flag::enable_and_hlt();
        flag::disable();
    }
    IDLE.store(false, Ordering::Relaxed);
    let tick = now_nanoseconds() + TICK_NANOSECONDS;
    if ARMED.load(Ordering::Relaxed) > tick {
        arm(tick);
    }
    flag::enable();
}

/// Has a function called with every tick, within an interrupt: it may use atomic variables, and neither locks nor memory.
pub fn on_tick(function: fn()) {
    ON_TICK.store(function as *mut (), Ordering::Relaxed);
}

/// Called by the timer's interrupt.
pub(super) fn timer() {
    ARMED.store(NEVER, Ordering::Relaxed);
    if IDLE.load(Ordering::Relaxed) {
        return; // `idle` goes on, and arms it again
    }
    arm(now_nanoseconds() + TICK_NANOSECONDS);
    let function = ON_TICK.load(Ordering::Relaxed);
    if !function.is_null() {
        // SAFETY: what isn't null was a `fn()` in `on_tick`.
        unsafe { mem::transmute::<*mut (), fn()>(function)() };
    }
}

/// Has the timer interrupt at that time since the start. Interrupts are off.
fn arm(at: u64) {
    ARMED.store(at, Ordering::Relaxed);
    apic::interrupt_in(at.saturating_sub(now_nanoseconds()));
}

fn counter() -> u64 {
    // SAFETY: every processor with 64 bits has this instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}
