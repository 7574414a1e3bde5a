//! Moments that tasks wait for, the earliest first.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use super::super::platform;
use super::super::sync::Mutex;
use super::queue::Loop;

/// A moment since boot, and a number that tells those of the same moment apart.
type Key = (Duration, u64);

pub(super) struct Timers(Mutex<Waiting>);

struct Waiting {
    next: u64,
    wakers: BTreeMap<Key, Waker>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Waiting { next: 0, wakers: BTreeMap::new() }))
    }

    fn add(&self, at: Duration, waker: Waker) -> Key {
        let mut waiting = self.0.lock();
        let key = (at, waiting.next);
        waiting.next += 1;
        waiting.wakers.insert(key, waker);
        key
    }

    /// Wakes those whose moment has come; returns the moment of the next one.
    pub(super) fn wake(&self, now: Duration) -> Option<Duration> {
        let mut waiting = self.0.lock();
        let mut due = Vec::new();
        while let Some(first) = waiting.wakers.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        let next = waiting.wakers.first_key_value().map(|((at, _), _)| *at);
        drop(waiting);
        due.into_iter().for_each(Waker::wake);
        next
    }
}

/// Ends after `duration`.
pub async fn sleep(duration: Duration) {
    sleep_until(platform::now().saturating_add(duration)).await;
}

/// Ends at a moment since boot.
pub async fn sleep_until(at: Duration) {
    Sleep { at, timer: None }.await;
}

struct Sleep {
    at: Duration,
    timer: Option<(&'static Loop, Key)>,
}

impl Sleep {
    fn forget(&mut self) {
        if let Some((tasks, key)) = self.timer.take() {
            tasks.timers.0.lock().wakers.remove(&key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.forget();
        if platform::now() >= self.at {
            return Poll::Ready(());
        }
        let tasks = Loop::current();
        self.timer = Some((tasks, tasks.timers.add(self.at, context.waker().clone())));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}
