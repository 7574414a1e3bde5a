//! What tasks share: a lock, and ways to wake those that wait.
//!
//! The machine has one processor and tasks give it up only where they await, so a lock is never held by somebody else.
//! Interrupt handlers take no locks and wake no tasks; they raise a `Signal`.

use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Poll, Waker};

/// A lock that is held for a few instructions, never across an `await`.
///
/// To lock what is locked is a mistake, and ends the machine with a message; as a program of threads it waits.
#[derive(Debug, Default)]
pub struct Mutex<T>(spin::Mutex<T>);

/// The right to what a `Mutex` keeps, until it is dropped.
pub type Guard<'a, T> = spin::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    #[cfg(not(feature = "std"))]
    #[track_caller]
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.try_lock().expect("a lock is taken twice")
    }

    #[cfg(feature = "std")]
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock()
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// Wakes all tasks that wait for a change; they look for themselves whether it is the one they want.
///
/// A task that begins to wait after a `notify` isn't woken by it: look, make the future with `notified()`, look again,
/// then await it. What happens in one task without an `await` in between needs no second look on the machine.
#[derive(Debug, Default)]
pub struct Notify(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Of notifications so far.
    count: u64,
    wakers: Vec<Waker>,
}

impl Notify {
    pub const fn new() -> Self {
        Self(Mutex::new(Waiting { count: 0, wakers: Vec::new() }))
    }

    pub fn notify(&self) {
        let wakers = {
            let mut waiting = self.0.lock();
            waiting.count += 1;
            core::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends at the first `notify` after this call (not after the first poll).
    pub fn notified(&self) -> impl Future<Output = ()> + Send + use<'_> {
        let seen = self.0.lock().count;
        poll_fn(move |context| {
            let mut waiting = self.0.lock();
            if waiting.count != seen {
                return Poll::Ready(());
            }
            if !waiting.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// What an interrupt handler raises, and one task waits for. It is a `static`. (Threads wake tasks by their wakers.)
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicBool,
    listed: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// Whether any signal was raised since the executor last looked.
static ANY_RAISED: AtomicBool = AtomicBool::new(false);

static SIGNALS: Mutex<Vec<&'static Signal>> = Mutex::new(Vec::new());

impl Signal {
    pub const fn new() -> Self {
        Self { raised: AtomicBool::new(false), listed: AtomicBool::new(false), waker: Mutex::new(None) }
    }

    /// May be called from an interrupt handler.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        ANY_RAISED.store(true, Ordering::Release);
    }

    /// Ends when it was raised since the last wait, and lowers it.
    pub async fn wait(&'static self) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            SIGNALS.lock().push(self);
        }
        poll_fn(|context| {
            // The waker first: a signal that is raised in between is then seen by the executor.
            *self.waker.lock() = Some(context.waker().clone());
            if self.raised.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether a signal is raised that the executor has not looked at: it must not go to sleep then.
///
/// May be called with interrupts disabled.
pub fn any_raised() -> bool {
    ANY_RAISED.load(Ordering::Acquire)
}

/// Wakes the tasks that wait for signals which are raised.
pub(super) fn wake_signalled() {
    if !ANY_RAISED.swap(false, Ordering::AcqRel) {
        return;
    }
    let wakers: Vec<Waker> = SIGNALS
        .lock()
        .iter()
        .filter(|signal| signal.raised.load(Ordering::Acquire))
        .filter_map(|signal| signal.waker.lock().take())
        .collect();
    wakers.into_iter().for_each(Waker::wake);
}
