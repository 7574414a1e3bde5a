//! Standard input: read only when somebody wants something.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::pin::Pin;

use super::sync::{Mutex, Notify};

/// The most bytes that are read at once.
const AHEAD: usize = 64 << 10;

type Reading<'a> = Pin<Box<dyn Future<Output = Option<usize>> + Send + 'a>>;

/// Where the bytes come from.
pub trait Source: Send + Sync + 'static {
    /// Reads some bytes; 0 at the end, None where it can't be read any more.
    fn read<'a>(&'a self, into: &'a mut [u8]) -> Reading<'a>;
}

pub struct Input {
    source: Box<dyn Source>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ahead: Vec<u8>,
    ended: bool,
    /// Whether a task is reading.
    busy: bool,
}

impl Input {
    pub fn new(source: impl Source) -> Self {
        Input { source: Box::new(source), state: Mutex::default(), changed: Notify::new() }
    }

    /// Waits until there is something to read, or the end.
    pub async fn ready(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock();
                if !state.ahead.is_empty() || state.ended {
                    return;
                }
                if !state.busy {
                    state.busy = true;
                    drop(state);
                    break;
                }
            }
            changed.await;
        }
        let busy = Busy(self);
        let mut buffer = vec![0; AHEAD];
        let count = self.source.read(&mut buffer).await.unwrap_or(0).min(buffer.len());
        buffer.truncate(count);
        {
            let mut state = self.state.lock();
            state.ended = count == 0;
            state.ahead.append(&mut buffer);
        }
        drop(busy);
    }

    /// Some bytes, at most so many; none at the end.
    pub async fn read(&self, most: usize) -> Vec<u8> {
        self.ready().await;
        let mut state = self.state.lock();
        let count = most.min(state.ahead.len());
        let rest = state.ahead.split_off(count);
        core::mem::replace(&mut state.ahead, rest)
    }
}

/// Lets others read, also where a task was cancelled that did.
struct Busy<'a>(&'a Input);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state.lock().busy = false;
        self.0.changed.notify();
    }
}
