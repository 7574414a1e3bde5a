//! Guests' linear memories. Each has 4 GiB of addresses, the most that one can grow to, and frames for what it has grown
//! to: so nothing is copied when it grows.
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use wasmtime::{Error, LinearMemory, MemoryCreator, MemoryType, Result};

use super::frames::PAGE;
use super::ram::{self, Ram};
use super::slots::{Idle, Slots};

const BASE: u64 = 1 << 40;
const SLOT_BYTES: u64 = 4 << 30;
/// A multiple of 64.
const COUNT: usize = 4096;
/// How many memories are kept for the next instances. Only those of their pages that were written to are zeroed.
const KEPT_MEMORIES: usize = 32;

/// What is known of all memories.
pub(super) struct Guests {
    slots: Slots<{ COUNT / 64 }, KEPT_MEMORIES>,
}

impl Guests {
    pub const fn new() -> Self {
        Guests { slots: Slots::new() }
    }
}

/// Makes wasmtime's memories.
pub struct Creator;

struct Guest {
    slot: usize,
    bytes: usize,
    /// How many pages are mapped: those of `bytes`, or more. All beyond `bytes` are zeros.
    pages: usize,
    /// How many pages an instance begins with.
    minimum: usize,
}

fn start(slot: usize) -> u64 {
    BASE + slot as u64 * SLOT_BYTES
}

fn page(slot: usize, number: usize) -> u64 {
    start(slot) + number as u64 * PAGE
}

fn pages(bytes: usize) -> usize {
    bytes.div_ceil(PAGE as usize)
}

impl Ram {
    fn new_guest(&mut self, bytes: usize) -> Option<Guest> {
        let mut guest = match self.guests.slots.take_idle() {
            Some(Idle { slot, pages }) => {
                (0..pages).for_each(|number| self.zero_if_dirty(page(slot, number)));
                Guest { slot, bytes, pages, minimum: self::pages(bytes) }
            }
            None => Guest { slot: self.guests.slots.take()?, bytes, pages: 0, minimum: self::pages(bytes) },
        };
        let mapped = self.map_guest(&mut guest, bytes);
        if !mapped {
            self.give_up_guest(guest.slot, guest.pages);
            core::mem::forget(guest); // it isn't one
            return None;
        }
        Some(guest)
    }

    /// Maps what isn't yet of so many bytes. False where memory is short.
    fn map_guest(&mut self, guest: &mut Guest, bytes: usize) -> bool {
        let more = pages(bytes).saturating_sub(guest.pages);
        // With page tables, of which each maps 512 pages, and those above them.
        let enough = more == 0 || self.has(more + more / 512 + 3);
        while enough && guest.pages < pages(bytes) {
            if self.map_zeros(page(guest.slot, guest.pages)).is_err() {
                return false;
            }
            guest.pages += 1;
        }
        enough
    }

    fn drop_guest(&mut self, guest: &Guest) {
        self.empty_guest(guest.slot, guest.minimum, guest.pages);
        let pages = guest.pages.min(guest.minimum);
        if !self.guests.slots.keep(Idle { slot: guest.slot, pages }) {
            self.give_up_guest(guest.slot, pages);
        }
    }

    pub(super) fn give_up_kept_guests(&mut self) {
        while let Some(Idle { slot, pages }) = self.guests.slots.take_idle() {
            self.give_up_guest(slot, pages);
        }
    }

    /// Gives a memory back with all that it took.
    fn give_up_guest(&mut self, slot: usize, pages: usize) {
        self.empty_guest(slot, 0, pages);
        self.tables.prune(&mut self.frames, start(slot), SLOT_BYTES);
        ram::forget_all();
        self.guests.slots.give(slot);
    }

    fn empty_guest(&mut self, slot: usize, from: usize, to: usize) {
        (from..to).for_each(|number| self.unmap(page(slot, number)));
    }
}

// SAFETY: a memory is whole pages of zeros that nobody else uses; `configure` has wasmtime check all accesses, so it asks
// for no guard pages.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        if guard > 0 || reserved.unwrap_or(0) as u64 > SLOT_BYTES || minimum as u64 > SLOT_BYTES {
            return Err(format!("a memory of {minimum} bytes with {guard} to guard it can't be had"));
        }
        match ram::with(|ram| ram.new_guest(minimum)) {
            Some(guest) => Ok(Box::new(guest)),
            None => Err(format!("out of memory: an instance needs {} KiB: {}", minimum >> 10, ram::explain())),
        }
    }
}

// SAFETY: as for the creator.
unsafe impl LinearMemory for Guest {
    fn byte_size(&self) -> usize {
        self.bytes
    }

    fn byte_capacity(&self) -> usize {
        SLOT_BYTES as usize
    }

    fn grow_to(&mut self, bytes: usize) -> Result<()> {
        if bytes as u64 > SLOT_BYTES || !ram::with(|ram| ram.map_guest(self, bytes)) {
            return Err(Error::msg(format!(
                "out of memory: an instance grows to {} KiB: {}",
                bytes >> 10,
                ram::explain()
            )));
        }
        self.bytes = bytes;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        start(self.slot) as *mut u8
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        ram::with(|ram| ram.drop_guest(self));
    }
}
