//! The event loop: runs tasks that are ready, wakes those whose moment has come, and idles in between.
//!
//! The machine has one loop. As an ordinary program every thread has its own, so that tests don't run each other's
//! tasks; a task runs where it was spawned, and may be woken from anywhere.

mod queue;
mod timers;

use core::future::{poll_fn, Future};
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;

use alloc::sync::Arc;
use alloc::task::Wake;
use futures_util::future::{select, Either};

use super::{platform, sync};
use queue::Loop;
pub use timers::{sleep, sleep_until};

/// A spawned task: a future of what it returns. Dropping it cancels the task; `.detach()` lets it run on.
pub type Task<T> = async_task::Task<T>;

/// The time limit is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Begins a task. It runs whenever `block_on` does.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    let tasks = Loop::current();
    let (runnable, task) = async_task::spawn(future, move |runnable| tasks.schedule(runnable));
    runnable.schedule();
    task
}

/// Runs the future and all tasks until the future is done. Tasks that are left wait for the next call.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let tasks = Loop::current();
    let mut future = pin!(future);
    let main = Arc::new(Main { woken: AtomicBool::new(true), tasks });
    let waker = main.clone().into();
    let mut context = Context::from_waker(&waker);
    loop {
        if main.woken.swap(false, Ordering::AcqRel)
            && let Poll::Ready(result) = future.as_mut().poll(&mut context)
        {
            return result;
        }
        tasks.run();
        sync::wake_signalled();
        let next = tasks.timers.wake(platform::now());
        if !tasks.ready() && !main.woken.load(Ordering::Acquire) {
            platform::idle(next);
        }
    }
}

/// What wakes the future of `block_on`.
struct Main {
    woken: AtomicBool,
    tasks: &'static Loop,
}

impl Wake for Main {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.tasks.interrupt_idle();
    }
}

/// Gives the others a turn.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Gives all tasks that are ready a turn, and then one of those that wait here at a time: for guests that compute, of
/// which there may be many, while whatever else there is to do waits for one of them at most.
pub async fn give_way() {
    let mut waited = false;
    poll_fn(|context| {
        if core::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        Loop::current().wake_later(context.waker().clone());
        Poll::Pending
    })
    .await;
}

/// What the future returns, if it does so within `limit`. It is dropped otherwise.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    match select(pin!(future), pin!(sleep(limit))).await {
        Either::Left((result, _)) => Ok(result),
        Either::Right(_) => Err(Elapsed),
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
