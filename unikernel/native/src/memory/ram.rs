//! The machine's memory: who has which frame, and what is mapped where.
use core::arch::asm;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

use super::frames::{Frames, PAGE, words_for};
use super::guests::Guests;
use super::stacks::Stacks;
use super::tables::{Access, NoFrame, Tables};
use crate::boot::Region;
use crate::cpu;
use crate::cpu::unshared::Unshared;

/// Where the memory ends that is mapped while the machine is set up.
const BOOT_MAP_END: u64 = 1 << 30;
/// Below it lie a PC's firmware and what a loader has left for us.
const LOW_MEMORY_END: u64 = 1 << 20;
/// Addresses below this one are physical ones, where they're mapped at all.
pub(super) const IDENTITY_END: u64 = 1 << 39;

/// How many frames must be left for tasks to begin: for page tables, the heap, and an application's first instance.
const LEAST_FRAMES: usize = 64;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static boot_tables: u8;
    static boot_tables_end: u8;
    static boot_stack_guard: u8;
}

/// The address of a symbol.
macro_rules! address {
    ($symbol:ident) => {
        (&raw const $symbol) as u64
    };
}

pub(super) struct Ram {
    pub frames: Frames<'static>,
    pub tables: Tables,
    pub guests: &'static mut Guests,
    pub stacks: &'static mut Stacks,
    /// Frames that neither guests' memories nor new stacks may take: stacks in use grow into them, and the heap. Where
    /// half of them are taken, the guest that is at work is ended soon.
    pub reserve: usize,
}

static RAM: Unshared<Option<Ram>> = Unshared::new(None);
// Apart from it, as they are too large to be made on the stack.
static GUESTS: Unshared<Guests> = Unshared::new(Guests::new());
static STACKS: Unshared<Stacks> = Unshared::new(Stacks::new());
static IN_USE: AtomicBool = AtomicBool::new(false);
static SHORT: AtomicBool = AtomicBool::new(false);

/// How many frames a page takes at most, with the tables above it.
pub(super) const PAGE_AND_TABLES: usize = 4;

/// How many pages of the stack are touched before memory is changed.
const TOUCHED_PAGES: i64 = 4;

/// Changes memory. The function takes nothing from the heap, which takes its memory from here.
///
/// # Panics
/// Before [`init`], and within itself.
pub(super) fn with<T>(function: impl FnOnce(&mut Ram) -> T) -> T {
    // Tasks' stacks get their pages when they are first touched, and by this function: not while it runs.
    for page in 0..TOUCHED_PAGES {
        // SAFETY: this reads below the stack pointer, where the stack goes on or a guard page ends the machine.
        unsafe { asm!("test byte ptr [rsp + {0}], 0", in(reg) -(page * PAGE as i64), options(nostack)) };
    }
    assert!(!IN_USE.swap(true, Ordering::Acquire), "memory is changed while it is changed");
    // SAFETY: `IN_USE` says that nobody else is here; interrupts don't come here, but page faults.
    let ram = unsafe { RAM.get() }.as_mut().expect("memory is set up");
    let result = function(ram);
    IN_USE.store(false, Ordering::Release);
    result
}

/// The first address behind the kernel: of a page.
pub fn image_end() -> u64 {
    address!(__image_end)
}

/// Takes RAM into use, all but what lies below `used_until` (kernel and application) and below 1 MiB, and maps all with
/// page tables of our own. Gives up where there is too little.
pub fn init(regions: &[Region], used_until: u64) {
    let bits_at = used_until.next_multiple_of(PAGE);
    let top = regions.iter().map(|region| region.end).max().unwrap_or(0).min(IDENTITY_END);
    let words = words_for(top);
    let start = (bits_at + words as u64 * 8).next_multiple_of(PAGE);
    let room = regions.iter().any(|region| (region.start..region.end).contains(&bits_at) && start < region.end);
    if !room {
        too_little(regions);
    }
    // SAFETY: this RAM lies behind kernel and application, it's nobody's yet, and it stays the allocator's for good.
    let bits = unsafe { core::slice::from_raw_parts_mut(bits_at as *mut u64, words) };
    let mut frames = Frames::new(bits);
    for region in regions {
        frames.add(region.start.max(start), region.end.min(BOOT_MAP_END));
    }
    if frames.free() < LEAST_FRAMES {
        too_little(regions);
    }
    let Ok(tables) = map_all(&mut frames, regions, used_until.next_multiple_of(PAGE)) else { too_little(regions) };
    // SAFETY: the tables map all that is in use, where it is.
    unsafe { Cr3::write(frame_of(tables.root()), Cr3Flags::empty()) };
    // The loader's tables are in use no more.
    frames.add(address!(boot_tables), address!(boot_tables_end));
    for region in regions {
        frames.add(region.start.max(BOOT_MAP_END), region.end.min(IDENTITY_END));
    }
    let reserve = (frames.total() / 16).clamp(16, 1024);
    // SAFETY: this is called once, before anything else asks for memory.
    unsafe { *RAM.get() = Some(Ram { frames, tables, guests: GUESTS.get(), stacks: STACKS.get(), reserve }) };
}

/// Maps RAM where it is, with the kernel's code and constants and the application as what they are.
fn map_all(frames: &mut Frames, regions: &[Region], used_until: u64) -> Result<Tables, NoFrame> {
    let mut tables = Tables::new(frames)?;
    let mut identity = |start: u64, end: u64, access| {
        // What isn't whole pages at its ends is left out.
        let (start, end) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
        tables.map(frames, start, start, end.saturating_sub(start), access, true)
    };
    identity(PAGE, LOW_MEMORY_END, Access::ReadOnly)?;
    for region in regions {
        identity(region.start.max(PAGE), region.end.min(IDENTITY_END), Access::ReadWrite)?;
    }
    identity(address!(__text_start), address!(__text_end), Access::Execute)?;
    identity(address!(__text_end), address!(__rodata_end), Access::ReadOnly)?;
    identity(image_end(), used_until, Access::ReadOnly)?;
    tables.unmap(frames, address!(boot_stack_guard))?;
    Ok(tables)
}

/// Takes what lies below 1 MiB into use, when what the loader has left there has been read.
pub fn add_low_memory(regions: &[Region]) {
    with(|ram| {
        regions.iter().for_each(|region| ram.frames.add(region.start.max(PAGE), region.end.min(LOW_MEMORY_END)))
    });
}

fn too_little(regions: &[Region]) -> ! {
    let bytes: u64 = regions.iter().map(|region| region.end - region.start).sum();
    cpu::give_up_with(format_args!(
        "out of memory: the machine has {} KiB, and this image needs more to begin with; --memory gives it more",
        bytes >> 10
    ))
}

/// The physical address of memory that a device is to read or write. None for memory that isn't where its address says:
/// tasks' stacks and guests' memories.
pub fn physical(memory: NonNull<[u8]>) -> Option<u64> {
    let start = memory.cast::<u8>().as_ptr() as u64;
    (start + memory.len() as u64 <= IDENTITY_END).then_some(start)
}

/// Bytes of memory that are free, without what is kept to be used again.
pub fn free() -> u64 {
    with(|ram| ram.frames.free() as u64 * PAGE)
}

/// How much memory there is, for a message that says it's not enough.
pub fn explain() -> impl fmt::Display {
    struct Explained(u64, u64);
    impl fmt::Display for Explained {
        fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            let Explained(free, total) = self;
            write!(formatter, "{} of the machine's {} KiB are free; --memory gives it more", free >> 10, total >> 10)
        }
    }
    with(|ram| Explained(ram.frames.free() as u64 * PAGE, ram.frames.total() as u64 * PAGE))
}

/// Whether the machine has memory for one more guest.
pub fn has_room() -> bool {
    with(Ram::has_room)
}

/// Whether the machine has run short of memory since [`forget_shortage`]: what is at work then must be ended, and what
/// guests' memories have is not to be relied on.
pub fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// To be called before a guest gets to work: what has run short until then wasn't that one.
pub fn forget_shortage() {
    SHORT.store(false, Ordering::Relaxed);
}

pub(super) fn run_short() {
    SHORT.store(true, Ordering::Relaxed);
}

/// Gives a stack or a guest's memory the page that it has reached. False where that isn't what the page fault at this
/// address means.
pub fn page_fault(address: u64, error: u64) -> bool {
    /// Of the error code: the page is there, or the fault was in fetching an instruction.
    const OTHER: u64 = 1 | 1 << 4;
    if error & OTHER != 0 || IN_USE.load(Ordering::Relaxed) {
        return false;
    }
    let touched = if super::stacks::contains(address) {
        with(|ram| ram.touch_stack(address))
    } else if super::guests::contains(address) {
        with(|ram| ram.touch_guest(address))
    } else {
        return false;
    };
    touched.unwrap_or_else(|NoFrame| {
        cpu::console::line(format_args!("out of memory: a stack needs more; {}", explain()));
        cpu::shutdown(cpu::PANIC_CODE)
    })
}

/// Whether an address is of a page below a stack.
pub fn is_stack_guard(address: u64) -> bool {
    let guard = address!(boot_stack_guard);
    (guard..guard + PAGE).contains(&address) || super::stacks::contains(address)
}

impl Ram {
    /// Whether so many frames may be taken for a guest or a new stack, when what is kept has been given up if need be.
    pub fn has(&mut self, frames: usize) -> bool {
        self.is_free(frames + self.reserve + self.guests.promised())
    }

    /// So many frames are taken for a stack in use or for the heap.
    pub fn note_taking(&mut self, frames: usize) {
        if !self.is_free(frames + self.reserve / 2) {
            run_short();
        }
    }

    /// Whether so many frames are free, when what is kept has been given up if need be.
    pub fn is_free(&mut self, frames: usize) -> bool {
        self.frames.free() >= frames || self.give_up_kept() && self.frames.free() >= frames
    }

    /// Gives the memory of kept stacks and guests' memories back. Returns whether there was any.
    pub fn give_up_kept(&mut self) -> bool {
        let before = self.frames.free();
        self.give_up_kept_stacks();
        self.give_up_kept_guests();
        self.frames.free() > before
    }

    /// Maps a frame of zeros at an address.
    pub fn map_zeros(&mut self, address: u64) -> Result<(), NoFrame> {
        let frame = self.frames.take().ok_or(NoFrame)?;
        zero(frame);
        let mapped = self.tables.map(&mut self.frames, address, frame, PAGE, Access::ReadWrite, false);
        if mapped.is_err() {
            self.frames.give(frame, 1);
        }
        mapped
    }

    /// Takes the page at an address out, and gives its frame back.
    pub fn unmap(&mut self, address: u64) {
        if let Ok(Some(frame)) = self.tables.unmap(&mut self.frames, address) {
            forget(address);
            self.frames.give(frame, 1);
        }
    }

    /// Makes a page zero that was written to since it was mapped or last zeroed.
    pub fn zero_if_dirty(&mut self, address: u64) {
        if let Some(frame) = self.tables.take_dirty(address) {
            forget(address);
            zero(frame);
        }
    }
}

/// Has the processor forget what was mapped at an address.
pub(super) fn forget(address: u64) {
    tlb::flush(VirtAddr::new(address));
}

/// Has the processor forget all that was mapped.
pub(super) fn forget_all() {
    tlb::flush_all();
}

/// Makes a frame zero that its caller alone uses.
pub(super) fn zero(frame: u64) {
    // SAFETY: frames are mapped where they are, and whoever had this one has given it back or is about to get it.
    unsafe { core::ptr::write_bytes(frame as *mut u8, 0, PAGE as usize) };
}

fn frame_of(address: u64) -> PhysFrame {
    PhysFrame::containing_address(x86_64::PhysAddr::new(address))
}
