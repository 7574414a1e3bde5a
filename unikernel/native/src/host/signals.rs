//! SIGINT and SIGTERM, as the launcher passes them on.

use alloc::vec::Vec;

use super::sync::{Mutex, Notify};

/// Those that came so far.
#[derive(Default)]
pub struct Signals {
    numbers: Mutex<Vec<u8>>,
    changed: Notify,
}

impl Signals {
    /// A signal has come. Those after the second mean nothing more.
    pub fn raise(&self, number: u8) {
        {
            let mut numbers = self.numbers.lock();
            if numbers.len() < 2 {
                numbers.push(number);
            }
        }
        self.changed.notify();
    }

    /// Waits for the first one.
    pub async fn first(&self) -> u8 {
        self.wait(0).await
    }

    /// Waits for another one after it.
    pub async fn second(&self) -> u8 {
        self.wait(1).await
    }

    async fn wait(&self, index: usize) -> u8 {
        loop {
            let changed = self.changed.notified();
            let number = self.numbers.lock().get(index).copied();
            if let Some(number) = number {
                return number;
            }
            changed.await;
        }
    }
}
