//! Registers of a device, in memory.

use core::ptr::NonNull;

/// Some registers of a device.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    start: NonNull<u8>,
    pub(super) length: usize,
}

impl Registers {
    /// None at all.
    pub(super) const NONE: Registers = Registers { start: NonNull::dangling(), length: 0 };

    /// # Safety
    /// So many bytes from `start` on are mapped for as long as the machine runs, and nobody else uses them.
    pub(super) unsafe fn new(start: NonNull<u8>, length: usize) -> Registers {
        Registers { start, length }
    }

    /// The place of a register, where it lies within these and where its size wants it.
    fn place<T>(self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.length || !(self.start.as_ptr() as usize + offset).is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the offset lies within the registers.
        Some(unsafe { self.start.add(offset) }.cast())
    }

    /// 0 for what isn't there.
    pub(super) fn read<T: Copy + Default>(self, offset: usize) -> T {
        match self.place::<T>(offset) {
            // SAFETY: whoever called `new` knows that these are a device's registers, and `place` has checked the rest.
            Some(place) => unsafe { place.read_volatile() },
            None => T::default(),
        }
    }

    pub(super) fn write<T>(self, offset: usize, value: T) {
        if let Some(place) = self.place::<T>(offset) {
            // SAFETY: as for `read`.
            unsafe { place.write_volatile(value) };
        }
    }
}
