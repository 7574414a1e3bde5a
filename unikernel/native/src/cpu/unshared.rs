//! Statics of one processor.
use core::cell::UnsafeCell;

/// What one place in the kernel writes to while nobody else looks.
pub(crate) struct Unshared<T>(UnsafeCell<T>);

// SAFETY: there is one processor; callers of `get` say why no interrupt and no caller of theirs is in the midst of it.
unsafe impl<T> Sync for Unshared<T> {}

impl<T> Unshared<T> {
    pub const fn new(value: T) -> Self {
        Unshared(UnsafeCell::new(value))
    }

    pub fn address(&self) -> u64 {
        // Physical, too: statics are mapped where they are.
        self.0.get() as u64
    }

    /// # Safety
    /// No other reference is in use as long as this one is: not in a function that has called this one, and not in code
    /// that was interrupted.
    #[allow(clippy::mut_from_ref)]
    pub const unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's.
        unsafe { &mut *self.0.get() }
    }
}
