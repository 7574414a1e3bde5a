//! What guest and host share: blocks of the guest's memory, and the strings and lists in them.
//!
//! What a guest passes to an import stays the guest's. What an import returns, and what an export is called with, is
//! the guest's to free. What an export returns is the host's, which frees it with `canonical_abi_free`. A string or
//! list of 0 bytes has no memory: its pointer is neither followed nor freed.

use std::alloc::{alloc, dealloc, handle_alloc_error, realloc, Layout};
use std::mem::MaybeUninit;

/// Allocates `new_size` bytes, or moves the block at `ptr` to where it has that size. Never returns null.
///
/// # Safety
///
/// `ptr`, `old_size` and `align` are those of a block that this function returned, or `old_size` is 0.
#[export_name = "canonical_abi_realloc"]
pub unsafe extern "C" fn canonical_abi_realloc(
    ptr: *mut u8,
    old_size: usize,
    align: usize,
    new_size: usize,
) -> *mut u8 {
    if new_size == 0 {
        canonical_abi_free(ptr, old_size, align);
        return align as *mut u8;
    }
    let new_layout = Layout::from_size_align(new_size, align).expect("a size that fits into memory");
    let block = if old_size == 0 {
        alloc(new_layout)
    } else {
        realloc(ptr, Layout::from_size_align_unchecked(old_size, align), new_size)
    };
    if block.is_null() {
        handle_alloc_error(new_layout);
    }
    block
}

/// Frees a block.
///
/// # Safety
///
/// `ptr`, `size` and `align` are those of a block that `canonical_abi_realloc` returned, or `size` is 0.
#[export_name = "canonical_abi_free"]
pub unsafe extern "C" fn canonical_abi_free(ptr: *mut u8, size: usize, align: usize) {
    if size != 0 {
        dealloc(ptr, Layout::from_size_align_unchecked(size, align));
    }
}

/// A `list<T>` in memory; a `string` is a list of bytes.
#[repr(C)]
pub struct List<T> {
    ptr: *mut T,
    len: usize,
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<T> {}

impl<T> List<T> {
    /// A list that arrived in two parameters.
    pub fn new(ptr: *mut T, len: usize) -> Self {
        List { ptr, len }
    }

    /// Hands the items over to the host.
    pub fn give(items: Vec<T>) -> Self {
        let len = items.len();
        let ptr = Box::into_raw(items.into_boxed_slice()).cast();
        List::new(ptr, len)
    }

    /// Takes over what the host handed over.
    ///
    /// # Safety
    ///
    /// The host handed the list over, and nothing else takes it.
    pub unsafe fn take(self) -> Vec<T> {
        match self.len {
            0 => Vec::new(),
            len => Vec::from_raw_parts(self.ptr, len, len),
        }
    }
}

impl List<u8> {
    /// Takes over a text that the host handed over.
    ///
    /// # Safety
    ///
    /// The host handed the text over, and nothing else takes it.
    pub unsafe fn take_string(self) -> String {
        String::from_utf8(self.take()).expect("UTF-8 from the host")
    }
}

/// A `unit` in memory: `()` has no defined layout.
pub type Unit = [u8; 0];

/// An `option<T>` in memory.
#[repr(C)]
pub struct Opt<T: Copy> {
    is_some: bool,
    value: MaybeUninit<T>,
}

impl<T: Copy> Clone for Opt<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Copy> Copy for Opt<T> {}

impl<T: Copy> From<Option<T>> for Opt<T> {
    fn from(option: Option<T>) -> Self {
        Opt { is_some: option.is_some(), value: option.map_or_else(MaybeUninit::uninit, MaybeUninit::new) }
    }
}

/// An `expected<T, E>` in memory.
#[repr(C)]
pub struct Expected<T: Copy, E: Copy> {
    is_err: bool,
    side: Side<T, E>,
}

#[repr(C)]
union Side<T: Copy, E: Copy> {
    ok: T,
    err: E,
}

impl<T: Copy, E: Copy> Expected<T, E> {
    /// Calls an import that writes its result to where the pointer leads.
    pub fn of(import: impl FnOnce(*mut Self)) -> Result<T, E> {
        let mut result = MaybeUninit::uninit();
        import(result.as_mut_ptr());
        // SAFETY: an import writes the tag, and the side that the tag names.
        unsafe {
            let Expected { is_err, side } = result.assume_init();
            if is_err {
                Err(side.err)
            } else {
                Ok(side.ok)
            }
        }
    }
}

impl<T: Copy, E: Copy> From<Result<T, E>> for Expected<T, E> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(ok) => Expected { is_err: false, side: Side { ok } },
            Err(err) => Expected { is_err: true, side: Side { err } },
        }
    }
}
