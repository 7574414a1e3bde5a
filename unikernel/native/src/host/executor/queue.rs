//! The tasks that are ready to run.

use alloc::collections::VecDeque;
use core::task::Waker;

use async_task::Runnable;

use super::super::sync::Mutex;
use super::timers::Timers;

/// One event loop: its ready tasks, and its timers.
pub(super) struct Loop {
    runnables: Mutex<VecDeque<Runnable>>,
    /// Those that gave way to others.
    later: Mutex<VecDeque<Waker>>,
    pub(super) timers: Timers,
    #[cfg(feature = "std")]
    thread: std::thread::Thread,
}

impl Loop {
    pub(super) fn schedule(&self, runnable: Runnable) {
        self.runnables.lock().push_back(runnable);
        self.interrupt_idle();
    }

    pub(super) fn ready(&self) -> bool {
        !self.runnables.lock().is_empty() || !self.later.lock().is_empty()
    }

    pub(super) fn wake_later(&self, waker: Waker) {
        self.later.lock().push_back(waker);
    }

    /// Runs those tasks once that are ready now, and then one of those that gave way.
    pub(super) fn run(&self) {
        let count = self.runnables.lock().len();
        for _ in 0..count {
            let Some(runnable) = self.runnables.lock().pop_front() else { break };
            runnable.run();
        }
        let later = self.later.lock().pop_front();
        if let Some(waker) = later {
            waker.wake();
        }
    }
}

#[cfg(not(feature = "std"))]
impl Loop {
    /// The only one.
    pub(super) fn current() -> &'static Loop {
        static LOOP: Loop = Loop { runnables: Mutex::new(VecDeque::new()), later: Mutex::new(VecDeque::new()), timers: Timers::new() };
        &LOOP
    }

    /// Nothing to do: whoever wakes a task is a task itself, so the loop isn't idle.
    pub(super) fn interrupt_idle(&self) {}
}

#[cfg(feature = "std")]
impl Loop {
    /// This thread's. It is made once a thread and never freed: wakers may outlive the thread.
    pub(super) fn current() -> &'static Loop {
        std::thread_local! {
            static LOOP: &'static Loop = std::boxed::Box::leak(std::boxed::Box::new(Loop {
                runnables: Mutex::new(VecDeque::new()),
                later: Mutex::new(VecDeque::new()),
                timers: Timers::new(),
                thread: std::thread::current(),
            }));
        }
        LOOP.with(|tasks| *tasks)
    }

    pub(super) fn interrupt_idle(&self) {
        self.thread.unpark();
    }
}
