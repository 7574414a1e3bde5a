//! Time since the start, waiting for it, and the tick.
//!
//! Time is read from the processor's time stamp counter, and the timer of its interrupt controller wakes it. Where nobody
//! tells the counter's rate, the timer is a stopwatch at first, which the time is read from: it becomes a timer, and the
//! rate is known by comparison, when it is first needed as one. So a start doesn't wait for that.
use core::mem;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use core::time::Duration;

use x86_64::instructions::interrupts as flag;

use super::{apic, features, interrupts};

/// How often the tick comes while tasks run.
pub const TICK: Duration = Duration::from_millis(10);
const TICK_NANOSECONDS: u64 = TICK.as_nanos() as u64;

/// For how long the counter is compared with the stopwatch at least. The mistake is that of two looks at the stopwatch,
/// which take up to a microsecond.
const COMPARED_NANOSECONDS: u64 = 3_000_000;

/// The counter at the start, and the stopwatch.
static START: AtomicU64 = AtomicU64::new(0);
static STOPWATCH_START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds of a count, times 2^32. 0 as long as the stopwatch runs.
static SCALE: AtomicU64 = AtomicU64::new(0);
static ON_TICK: AtomicPtr<()> = AtomicPtr::new(null_mut());
/// When the timer is to interrupt, in nanoseconds since the start. `NEVER` when it is stopped.
static ARMED: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;
/// Whether the processor waits in `idle`.
static IDLE: AtomicBool = AtomicBool::new(false);

/// Starts the clock. `tsc_khz` is the counter's rate, where the loader tells it.
pub(super) fn start(tsc_khz: Option<u32>) {
    if let Some(khz) = tsc_khz.map(u64::from).filter(|&khz| khz > 0).or_else(features::counter_khz) {
        START.store(counter(), Ordering::Relaxed);
        SCALE.store((1_000_000 << 32) / khz, Ordering::Relaxed);
    } else {
        apic::start_stopwatch();
        let (count, time) = both();
        START.store(count, Ordering::Relaxed);
        STOPWATCH_START.store(time, Ordering::Relaxed);
    }
}

/// The counter and the stopwatch at the same moment: of five tries the one that took the shortest.
fn both() -> (u64, u64) {
    let tries = [(); 5].map(|()| {
        let before = counter();
        let time = apic::stopwatch();
        let after = counter();
        (after.saturating_sub(before), before + after.saturating_sub(before) / 2, time)
    });
    let (_, count, time) = tries.into_iter().min().expect("five");
    (count, time)
}

/// Makes the stopwatch a timer, and has the counter tell the time from here on. Interrupts are off.
fn end_stopwatch() {
    let start = STOPWATCH_START.load(Ordering::Relaxed);
    while apic::stopwatch() < start + COMPARED_NANOSECONDS {
        core::hint::spin_loop();
    }
    let (count, time) = both();
    apic::stop_stopwatch();
    let counts = count.saturating_sub(START.load(Ordering::Relaxed)).max(1);
    // Times 2^26, for the stopwatch's 68 s have 36 bits, and then times 2^6.
    SCALE.store((((time - start) << 26) / counts).max(1) << 6, Ordering::Relaxed);
}

/// The time since the start. It never goes back.
pub fn now() -> Duration {
    Duration::from_nanos(now_nanoseconds())
}

fn now_nanoseconds() -> u64 {
    match SCALE.load(Ordering::Relaxed) {
        0 => apic::stopwatch() - STOPWATCH_START.load(Ordering::Relaxed),
        scale => {
            let counts = counter().saturating_sub(START.load(Ordering::Relaxed));
            (u128::from(counts) * u128::from(scale) >> 32) as u64
        }
    }
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

/// Begins the tick, and has a function called with each, within an interrupt: it may use atomic variables, and neither
/// locks nor memory.
pub fn on_tick(function: fn()) {
    ON_TICK.store(function as *mut (), Ordering::Relaxed);
    interrupts::without(|| arm(now_nanoseconds() + TICK_NANOSECONDS));
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
    if SCALE.load(Ordering::Relaxed) == 0 {
        end_stopwatch();
    }
    ARMED.store(at, Ordering::Relaxed);
    apic::interrupt_in(at.saturating_sub(now_nanoseconds()));
}

fn counter() -> u64 {
    // SAFETY: every processor with 64 bits has this instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}
