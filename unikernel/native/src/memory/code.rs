//! Compiled modules: read-only data until their code is published, and then executed and never written to.
use wasmtime::{CustomCodeMemory, Error, Result};

use super::frames::PAGE;
use super::ram;
use super::tables::Access;

/// Makes wasmtime's modules executable.
pub struct Publisher;

impl CustomCodeMemory for Publisher {
    fn required_alignment(&self) -> usize {
        PAGE as usize
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> Result<()> {
        protect(start, length, Access::Execute)
    }

    fn unpublish_executable(&self, start: *const u8, length: usize) -> Result<()> {
        protect(start, length, Access::ReadWrite)
    }
}

fn protect(start: *const u8, length: usize, access: Access) -> Result<()> {
    let (start, bytes) = (start as u64, (length as u64).next_multiple_of(PAGE));
    if start % PAGE != 0 {
        return Err(Error::msg("code that doesn't begin with a page"));
    }
    ram::with(|ram| {
        let done = ram.tables.protect(&mut ram.frames, start, bytes, access);
        // Page by page takes longer: code has hundreds of pages, and an emulated processor forgets all each time.
        ram::forget_all();
        done
    })
    .map_err(|_| Error::msg(alloc::format!("out of memory for page tables: {}", ram::explain())))
}
