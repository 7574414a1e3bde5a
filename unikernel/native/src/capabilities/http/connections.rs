//! All connections of a server.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::host::executor::Task;
use crate::host::sync::{Mutex, Notify};

/// What others know of a connection, and tell it.
#[derive(Debug)]
pub struct Slot {
    pub number: u64,
    /// The address of the other end.
    pub client: Arc<str>,
    /// How many bytes have come.
    pub received: AtomicU64,
    /// Whether a request is under way.
    pub is_answering: AtomicBool,
    /// How many bytes of responses wait until the client takes them.
    pub unsent: AtomicUsize,
    /// How many bytes had come when the server stopped; u64::MAX before.
    horizon: AtomicU64,
    must_close: AtomicBool,
    /// Either of the two above has changed.
    pub changed: Notify,
    /// What serves the connection.
    task: Mutex<Option<Task<()>>>,
}

impl Slot {
    fn new(number: u64, client: Arc<str>) -> Slot {
        Slot {
            number,
            client,
            received: AtomicU64::new(0),
            is_answering: AtomicBool::new(false),
            unsent: AtomicUsize::new(0),
            horizon: AtomicU64::new(u64::MAX),
            must_close: AtomicBool::new(false),
            changed: Notify::new(),
            task: Mutex::new(None),
        }
    }

    /// Has the connection answer what has begun to arrive, and close.
    fn drain(&self) {
        self.horizon.store(self.received.load(Ordering::Relaxed), Ordering::Relaxed);
        self.changed.notify();
    }

    /// Has the connection close now.
    fn close(&self) {
        self.must_close.store(true, Ordering::Relaxed);
        self.changed.notify();
    }

    pub fn is_draining(&self) -> bool {
        self.horizon.load(Ordering::Relaxed) != u64::MAX
    }

    pub fn must_close(&self) -> bool {
        self.must_close.load(Ordering::Relaxed)
    }

    /// Whether nothing that came before the server stopped lies behind the first so many bytes.
    pub fn is_last(&self, bytes: u64) -> bool {
        self.horizon.load(Ordering::Relaxed) <= bytes
    }

    /// Ends the task: what it works on is dropped when the event loop comes to it.
    fn cut(&self) {
        drop(self.task.lock().take());
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<Open>,
    /// One has closed.
    closed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    slots: BTreeMap<u64, Arc<Slot>>,
    next: u64,
    is_draining: bool,
}

impl Connections {
    pub fn count(&self) -> usize {
        self.open.lock().slots.len()
    }

    /// Adds a connection. `begin` spawns what serves it, which calls `remove` when it ends.
    pub fn add(&self, client: Arc<str>, begin: impl FnOnce(Arc<Slot>) -> Task<()>) {
        let (slot, is_draining) = {
            let mut open = self.open.lock();
            let slot = Arc::new(Slot::new(open.next, client));
            open.next += 1;
            open.slots.insert(slot.number, slot.clone());
            (slot, open.is_draining)
        };
        if is_draining {
            slot.drain();
        }
        let task = begin(slot.clone());
        *slot.task.lock() = Some(task);
    }

    /// A connection has ended.
    pub fn remove(&self, slot: &Slot) {
        let task = slot.task.lock().take();
        if let Some(task) = task {
            task.detach(); // it's the one that calls this
        }
        self.open.lock().slots.remove(&slot.number);
        self.closed.notify();
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.open.lock().slots.values().cloned().collect()
    }

    /// Has all connections answer what has begun to arrive, and close.
    pub fn drain(&self) {
        self.open.lock().is_draining = true;
        self.all().iter().for_each(|slot| slot.drain());
    }

    /// Ends all connections: at once where a request is under way, as there is no time left for it.
    pub fn close(&self) {
        for slot in self.all() {
            if slot.is_answering.load(Ordering::Relaxed) { slot.cut() } else { slot.close() }
        }
    }

    /// Ends all connections at once.
    pub fn cut(&self) {
        self.all().iter().for_each(|slot| slot.cut());
    }

    /// Waits until no connection is open.
    pub async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.count() == 0 {
                return;
            }
            closed.await;
        }
    }

    /// Cuts off the clients that hold the most of what waits to be sent, where that is more than `most` bytes in all;
    /// `warn` gets a line about each.
    pub fn bound_unsent(&self, most: usize, warn: impl Fn(&str)) {
        let unsent = |slot: &Arc<Slot>| slot.unsent.load(Ordering::Relaxed);
        let mut stalled = self.all();
        stalled.retain(|slot| unsent(slot) > 0);
        let mut total: usize = stalled.iter().map(unsent).sum();
        while total > most
            && let Some(at) = (0..stalled.len()).max_by_key(|&at| unsent(&stalled[at]))
        {
            let slot = stalled.swap_remove(at);
            total -= unsent(&slot);
            warn(&format!(
                "{} is cut off: responses that clients don't read take more than {} MiB, and it holds the most of them",
                slot.client,
                most >> 20,
            ));
            slot.cut();
        }
    }
}
