//! Clocks, random numbers, idling, the console and shortages of memory: of the machine, or of an ordinary program for tests.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use super::random::Random;
use super::sync::Mutex;

#[cfg(not(feature = "std"))]
use machine as below;
#[cfg(feature = "std")]
use program as below;

/// Time since boot; it never goes back.
pub fn now() -> Duration {
    below::now()
}

/// What `now` must be added to for the time since 1970 (UTC).
static BOOTED: Mutex<Option<Duration>> = Mutex::new(None);

/// The time since 1970 (UTC): of the launcher, or else of the machine's own clock.
pub fn wall() -> Duration {
    let mut booted = BOOTED.lock();
    *booted.get_or_insert_with(|| below::wall().saturating_sub(now())) + now()
}

/// Sets the time since 1970 (UTC).
pub fn set_wall(since_epoch: Duration) {
    *BOOTED.lock() = Some(since_epoch.saturating_sub(now()));
}

static RANDOM: Mutex<Random> = Mutex::new(Random::new());

/// Whether enough was mixed into it that nobody can guess.
static SEEDED: AtomicBool = AtomicBool::new(false);

/// Bytes of random data that are enough.
const ENOUGH: usize = 16;

/// Fills in random bytes that nobody can guess, where `is_random` says so.
pub fn random(into: &mut [u8]) {
    renew();
    RANDOM.lock().fill(into);
}

/// Mixes in what the processor has, if it has something.
fn renew() {
    let mut seed = [0; 32];
    if below::fresh_seed(&mut seed) {
        add_entropy(&seed);
    }
}

/// Mixes random data in, of a device or the launcher.
pub fn add_entropy(seed: &[u8]) {
    RANDOM.lock().mix(seed);
    if seed.len() >= ENOUGH {
        SEEDED.store(true, Ordering::Relaxed);
    }
}

/// Whether there was a source of random numbers: the processor, a device, or the launcher.
pub fn is_random() -> bool {
    if !SEEDED.load(Ordering::Relaxed) {
        renew();
    }
    SEEDED.load(Ordering::Relaxed)
}

/// Waits for an interrupt, or until that moment since boot at most. Returns at once where a `Signal` is raised.
pub fn idle(until: Option<Duration>) {
    below::idle(until);
}

/// Writes to the machine's console: what is said before there are channels, or without any.
pub fn console(text: &[u8]) {
    below::console(text);
}

/// Whether there is memory for one more guest.
pub fn has_room() -> bool {
    below::has_room()
}

/// Whether memory has run short since `forget_shortage`.
pub fn is_short() -> bool {
    below::is_short()
}

/// Has what has run short until now be nobody's fault: to be called before a guest gets to work.
pub fn forget_shortage() {
    below::forget_shortage();
}

#[cfg(all(test, feature = "std"))]
pub use program::{run_short, set_room};

#[cfg(not(feature = "std"))]
mod machine {
    use core::time::Duration;

    use crate::cpu;
    pub(super) use crate::memory::{forget_shortage, has_room, is_short};

    pub(super) fn now() -> Duration {
        cpu::clock::now()
    }

    pub(super) fn wall() -> Duration {
        Duration::ZERO
    }

    /// False where the processor has no random numbers.
    pub(super) fn fresh_seed(into: &mut [u8]) -> bool {
        cpu::random::fill(into)
    }

    pub(super) fn idle(until: Option<Duration>) {
        cpu::clock::idle(until, crate::host::sync::any_raised);
    }

    pub(super) fn console(text: &[u8]) {
        cpu::console::write(text);
    }
}

#[cfg(feature = "std")]
mod program {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::sync::LazyLock;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    pub(super) fn now() -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGAN.elapsed()
    }

    pub(super) fn wall() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    pub(super) fn fresh_seed(into: &mut [u8]) -> bool {
        let mut file = std::fs::File::open("/dev/urandom").expect("/dev/urandom opens");
        file.read_exact(into).expect("/dev/urandom reads");
        true
    }

    pub(super) fn idle(until: Option<Duration>) {
        match until {
            Some(until) => std::thread::park_timeout(until.saturating_sub(now())),
            None => std::thread::park(),
        }
    }

    pub(super) fn console(text: &[u8]) {
        let _ = std::io::stderr().write_all(text); // nobody reads it: nothing to be done
    }

    std::thread_local! {
        static SHORT: Cell<bool> = const { Cell::new(false) };
        static ROOM: Cell<bool> = const { Cell::new(true) };
    }

    pub(super) fn has_room() -> bool {
        ROOM.get()
    }

    pub(super) fn is_short() -> bool {
        SHORT.get()
    }

    pub(super) fn forget_shortage() {
        SHORT.set(false);
    }

    /// What the machine's memory does where it lacks.
    #[cfg(test)]
    pub fn run_short() {
        SHORT.set(true);
    }

    /// Has there be memory for one more guest, or not.
    #[cfg(test)]
    pub fn set_room(is_there: bool) {
        ROOM.set(is_there);
    }
}
