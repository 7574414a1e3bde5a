//! Stacks of tasks that guests' code runs on. Below each lies memory that isn't there, so that an overflow ends the
//! machine instead of going on in what others own. A stack gets its pages when they are first touched.
use alloc::boxed::Box;
use core::ops::Range;

use wasmtime::{Error, StackCreator, StackMemory};

use super::frames::PAGE;
use super::ram::{self, PAGE_AND_TABLES, Ram};
use super::slots::{Idle, Slots};
use super::tables::NoFrame;

const BASE: u64 = 1 << 39;
/// Bytes from the end of one stack to the next one's, with a guard page or more.
const SLOT_BYTES: u64 = 1 << 20;
const SLOT_PAGES: usize = (SLOT_BYTES / PAGE) as usize;
/// A multiple of 64.
const COUNT: usize = 2048;

/// How many pages a stack has from the start, and keeps for the next one. Most guests need no more.
const KEPT_PAGES: usize = 6;
/// How many frames a new stack takes: with two page tables, where its slot is used for the first time.
pub(super) const NEW: usize = KEPT_PAGES + 2;
/// How many stacks are kept.
const KEPT_STACKS: usize = 32;

/// What is known of all stacks.
pub(super) struct Stacks {
    slots: Slots<{ COUNT / 64 }, KEPT_STACKS>,
    /// Of each stack: how many pages it may have. 0 where there is none.
    limits: [u8; COUNT],
    /// Of each stack: how many pages down from its top have been touched.
    touched: [u8; COUNT],
}

impl Stacks {
    pub const fn new() -> Self {
        Stacks { slots: Slots::new(), limits: [0; COUNT], touched: [0; COUNT] }
    }
}

/// Makes wasmtime's stacks.
pub struct Creator;

struct Stack {
    slot: usize,
    pages: usize,
}

/// Whether an address is within the range of stacks.
pub(super) fn contains(address: u64) -> bool {
    (BASE..BASE + COUNT as u64 * SLOT_BYTES).contains(&address)
}

/// The address above a stack.
fn top(slot: usize) -> u64 {
    BASE + (slot as u64 + 1) * SLOT_BYTES
}

/// The address of a page of a stack, counted down from its top.
fn page(slot: usize, number: usize) -> u64 {
    top(slot) - (number as u64 + 1) * PAGE
}

impl Ram {
    /// Makes a stack of so many pages. None where there is no memory.
    fn new_stack(&mut self, pages: usize, zeroed: bool) -> Option<Stack> {
        let slot = match self.stacks.slots.take_idle() {
            Some(Idle { slot, pages }) => {
                (0..pages).filter(|_| zeroed).for_each(|number| self.zero_if_dirty(page(slot, number)));
                slot
            }
            None => {
                if !self.has(NEW) {
                    return None;
                }
                let slot = self.stacks.slots.take()?;
                if (0..KEPT_PAGES).any(|number| self.map_zeros(page(slot, number)).is_err()) {
                    self.empty_stack(slot, 0, KEPT_PAGES);
                    self.stacks.slots.give(slot);
                    return None;
                }
                slot
            }
        };
        self.stacks.limits[slot] = pages as u8;
        self.stacks.touched[slot] = KEPT_PAGES as u8;
        Some(Stack { slot, pages })
    }

    /// Maps the page at an address of a stack in use, from the reserve at last. Returns false for a page below it.
    pub(super) fn touch_stack(&mut self, address: u64) -> Result<bool, NoFrame> {
        let slot = ((address - BASE) / SLOT_BYTES) as usize;
        let number = ((top(slot) - 1 - address) / PAGE) as usize;
        if number >= self.stacks.limits[slot].into() {
            return Ok(false);
        }
        let address = page(slot, number);
        self.note_taking(PAGE_AND_TABLES);
        self.map_zeros(address)?;
        self.stacks.touched[slot] = self.stacks.touched[slot].max(number as u8 + 1);
        Ok(true)
    }

    fn drop_stack(&mut self, slot: usize) {
        self.empty_stack(slot, KEPT_PAGES, self.stacks.touched[slot].into());
        self.stacks.limits[slot] = 0;
        if !self.stacks.slots.keep(Idle { slot, pages: KEPT_PAGES }) {
            self.empty_stack(slot, 0, KEPT_PAGES);
            self.stacks.slots.give(slot);
        }
    }

    pub(super) fn give_up_kept_stacks(&mut self) {
        while let Some(Idle { slot, pages }) = self.stacks.slots.take_idle() {
            self.empty_stack(slot, 0, pages);
            self.stacks.slots.give(slot);
        }
    }

    fn empty_stack(&mut self, slot: usize, from: usize, to: usize) {
        (from..to).for_each(|number| self.unmap(page(slot, number)));
    }
}

// SAFETY: a stack is whole pages of zeros that nobody else uses, and below it at least one page is never mapped.
unsafe impl StackCreator for Creator {
    fn new_stack(&self, size: usize, zeroed: bool) -> Result<Box<dyn StackMemory>, Error> {
        let pages = size.div_ceil(PAGE as usize).max(KEPT_PAGES);
        if pages >= SLOT_PAGES {
            return Err(Error::msg(alloc::format!("a stack of {size} bytes is longer than {SLOT_BYTES}")));
        }
        let stack = ram::with(|ram| ram.new_stack(pages, zeroed));
        let stack = stack.ok_or_else(|| Error::msg(alloc::format!("out of memory for a stack: {}", ram::explain())))?;
        Ok(Box::new(stack))
    }
}

// SAFETY: as for the creator; the pages are mapped when they are touched.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        top(self.slot) as *mut u8
    }

    fn range(&self) -> Range<usize> {
        let top = top(self.slot) as usize;
        top - self.pages * PAGE as usize..top
    }

    fn guard_range(&self) -> Range<*mut u8> {
        (top(self.slot) - SLOT_BYTES) as *mut u8..self.range().start as *mut u8
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        ram::with(|ram| ram.drop_stack(self.slot));
    }
}
