//! The kernel's heap: rows of frames, which are taken as they are needed and given back when nothing is in them.
use core::alloc::Layout;

use talc::base::Talc;
use talc::base::binning::{Binning, DefaultBinning};
use talc::cell::{TalcCell, TalcSyncCell};
use talc::source::Source;

use super::frames::PAGE;
use super::ram;

// SAFETY: there is one processor, and interrupts take and give no memory.
#[global_allocator]
static HEAP: TalcSyncCell<Ram, DefaultBinning> = unsafe { TalcSyncCell::new(TalcCell::new(Ram)) };

/// Bytes that the heap grows by at least.
const LEAST_BYTES: usize = 64 << 10;
/// What talc needs for itself in a row, at most.
const OVERHEAD: usize = 2 << 10;

/// Where the heap gets memory from.
#[derive(Debug)]
struct Ram;

// SAFETY: rows of frames are nobody else's, and nothing here uses the heap.
unsafe impl Source for Ram {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let bytes = layout.size().checked_add(layout.align()).and_then(|bytes| bytes.checked_add(OVERHEAD)).ok_or(())?;
        let frames = bytes.max(LEAST_BYTES).div_ceil(PAGE as usize);
        let row = ram::with(|ram| {
            ram.note_taking(frames);
            ram.frames.take_row(frames).or_else(|| ram.give_up_kept().then(|| ram.frames.take_row(frames))?)
        });
        // SAFETY: these frames are mapped where they are, and nobody else's.
        unsafe { talc.claim(row.ok_or(())? as *mut u8, frames * PAGE as usize) }.map(|_| ()).ok_or(())
    }

    const TRACK_HEAP_END: bool = true;

    /// `base` is where the unused rest of a row begins, and `end` where the row ends.
    unsafe fn resize(&mut self, base: *mut u8, end: *mut u8, all_unused: bool) -> *mut u8 {
        if all_unused {
            let start = base as u64 / PAGE * PAGE;
            ram::with(|ram| ram.frames.give(start, ((end as u64 - start) / PAGE) as usize));
            return base;
        }
        end
    }
}
