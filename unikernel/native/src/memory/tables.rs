//! Page tables of four levels (Intel's manual, volume 3, 4.5). Tables lie in memory that is mapped where it is.
use super::frames::{Frames, PAGE};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const UNCACHED: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// In a table of the second or third level: the entry maps memory itself.
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bytes of a large page.
pub const LARGE_PAGE: u64 = 2 << 20;

/// What may be done with memory. Nothing can be written to and executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    Execute,
    /// Registers of a device, which are read and written as the program says.
    Device,
}

impl Access {
    const fn bits(self) -> u64 {
        match self {
            Access::ReadOnly => PRESENT | NO_EXECUTE,
            Access::ReadWrite => PRESENT | WRITABLE | NO_EXECUTE,
            Access::Execute => PRESENT,
            Access::Device => PRESENT | WRITABLE | NO_EXECUTE | UNCACHED,
        }
    }
}

/// There is no frame left for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

/// Where tables get their frames from: addresses of [`PAGE`] bytes that nobody else uses.
pub trait TableFrames {
    fn take(&mut self) -> Option<u64>;
    fn give(&mut self, frame: u64);
}

impl TableFrames for Frames<'_> {
    fn take(&mut self) -> Option<u64> {
        Frames::take(self)
    }

    fn give(&mut self, frame: u64) {
        Frames::give(self, frame, 1);
    }
}

type Table = [u64; 512];

/// An entry for the tables of the first level, one for those of the second and one for those of the third.
pub type Entries = [u64; 3];

/// Entries of what isn't mapped.
pub const MISSING: Entries = [0; 3];

/// A tree of page tables. Whoever changes what is in use has the processor forget the old entry (`invlpg`) afterwards.
#[derive(Debug)]
pub struct Tables {
    root: u64,
}

impl Tables {
    pub fn new(frames: &mut impl TableFrames) -> Result<Tables, NoFrame> {
        Ok(Tables { root: empty_table(frames)? })
    }

    /// The physical address of the first table, for CR3.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps memory, in large pages where `large` is set and the addresses are theirs. All numbers are whole pages. What
    /// was mapped there before is replaced.
    pub fn map(
        &mut self,
        frames: &mut impl TableFrames,
        address: u64,
        physical: u64,
        bytes: u64,
        access: Access,
        large: bool,
    ) -> Result<(), NoFrame> {
        let mut done = 0;
        while done < bytes {
            let (address, physical) = (address + done, physical + done);
            let fits = |size: u64| large && address % size == 0 && physical % size == 0 && bytes - done >= size;
            if fits(LARGE_PAGE) {
                *self.entry(frames, address, 2)? = physical | access.bits() | LARGE;
                done += LARGE_PAGE;
            } else {
                let table = self.table(frames, address, 1)?;
                let pages = rest_of_table(address).min(bytes - done);
                for page in (0..pages).step_by(PAGE as usize) {
                    *entry_of(table, address + page, 1) = (physical + page) | access.bits();
                }
                done += pages;
            }
        }
        Ok(())
    }

    /// Changes what may be done with mapped memory. All numbers are whole pages.
    pub fn protect(
        &mut self,
        frames: &mut impl TableFrames,
        address: u64,
        bytes: u64,
        access: Access,
    ) -> Result<(), NoFrame> {
        let mut done = 0;
        while done < bytes {
            let address = address + done;
            let table = self.table(frames, address, 1)?;
            let pages = rest_of_table(address).min(bytes - done);
            for page in (0..pages).step_by(PAGE as usize) {
                let entry = entry_of(table, address + page, 1);
                *entry = *entry & ADDRESS | access.bits();
            }
            done += pages;
        }
        Ok(())
    }

    /// Takes a page out. Returns the physical address that was mapped there.
    pub fn unmap(&mut self, frames: &mut impl TableFrames, address: u64) -> Result<Option<u64>, NoFrame> {
        let entry = self.entry(frames, address, 1)?;
        let physical = (*entry & PRESENT != 0).then_some(*entry & ADDRESS);
        *entry = 0;
        Ok(physical)
    }

    /// Makes entries with which all addresses lead to one frame.
    pub fn to_one_frame(frames: &mut impl TableFrames, frame: u64) -> Result<Entries, NoFrame> {
        let mut entries = [frame | Access::ReadWrite.bits(), 0, 0];
        for level in 1..entries.len() {
            let table = empty_table(frames)?;
            (0..512).for_each(|index| *entry_of(table, index * PAGE, 1) = entries[level - 1]);
            entries[level] = table | PRESENT | WRITABLE;
        }
        Ok(entries)
    }

    /// Puts entries in place of others in a range of whole GiB. The processor must forget the others afterwards.
    pub fn replace(
        &mut self,
        frames: &mut impl TableFrames,
        address: u64,
        bytes: u64,
        from: &Entries,
        to: &Entries,
    ) -> Result<(), NoFrame> {
        for address in (address..address + bytes).step_by(1 << shift(3)) {
            replace(self.entry(frames, address, 3)?, 2, from, to);
        }
        Ok(())
    }

    /// Gives back the tables of a range of whole GiB in which no page is mapped any more. The processor must forget all
    /// that it remembers of tables afterwards.
    pub fn prune(&mut self, frames: &mut impl TableFrames, address: u64, bytes: u64) {
        for address in (address..address + bytes).step_by(1 << shift(3)) {
            let Some(entry) = self.entry_above(address) else { continue };
            let table = *entry & ADDRESS;
            *entry = 0;
            (0..512)
                .map(|index| *entry_of(table, index << shift(2), 2))
                .filter(|lower| lower & PRESENT != 0)
                .for_each(|lower| frames.give(lower & ADDRESS));
            frames.give(table);
        }
    }

    /// The entry of the third level for an address, where it leads to a table.
    fn entry_above(&mut self, address: u64) -> Option<&mut u64> {
        let upper = *entry_of(self.root, address, 4);
        let entry = (upper & PRESENT != 0).then(|| entry_of(upper & ADDRESS, address, 3))?;
        (*entry & PRESENT != 0 && *entry & LARGE == 0).then_some(entry)
    }

    /// The physical address of a byte, and what may be done with it.
    pub fn look_up(&self, address: u64) -> Option<(u64, Access)> {
        let (entry, size) = self.find(address)?;
        let access = match (*entry & WRITABLE != 0, *entry & NO_EXECUTE != 0) {
            (true, true) if *entry & UNCACHED != 0 => Access::Device,
            (true, true) => Access::ReadWrite,
            (false, true) => Access::ReadOnly,
            (false, false) => Access::Execute,
            (true, false) => unreachable!("no entry is made that can be written to and executed"),
        };
        Some((*entry & ADDRESS & !(size - 1) | address & (size - 1), access))
    }

    /// The next page from an address on that is mapped, as a small page, below `end`. Ranges without tables cost little.
    pub fn next_mapped(&self, mut address: u64, end: u64) -> Option<u64> {
        while address < end {
            match self.lowest_table(address) {
                Ok(table) => {
                    let last = end.min(address / LARGE_PAGE * LARGE_PAGE + LARGE_PAGE);
                    while address < last {
                        if *entry_of(table, address, 1) & PRESENT != 0 {
                            return Some(address);
                        }
                        address += PAGE;
                    }
                }
                Err(bytes) => address = address / bytes * bytes + bytes,
            }
        }
        None
    }

    /// The table of small pages for an address; or how many bytes the entry stands for that leads to none.
    fn lowest_table(&self, address: u64) -> Result<u64, u64> {
        let mut at = self.root;
        for level in (2..=4).rev() {
            let entry = *entry_of(at, address, level);
            if entry & PRESENT == 0 || entry & LARGE != 0 {
                return Err(1 << shift(level));
            }
            at = entry & ADDRESS;
        }
        Ok(at)
    }

    /// Whether a page has been written to since it was mapped or this was last asked. Returns its physical address then.
    pub fn take_dirty(&mut self, address: u64) -> Option<u64> {
        let (entry, _) = self.find(address)?;
        let dirty = *entry & DIRTY != 0;
        *entry &= !DIRTY;
        dirty.then_some(*entry & ADDRESS)
    }

    /// The entry of the last level that maps an address, and how many bytes it maps.
    fn find(&self, address: u64) -> Option<(&mut u64, u64)> {
        let mut at = self.root;
        for level in (1..=4).rev() {
            let entry = entry_of(at, address, level);
            if *entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || *entry & LARGE != 0 {
                return Some((entry, 1 << shift(level)));
            }
            at = *entry & ADDRESS;
        }
        None
    }

    /// The entry for an address in the table of a level, as [`Tables::table`] has it.
    fn entry(&mut self, frames: &mut impl TableFrames, address: u64, level: u32) -> Result<&mut u64, NoFrame> {
        Ok(entry_of(self.table(frames, address, level)?, address, level))
    }

    /// The table of a level for an address, which is made where it's missing; a large page above it is split.
    fn table(&mut self, frames: &mut impl TableFrames, address: u64, level: u32) -> Result<u64, NoFrame> {
        let mut at = self.root;
        for upper in (level + 1..=4).rev() {
            let entry = entry_of(at, address, upper);
            if *entry & PRESENT == 0 {
                *entry = empty_table(frames)? | PRESENT | WRITABLE;
            } else if *entry & LARGE != 0 {
                *entry = split(frames, *entry)? | PRESENT | WRITABLE;
            }
            at = *entry & ADDRESS;
        }
        Ok(at)
    }
}

/// Bytes from an address to the end of what its table of small pages maps.
const fn rest_of_table(address: u64) -> u64 {
    LARGE_PAGE - address % LARGE_PAGE
}

/// The lowest bit of an address that chooses an entry in a table of a level: 12, 21, 30, 39.
const fn shift(level: u32) -> u32 {
    12 + 9 * (level - 1)
}

fn entry_of<'a>(table: u64, address: u64, level: u32) -> &'a mut u64 {
    let index = (address >> shift(level)) as usize % 512;
    // SAFETY: `table` is a frame that a tree has got for a table, which lasts as long as the tree, and the caller is a
    // method of the tree that uses one entry at a time.
    unsafe { &mut (*(table as *mut Table))[index] }
}

/// Replaces an entry, or those in the table that it leads to. `level` is 1 less than the number of its level.
fn replace(entry: &mut u64, level: usize, from: &Entries, to: &Entries) {
    // Their addresses alone are compared: the processor notes in an entry that it was used.
    if *entry & ADDRESS == from[level] & ADDRESS {
        *entry = to[level];
    } else if level > 0 && *entry & PRESENT != 0 {
        let table = *entry & ADDRESS;
        (0..512).for_each(|index| replace(entry_of(table, index * PAGE, 1), level - 1, from, to));
    }
}

fn empty_table(frames: &mut impl TableFrames) -> Result<u64, NoFrame> {
    let table = frames.take().ok_or(NoFrame)?;
    // SAFETY: nobody else uses the frame.
    unsafe { (table as *mut Table).write([0; 512]) };
    Ok(table)
}

/// A table of small pages that maps what a large one did.
fn split(frames: &mut impl TableFrames, large: u64) -> Result<u64, NoFrame> {
    let table = empty_table(frames)?;
    for index in 0..512 {
        *entry_of(table, index * PAGE, 1) = (large & !LARGE & !(ACCESSED | DIRTY)) + index * PAGE;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::{Access, DIRTY, LARGE_PAGE, MISSING, NoFrame, PAGE, Table, TableFrames, Tables};

    #[repr(C, align(4096))]
    struct Frame(Table);

    /// Frames of the test's own memory, filled with what a table must not begin with.
    struct Memory {
        frames: Vec<Box<Frame>>,
        limit: usize,
    }

    impl Memory {
        fn new(limit: usize) -> Self {
            Memory { frames: Vec::new(), limit }
        }
    }

    impl TableFrames for Memory {
        fn take(&mut self) -> Option<u64> {
            (self.frames.len() < self.limit).then(|| {
                self.frames.push(Box::new(Frame([u64::MAX; 512])));
                &raw mut **self.frames.last_mut().unwrap() as u64
            })
        }

        fn give(&mut self, frame: u64) {
            let position = self.frames.iter().position(|own| &raw const **own as u64 == frame);
            self.frames.remove(position.expect("a frame that was taken"));
        }
    }

    const AT: u64 = 0x1234_5600_0000;

    #[test]
    fn pages_are_found_where_they_were_mapped_and_nowhere_else() {
        let mut memory = Memory::new(10);
        let mut tables = Tables::new(&mut memory).unwrap();
        tables.map(&mut memory, AT, 0x7000, 2 * PAGE, Access::ReadWrite, false).unwrap();
        assert_eq!(tables.look_up(AT + 0x1abc), Some((0x8abc, Access::ReadWrite)));
        assert_eq!(tables.look_up(AT + 2 * PAGE), None);
        assert_eq!(tables.look_up(AT - 1), None);
        assert_eq!(memory.frames.len(), 4);
    }

    #[test]
    fn large_pages_are_used_only_where_both_addresses_are_theirs() {
        let mut memory = Memory::new(10);
        let mut tables = Tables::new(&mut memory).unwrap();
        tables.map(&mut memory, AT + PAGE, 0x20_1000, LARGE_PAGE, Access::ReadWrite, true).unwrap();
        tables.map(&mut memory, AT + 2 * LARGE_PAGE, 4 * LARGE_PAGE, LARGE_PAGE, Access::ReadOnly, true).unwrap();
        assert_eq!(memory.frames.len(), 5, "three levels, two tables of small pages, and none for the large page");
        assert_eq!(tables.look_up(AT + LARGE_PAGE + 5), Some((0x40_0005, Access::ReadWrite)));
        let byte = 2 * LARGE_PAGE + 0x12_3456;
        assert_eq!(tables.look_up(AT + byte), Some((2 * LARGE_PAGE + byte, Access::ReadOnly)));
    }

    #[test]
    fn protecting_a_page_splits_a_large_one_and_leaves_the_rest() {
        let mut memory = Memory::new(10);
        let mut tables = Tables::new(&mut memory).unwrap();
        tables.map(&mut memory, AT, LARGE_PAGE, LARGE_PAGE, Access::ReadWrite, true).unwrap();
        tables.protect(&mut memory, AT + 3 * PAGE, PAGE, Access::Execute).unwrap();
        for (page, access) in [(2, Access::ReadWrite), (3, Access::Execute), (4, Access::ReadWrite)] {
            assert_eq!(tables.look_up(AT + page * PAGE), Some((LARGE_PAGE + page * PAGE, access)));
        }
    }

    #[test]
    fn an_unmapped_page_is_gone_and_its_neighbours_are_not() {
        let mut memory = Memory::new(10);
        let mut tables = Tables::new(&mut memory).unwrap();
        tables.map(&mut memory, AT, LARGE_PAGE, LARGE_PAGE, Access::ReadWrite, true).unwrap();
        assert_eq!(tables.unmap(&mut memory, AT), Ok(Some(LARGE_PAGE)));
        assert_eq!(tables.unmap(&mut memory, AT), Ok(None));
        assert_eq!(tables.look_up(AT), None);
        assert_eq!(tables.look_up(AT + PAGE), Some((LARGE_PAGE + PAGE, Access::ReadWrite)));
    }

    #[test]
    fn no_access_allows_to_write_and_to_execute() {
        for access in [Access::ReadOnly, Access::ReadWrite, Access::Execute, Access::Device] {
            let bits = access.bits();
            assert!(bits & super::WRITABLE == 0 || bits & super::NO_EXECUTE != 0, "{access:?}");
        }
    }

    #[test]
    fn the_next_mapped_page_is_found_across_missing_tables() {
        let mut memory = Memory::new(20);
        let mut tables = Tables::new(&mut memory).unwrap();
        let pages = [AT, AT + 3 * PAGE, AT + 5 * LARGE_PAGE, AT + (1 << 31)];
        for page in pages {
            tables.map(&mut memory, page, 0x7000, PAGE, Access::ReadWrite, false).unwrap();
        }
        let end = AT + (2 << 30);
        let next = |address: Option<u64>| tables.next_mapped(address.map_or(0, |address| address + PAGE), end);
        let found: Vec<u64> = core::iter::successors(next(None), |&address| next(Some(address))).collect();
        assert_eq!(found, pages[..3]);
        assert_eq!(tables.next_mapped(AT, AT + (3 << 30)), Some(AT));
        assert_eq!(tables.next_mapped(AT + 6 * LARGE_PAGE, u64::MAX >> 17), Some(pages[3]));
    }

    #[test]
    fn a_written_page_is_told_once() {
        let mut memory = Memory::new(10);
        let mut tables = Tables::new(&mut memory).unwrap();
        tables.map(&mut memory, AT, 0x7000, PAGE, Access::ReadWrite, false).unwrap();
        assert_eq!(tables.take_dirty(AT), None);
        *tables.find(AT).unwrap().0 |= DIRTY; // as the processor does
        assert_eq!(tables.take_dirty(AT), Some(0x7000));
        assert_eq!(tables.take_dirty(AT), None);
    }

    #[test]
    fn pruning_gives_the_tables_of_an_empty_range_back_and_no_others() {
        const GIB: u64 = 1 << 30;
        let mut memory = Memory::new(20);
        let mut tables = Tables::new(&mut memory).unwrap();
        tables.map(&mut memory, 8 * GIB, 0x7000, PAGE, Access::ReadWrite, false).unwrap();
        let others = memory.frames.len();
        for address in [4 * GIB, 4 * GIB + 3 * LARGE_PAGE, 7 * GIB] {
            tables.map(&mut memory, address, 0x8000, PAGE, Access::ReadWrite, false).unwrap();
            tables.unmap(&mut memory, address).unwrap();
        }
        assert_eq!(memory.frames.len(), others + 5);
        tables.prune(&mut memory, 4 * GIB, 4 * GIB);
        assert_eq!(memory.frames.len(), others);
        assert_eq!(tables.look_up(8 * GIB), Some((0x7000, Access::ReadWrite)));
        tables.map(&mut memory, 4 * GIB, 0x9000, PAGE, Access::ReadOnly, false).unwrap();
        assert_eq!(tables.look_up(4 * GIB), Some((0x9000, Access::ReadOnly)));
    }

    #[test]
    fn what_is_missing_can_lead_to_one_frame_and_be_missing_again() {
        const GIB: u64 = 1 << 30;
        let mut memory = Memory::new(20);
        let mut tables = Tables::new(&mut memory).unwrap();
        for address in [4 * GIB, 4 * GIB + 3 * LARGE_PAGE, 8 * GIB] {
            tables.map(&mut memory, address, 0x7000, PAGE, Access::ReadWrite, false).unwrap();
        }
        let one = Tables::to_one_frame(&mut memory, 0x9000).unwrap();
        let others = memory.frames.len();
        tables.replace(&mut memory, 4 * GIB, 4 * GIB, &MISSING, &one).unwrap();
        assert_eq!(memory.frames.len(), others);
        for missing in [PAGE, LARGE_PAGE, 3 * LARGE_PAGE + PAGE, GIB, 4 * GIB - PAGE] {
            assert_eq!(tables.look_up(4 * GIB + missing + 5), Some((0x9005, Access::ReadWrite)));
            *tables.find(4 * GIB + missing).unwrap().0 |= DIRTY; // as the processor does
        }
        assert_eq!(tables.look_up(4 * GIB + 3 * LARGE_PAGE), Some((0x7000, Access::ReadWrite)));
        assert_eq!((tables.look_up(4 * GIB - PAGE), tables.look_up(8 * GIB + PAGE)), (None, None));
        tables.replace(&mut memory, 4 * GIB, 4 * GIB, &one, &MISSING).unwrap();
        let pages = core::iter::successors(tables.next_mapped(4 * GIB, 8 * GIB), |&page| {
            tables.next_mapped(page + PAGE, 8 * GIB)
        });
        assert_eq!(pages.collect::<Vec<_>>(), [4 * GIB, 4 * GIB + 3 * LARGE_PAGE]);
        assert_eq!(tables.look_up(8 * GIB), Some((0x7000, Access::ReadWrite)));
    }

    #[test]
    fn a_missing_frame_for_a_table_is_an_error() {
        let mut memory = Memory::new(3);
        let mut tables = Tables::new(&mut memory).unwrap();
        assert_eq!(tables.map(&mut memory, AT, 0, PAGE, Access::ReadWrite, false), Err(NoFrame));
        assert_eq!(tables.look_up(AT), None);
        assert_eq!(Tables::new(&mut memory).unwrap_err(), NoFrame);
    }
}
