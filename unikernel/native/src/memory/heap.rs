//! The kernel's heap.
use core::alloc::Layout;
use core::sync::atomic::{AtomicU64, Ordering};
use talc::base::{
    Talc,
    binning::{Binning, DefaultBinning},
};
use talc::cell::{TalcCell, TalcSyncCell};
use talc::source::Source;

// SAFETY: there is one processor, and interrupts take and give no memory.
#[global_allocator]
static HEAP: TalcSyncCell<Ram, DefaultBinning> = unsafe { TalcSyncCell::new(TalcCell::new(Ram)) };

static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// Gives the heap its memory.
pub fn claim(start: u64, end: u64) {
    END.store(end, Ordering::Relaxed);
    START.store(start, Ordering::Relaxed);
}

/// Where the heap gets memory from.
#[derive(Debug)]
struct Ram;

// SAFETY: the memory is given once.
unsafe impl Source for Ram {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, _: Layout) -> Result<(), ()> {
        let start = START.swap(0, Ordering::Relaxed);
        if start == 0 {
            return Err(());
        }
        // SAFETY: nobody else uses this memory.
        unsafe { talc.claim(start as *mut u8, (END.load(Ordering::Relaxed) - start) as usize) }.map(|_| ()).ok_or(())
    }
}
