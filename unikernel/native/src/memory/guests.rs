//! Guests' linear memories. Each has 4 GiB of addresses, the most that one can grow to, so nothing is copied when it
//! grows, and gets a frame for each page when it's first touched: guests declare far more than they use.
//!
//! An instance begins only when there is what the least of them use, and a memory grows only when there is what it grows
//! by. Where there is no frame for a page that is touched after all, it is too late for an error: the guest is [ended
//! soon](super::is_short). Until then, all pages that its memory lacks are one page, so that the code which has touched
//! it, the guest's or the host's, can go on.
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use wasmtime::{Error, LinearMemory, MemoryCreator, MemoryType, Result};

use super::frames::PAGE;
use super::ram::{self, PAGE_AND_TABLES, Ram};
use super::slots::{Idle, Slots};
use super::stacks;
use super::tables::{Entries, MISSING, NoFrame, Tables};

const BASE: u64 = 1 << 40;
const SLOT_BYTES: u64 = 4 << 30;
/// A multiple of 64.
const COUNT: usize = 1024;
/// How many memories are kept for the next instances. Only those of their pages that were written to are zeroed.
const KEPT_MEMORIES: usize = 32;
/// How many pages an instance is promised, where it has so many.
const PROMISED: usize = 32;

/// What is known of all memories.
pub(super) struct Guests {
    slots: Slots<{ COUNT / 64 }, KEPT_MEMORIES>,
    /// Of each memory: how many pages it has. 0 where there is none.
    limits: [u32; COUNT],
    /// Of each memory, and of each that is kept: which parts have pages that were touched.
    parts: [Parts; COUNT],
    /// Of each memory: how many pages it was promised and has not touched.
    promises: [u32; COUNT],
    /// The sum of all promises.
    promised: usize,
    /// The frame that stands for all pages that a memory lacks, with the entries that lead to it. There is one from the
    /// first time on.
    stopgap: Option<(u64, Entries)>,
}

/// 64 parts of a memory, of 2^`shift` pages each; the last one goes on to the end. With them, the end of an instance
/// costs by what it has touched, and not by what it had.
#[derive(Clone, Copy)]
struct Parts {
    /// A bit that is set stands for a part that has touched pages.
    touched: u64,
    shift: u8,
    /// Whether the stopgap is in this memory.
    stopgap: bool,
}

impl Parts {
    /// For a memory of so many pages.
    fn of(pages: usize) -> Self {
        Parts { touched: 0, shift: pages.div_ceil(64).next_power_of_two().ilog2() as u8, stopgap: false }
    }

    fn touch(&mut self, page: u64) {
        self.touched |= 1 << (page >> self.shift).min(63);
    }

    /// The pages of each part that has touched ones: the first, and the one behind the last.
    fn ranges(self) -> impl Iterator<Item = (u64, u64)> {
        let part = move |number: u64| if number < 64 { number << self.shift } else { SLOT_BYTES / PAGE };
        (0..64)
            .filter(move |number| self.touched >> number & 1 == 1)
            .map(move |number| (part(number), part(number + 1)))
    }
}

impl Guests {
    pub const fn new() -> Self {
        Guests {
            slots: Slots::new(),
            limits: [0; COUNT],
            parts: [Parts { touched: 0, shift: 0, stopgap: false }; COUNT],
            promises: [0; COUNT],
            promised: 0,
            stopgap: None,
        }
    }

    /// How many frames are promised.
    pub fn promised(&self) -> usize {
        self.promised
    }

    fn promise(&mut self, slot: usize, pages: usize) {
        self.promises[slot] += pages as u32;
        self.promised += pages;
    }
}

/// Makes wasmtime's memories.
pub struct Creator;

struct Guest {
    slot: usize,
    bytes: usize,
}

/// Whether an address is within the range of memories.
pub(super) fn contains(address: u64) -> bool {
    (BASE..BASE + COUNT as u64 * SLOT_BYTES).contains(&address)
}

fn start(slot: usize) -> u64 {
    BASE + slot as u64 * SLOT_BYTES
}

fn pages(bytes: usize) -> usize {
    bytes.div_ceil(PAGE as usize)
}

/// Frames for the page tables of so many pages: each maps 512 pages, and there are some above them.
fn with_tables(pages: usize) -> usize {
    pages + pages / 512 + 3
}

impl Ram {
    /// Whether one more instance can begin.
    pub(super) fn has_room(&mut self) -> bool {
        self.has(with_tables(PROMISED) + stacks::NEW)
    }

    fn new_guest(&mut self, bytes: usize) -> Option<Guest> {
        let mut idle = self.guests.slots.take_idle();
        if !self.has(with_tables(PROMISED)) {
            // The one that was kept may have it all, and what else an instance needs lacks.
            self.give_up_guest(idle.take()?.slot);
            if !self.has(with_tables(PROMISED)) {
                return None;
            }
        }
        let promise = PROMISED.min(pages(bytes)).saturating_sub(idle.map_or(0, |idle| idle.pages));
        let slot = match idle {
            Some(Idle { slot, .. }) => {
                self.each_page(slot, Ram::zero_if_dirty);
                slot
            }
            None => {
                let slot = self.guests.slots.take()?;
                self.guests.parts[slot] = Parts::of(pages(bytes));
                slot
            }
        };
        self.guests.limits[slot] = pages(bytes) as u32;
        self.guests.promise(slot, promise);
        Some(Guest { slot, bytes })
    }

    /// Lets a memory grow by so many pages. False where there is no memory for them.
    fn grow_guest(&mut self, slot: usize, more: usize) -> bool {
        let enough = more == 0 || self.has(with_tables(more));
        if enough {
            self.guests.limits[slot] += more as u32;
            self.guests.promise(slot, more);
        }
        enough
    }

    /// Maps the page at an address of a memory, or the stopgap. Returns false for one that no memory has.
    pub(super) fn touch_guest(&mut self, address: u64) -> core::result::Result<bool, NoFrame> {
        let slot = ((address - BASE) / SLOT_BYTES) as usize;
        let page = (address - start(slot)) / PAGE;
        if page >= self.guests.limits[slot].into() {
            return Ok(false);
        }
        let promised = self.guests.promises[slot] > 0;
        let others = if promised { 0 } else { self.guests.promised };
        if !self.is_free(PAGE_AND_TABLES + self.reserve + others) {
            return self.map_stopgap(slot).map(|()| true);
        }
        self.map_zeros(address / PAGE * PAGE)?;
        self.guests.parts[slot].touch(page);
        if promised {
            self.guests.promises[slot] -= 1;
            self.guests.promised -= 1;
        }
        Ok(true)
    }

    /// Has all pages that a memory lacks be one page, of zeros, and its guest ended soon.
    fn map_stopgap(&mut self, slot: usize) -> core::result::Result<(), NoFrame> {
        let (frame, entries) = match self.guests.stopgap {
            Some(stopgap) => stopgap,
            None => {
                let frame = self.frames.take().ok_or(NoFrame)?;
                *self.guests.stopgap.insert((frame, Tables::to_one_frame(&mut self.frames, frame)?))
            }
        };
        ram::zero(frame);
        self.tables.replace(&mut self.frames, start(slot), SLOT_BYTES, &MISSING, &entries)?;
        self.guests.parts[slot].stopgap = true;
        ram::run_short();
        Ok(())
    }

    fn unmap_stopgap(&mut self, slot: usize) {
        if let (Some((_, entries)), true) = (self.guests.stopgap, self.guests.parts[slot].stopgap) {
            // It needs no frame: the tables that lead to the stopgap are there.
            let _ = self.tables.replace(&mut self.frames, start(slot), SLOT_BYTES, &entries, &MISSING);
            ram::forget_all();
            self.guests.parts[slot].stopgap = false;
        }
    }

    fn drop_guest(&mut self, slot: usize) {
        self.unmap_stopgap(slot);
        let mut touched = 0;
        self.each_page(slot, |_, _| touched += 1);
        self.guests.promised -= self.guests.promises[slot] as usize;
        self.guests.promises[slot] = 0;
        self.guests.limits[slot] = 0;
        // A guest that uses little isn't to hold what one has left that used much.
        if touched > self.reserve || !self.guests.slots.keep(Idle { slot, pages: touched }) {
            self.give_up_guest(slot);
        }
    }

    pub(super) fn give_up_kept_guests(&mut self) {
        while let Some(Idle { slot, .. }) = self.guests.slots.take_idle() {
            self.give_up_guest(slot);
        }
    }

    /// Gives a memory back with all that it took.
    fn give_up_guest(&mut self, slot: usize) {
        self.each_page(slot, Ram::unmap);
        self.tables.prune(&mut self.frames, start(slot), SLOT_BYTES);
        ram::forget_all();
        self.guests.slots.give(slot);
    }

    /// Does something with each page of a memory that is mapped.
    fn each_page(&mut self, slot: usize, mut action: impl FnMut(&mut Ram, u64)) {
        for (first, end) in self.guests.parts[slot].ranges() {
            let (mut address, end) = (start(slot) + first * PAGE, start(slot) + end * PAGE);
            while let Some(page) = self.tables.next_mapped(address, end) {
                action(self, page);
                address = page + PAGE;
            }
        }
    }
}

// SAFETY: a memory is whole pages of zeros that nobody else uses; `configure` has wasmtime check all accesses, so it asks
// for no guard pages. Where the stopgap is in it, what is written to one page is read in others, too: the host checks what
// it reads of a guest's memory, whatever that is, and relies on none of what it has written there.
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
        let more = pages(bytes) - pages(self.bytes);
        if bytes as u64 > SLOT_BYTES || !ram::with(|ram| ram.grow_guest(self.slot, more)) {
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
        ram::with(|ram| ram.drop_guest(self.slot));
    }
}
