//! What guests print and what is logged, on its way to whoever reads it, who may be slow.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::platform;
use super::sync::{Mutex, Notify};

/// Bytes that may wait before a guest that prints has to wait.
const LIMIT: usize = 64 << 10;

/// Bytes that may wait before lines of the log are left out.
const LOG_LIMIT: usize = 1 << 20;

/// Where the bytes go in the end.
pub trait Sink: Send + 'static {
    /// Writes all, however long that takes. False where nobody reads it any more.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = bool> + Send;
}

/// The machine's console.
pub struct Console;

impl Sink for Console {
    async fn write(&mut self, bytes: &[u8]) -> bool {
        // A serial port takes a byte at a time, and others have to wait meanwhile.
        for piece in bytes.chunks(256) {
            platform::console(piece);
            super::executor::yield_now().await;
        }
        true
    }
}

/// Standard output or error: bytes that wait to be written.
#[derive(Default)]
pub struct Output {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether some are being written that are not in `waiting` any more.
    writing: bool,
    /// Of guests, ever.
    printed: u64,
    /// Lines of the log that found no room.
    left_out: u64,
    /// Whether nobody reads it any more.
    closed: bool,
}

/// Nobody reads what is printed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Output {
    /// Hands what is printed to the sink; never returns.
    pub async fn pump(self: Arc<Self>, mut sink: impl Sink) {
        loop {
            let changed = self.changed.notified();
            let bytes = self.next();
            if bytes.is_empty() {
                changed.await;
                continue;
            }
            self.changed.notify(); // there is room again
            let open = sink.write(&bytes).await;
            let mut state = self.state.lock();
            state.writing = false;
            state.closed |= !open;
            if state.closed {
                state.waiting.clear();
            }
            drop(state);
            self.changed.notify();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() && state.left_out > 0 {
            let left_out = core::mem::take(&mut state.left_out);
            let told = alloc::format!(
                "slight-py: {left_out} lines of the log are left out: standard error isn't read in time\n"
            );
            state.waiting.extend_from_slice(told.as_bytes());
        }
        state.writing = !state.waiting.is_empty();
        core::mem::take(&mut state.waiting)
    }

    /// Prints some of the bytes, waiting until there is room; returns how many.
    pub async fn print(&self, bytes: &[u8]) -> Result<usize, Closed> {
        loop {
            let changed = self.changed.notified();
            if let Some(count) = self.try_print(bytes)? {
                return Ok(count);
            }
            changed.await;
        }
    }

    fn try_print(&self, bytes: &[u8]) -> Result<Option<usize>, Closed> {
        let count = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(Closed);
            }
            if state.waiting.len() >= LIMIT {
                return Ok(None);
            }
            let count = bytes.len().min(LIMIT);
            state.waiting.extend_from_slice(&bytes[..count]);
            state.printed += count as u64;
            count
        };
        self.changed.notify();
        Ok(Some(count))
    }

    /// Waits until a guest could print without waiting.
    pub async fn room(&self) {
        self.until(|state| state.closed || state.waiting.len() < LIMIT).await;
    }

    /// Waits until all is out that was printed so far.
    pub async fn out(&self) {
        self.until(|state| state.closed || (state.waiting.is_empty() && !state.writing && state.left_out == 0)).await;
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Adds a line of the log, with its end, unless too much waits already.
    pub fn log(&self, line: &str) {
        let mut state = self.state.lock();
        if state.waiting.len() > LOG_LIMIT {
            state.left_out += 1;
        } else if !state.closed {
            state.waiting.extend_from_slice(line.as_bytes());
        }
        drop(state);
        self.changed.notify();
    }

    /// How many bytes guests have printed.
    pub fn printed(&self) -> u64 {
        self.state.lock().printed
    }
}

#[cfg(all(test, feature = "std"))]
mod tests;
