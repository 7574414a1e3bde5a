//! What guest and host share: blocks of the guest's memory, and how values lie in them.
//!
//! The other modules of these bindings find this one beside them. Memory changes hands in three ways:
//!
//! - a value is *lent* to an import as its argument: it stays the guest's, and the host copies it before it returns;
//! - a value is *taken* that the host hands over, the result of an import or an argument of an export: its strings and
//!   lists lie in blocks that the host asked `canonical_abi_realloc` for, and the guest frees them;
//! - a value is *given* to the host as the result of an export: the host frees its strings and lists with
//!   `canonical_abi_free`, each with just the size and alignment that it has.
//!
//! A string or list without elements takes no block.

#![allow(dead_code)] // what no interface needs

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
    if old_size == 0 {
        return allocate(new_size, align);
    }
    if new_size == 0 {
        canonical_abi_free(ptr, old_size, align);
        return align as *mut u8;
    }
    let block = realloc(ptr, Layout::from_size_align_unchecked(old_size, align), new_size);
    if block.is_null() {
        handle_alloc_error(Layout::from_size_align_unchecked(new_size, align));
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

/// A block of `size` bytes; one of 0 bytes is an address that nothing lies at.
fn allocate(size: usize, align: usize) -> *mut u8 {
    let layout = Layout::from_size_align(size, align).expect("a size that fits into memory");
    if size == 0 {
        return align as *mut u8;
    }
    // SAFETY: the size is not 0.
    let block = unsafe { alloc(layout) };
    if block.is_null() {
        handle_alloc_error(layout);
    }
    block
}

/// The first multiple of `align`, a power of two, from `offset` on.
const fn align_up(offset: usize, align: usize) -> usize {
    (offset + align - 1) & !(align - 1)
}

const fn max(a: usize, b: usize) -> usize {
    if a > b {
        a
    } else {
        b
    }
}

/// Bytes that a list of `len` elements takes: an element may reach past its size, and so does the last one.
fn list_size<T: Lend>(len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    len.checked_mul(T::SIZE)
        .and_then(|size| size.checked_add(T::EXTENT - T::SIZE))
        .expect("a size that fits into memory")
}

/// A value that can be lent to the host.
///
/// A value need not be aligned: the size of a variant, which is also the stride of a list of them, need not be a
/// multiple of its alignment.
pub(super) trait Lend {
    /// Bytes that a field of this type takes.
    const SIZE: usize;

    /// The alignment that a field of this type has in a record, in bytes.
    const ALIGN: usize;

    /// How many bytes a value reaches over: its size, or more where it is a variant.
    const EXTENT: usize = Self::SIZE;

    /// Writes the value to `at`, with pointers to the strings and lists that it has, or to copies in `loan`.
    ///
    /// # Safety
    ///
    /// From `at` on, `EXTENT` bytes may be written. What is written is good for as long as `self` and `loan` are.
    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan);

    /// The address of the elements, or of a copy in `loan`.
    ///
    /// # Safety
    ///
    /// The address is good for as long as `items` and `loan` are.
    unsafe fn lend_list(items: &[Self], loan: &mut Loan) -> *const u8
    where
        Self: Sized,
    {
        let block = loan.allocate(list_size::<Self>(items.len()), Self::ALIGN);
        for (number, item) in items.iter().enumerate() {
            item.lend(block.add(number * Self::SIZE), loan);
        }
        block
    }
}

/// A value that can change hands.
pub(super) trait Own: Lend + Sized {
    /// Takes over the value at `at`.
    ///
    /// # Safety
    ///
    /// The host handed a value of this type over there, and nothing else takes it.
    unsafe fn take(at: *const u8) -> Self;

    /// Hands the value over to the host, at `at`.
    ///
    /// # Safety
    ///
    /// From `at` on, `EXTENT` bytes may be written.
    unsafe fn give(self, at: *mut u8);

    /// Takes over a list: its elements and its block.
    ///
    /// # Safety
    ///
    /// The host handed such a list over, and nothing else takes it.
    unsafe fn take_list(ptr: *mut u8, len: usize) -> Vec<Self> {
        let items = (0..len).map(|number| Self::take(ptr.add(number * Self::SIZE))).collect();
        canonical_abi_free(ptr, list_size::<Self>(len), Self::ALIGN);
        items
    }

    /// Hands a list over to the host; returns the address of its elements.
    fn give_list(items: Vec<Self>) -> *mut u8 {
        let block = allocate(list_size::<Self>(items.len()), Self::ALIGN);
        for (number, item) in items.into_iter().enumerate() {
            // SAFETY: the block has room for every element.
            unsafe { item.give(block.add(number * Self::SIZE)) };
        }
        block
    }
}

/// See [`Lend::lend`].
pub(super) unsafe fn lend<T: Lend + ?Sized>(value: &T, at: *mut u8, loan: &mut Loan) {
    value.lend(at, loan);
}

/// See [`Lend::lend_list`].
pub(super) unsafe fn lend_list<T: Lend>(items: &[T], loan: &mut Loan) -> *const u8 {
    T::lend_list(items, loan)
}

/// See [`Own::take`].
pub(super) unsafe fn take<T: Own>(at: *const u8) -> T {
    T::take(at)
}

/// See [`Own::take_list`].
pub(super) unsafe fn take_list<T: Own>(ptr: *mut u8, len: usize) -> Vec<T> {
    T::take_list(ptr, len)
}

/// Takes over a string. See [`Own::take_list`].
pub(super) unsafe fn take_string(ptr: *mut u8, len: usize) -> String {
    // SAFETY: strings that the host hands over are UTF-8.
    String::from_utf8_unchecked(take_list(ptr, len))
}

/// See [`Own::give`].
pub(super) unsafe fn give<T: Own>(value: T, at: *mut u8) {
    value.give(at);
}

/// Lends a case of a variant: its tag and, `offset` bytes further, its payload.
pub(super) unsafe fn lend_case<Tag: Own, T: Lend>(tag: Tag, value: &T, offset: usize, at: *mut u8, loan: &mut Loan) {
    tag.give(at);
    value.lend(at.add(offset), loan);
}

/// Gives a case of a variant.
pub(super) unsafe fn give_case<Tag: Own, T: Own>(tag: Tag, value: T, offset: usize, at: *mut u8) {
    tag.give(at);
    value.give(at.add(offset));
}

/// Ends the guest: the host handed over a tag past the last case of `name`.
#[cold]
pub(super) fn unknown_case(name: &str, tag: u32) -> ! {
    panic!("{tag} is not a case of {name}")
}

/// The blocks that hold what is lent for the time of a call.
#[derive(Default)]
pub(super) struct Loan {
    blocks: Vec<(*mut u8, usize, usize)>,
}

impl Loan {
    fn allocate(&mut self, size: usize, align: usize) -> *mut u8 {
        let block = allocate(size, align);
        if size != 0 {
            self.blocks.push((block, size, align));
        }
        block
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        for &(block, size, align) in &self.blocks {
            // SAFETY: so it was allocated.
            unsafe { canonical_abi_free(block, size, align) };
        }
    }
}

/// Memory for a value that a function takes or returns through a pointer.
#[repr(align(8))]
pub(super) struct Area<const SIZE: usize>(MaybeUninit<[u8; SIZE]>);

impl<const SIZE: usize> Area<SIZE> {
    pub(super) const fn uninit() -> Self {
        Area(MaybeUninit::uninit())
    }

    pub(super) fn at(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

// Types that lie in a list of the guest as they do in a list of the host, so that a list is handed over as it is.

macro_rules! plain {
    ($($type:ty, $align:literal;)*) => {
        $(
            impl Lend for $type {
                const SIZE: usize = std::mem::size_of::<$type>();
                const ALIGN: usize = $align;

                unsafe fn lend(&self, at: *mut u8, _: &mut Loan) {
                    self.give(at);
                }

                unsafe fn lend_list(items: &[Self], _: &mut Loan) -> *const u8 {
                    items.as_ptr().cast()
                }
            }

            impl Own for $type {
                unsafe fn take(at: *const u8) -> Self {
                    at.cast::<$type>().read_unaligned()
                }

                unsafe fn give(self, at: *mut u8) {
                    at.cast::<$type>().write_unaligned(self);
                }

                unsafe fn take_list(ptr: *mut u8, len: usize) -> Vec<Self> {
                    match len {
                        0 => Vec::new(),
                        _ => Vec::from_raw_parts(ptr.cast(), len, len),
                    }
                }

                fn give_list(items: Vec<Self>) -> *mut u8 {
                    Box::into_raw(items.into_boxed_slice()).cast()
                }
            }
        )*
    };
}

plain! {
    bool, 1;
    u8, 1;
    i8, 1;
    u16, 2;
    i16, 2;
    u32, 4;
    i32, 4;
    f32, 4;
    char, 4;
    u64, 8;
    i64, 8;
    f64, 8;
}

/// More than 32 flags.
impl<const WORDS: usize> Lend for [u32; WORDS] {
    const SIZE: usize = 4 * WORDS;
    const ALIGN: usize = 4;

    unsafe fn lend(&self, at: *mut u8, _: &mut Loan) {
        self.give(at);
    }
}

impl<const WORDS: usize> Own for [u32; WORDS] {
    unsafe fn take(at: *const u8) -> Self {
        at.cast::<[u32; WORDS]>().read_unaligned()
    }

    unsafe fn give(self, at: *mut u8) {
        at.cast::<[u32; WORDS]>().write_unaligned(self);
    }
}

// Strings and lists: a pointer and a length, 32 bits each.

unsafe fn write_slice(ptr: *const u8, len: usize, at: *mut u8) {
    give(ptr as u32, at);
    give(len as u32, at.add(4));
}

impl<T: Lend> Lend for [T] {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;

    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
        write_slice(T::lend_list(self, loan), self.len(), at);
    }
}

impl<T: Lend> Lend for Vec<T> {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;

    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
        self.as_slice().lend(at, loan);
    }
}

impl<T: Own> Own for Vec<T> {
    unsafe fn take(at: *const u8) -> Self {
        T::take_list(take::<u32>(at) as *mut u8, take::<u32>(at.add(4)) as usize)
    }

    unsafe fn give(self, at: *mut u8) {
        let len = self.len();
        write_slice(T::give_list(self), len, at);
    }
}

impl Lend for str {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;

    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
        self.as_bytes().lend(at, loan);
    }
}

impl Lend for String {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;

    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
        self.as_bytes().lend(at, loan);
    }
}

impl Own for String {
    unsafe fn take(at: *const u8) -> Self {
        take_string(take::<u32>(at) as *mut u8, take::<u32>(at.add(4)) as usize)
    }

    unsafe fn give(self, at: *mut u8) {
        self.into_bytes().give(at);
    }
}

impl<T: Lend + ?Sized> Lend for &T {
    const SIZE: usize = T::SIZE;
    const ALIGN: usize = T::ALIGN;
    const EXTENT: usize = T::EXTENT;

    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
        (**self).lend(at, loan);
    }
}

// Variants: a tag, and the payload at the strictest alignment of all payloads.

impl<T: Lend> Lend for Option<T> {
    const SIZE: usize = align_up(1, T::ALIGN) + T::SIZE;
    const ALIGN: usize = T::ALIGN;
    const EXTENT: usize = align_up(1, T::ALIGN) + T::EXTENT;

    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
        give(self.is_some(), at);
        if let Some(value) = self {
            value.lend(at.add(align_up(1, T::ALIGN)), loan);
        }
    }
}

impl<T: Own> Own for Option<T> {
    unsafe fn take(at: *const u8) -> Self {
        match take::<u8>(at) {
            0 => None,
            1 => Some(take(at.add(align_up(1, T::ALIGN)))),
            tag => unknown_case("option", tag.into()),
        }
    }

    unsafe fn give(self, at: *mut u8) {
        give(self.is_some(), at);
        if let Some(value) = self {
            value.give(at.add(align_up(1, T::ALIGN)));
        }
    }
}

impl<T: Lend, E: Lend> Lend for Result<T, E> {
    const SIZE: usize = max(align_up(1, T::ALIGN) + T::SIZE, align_up(1, E::ALIGN) + E::SIZE);
    const ALIGN: usize = max(T::ALIGN, E::ALIGN);
    const EXTENT: usize = max(Self::SIZE, align_up(1, Self::ALIGN) + max(T::EXTENT, E::EXTENT));

    unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
        give(self.is_err(), at);
        match self {
            Ok(value) => value.lend(at.add(align_up(1, Self::ALIGN)), loan),
            Err(error) => error.lend(at.add(align_up(1, Self::ALIGN)), loan),
        }
    }
}

impl<T: Own, E: Own> Own for Result<T, E> {
    unsafe fn take(at: *const u8) -> Self {
        match take::<u8>(at) {
            0 => Ok(take(at.add(align_up(1, Self::ALIGN)))),
            1 => Err(take(at.add(align_up(1, Self::ALIGN)))),
            tag => unknown_case("expected", tag.into()),
        }
    }

    unsafe fn give(self, at: *mut u8) {
        give(self.is_err(), at);
        match self {
            Ok(value) => value.give(at.add(align_up(1, Self::ALIGN))),
            Err(error) => error.give(at.add(align_up(1, Self::ALIGN))),
        }
    }
}

// Tuples: one item after the other, each aligned.

impl Lend for () {
    const SIZE: usize = 0;
    const ALIGN: usize = 1;

    unsafe fn lend(&self, _: *mut u8, _: &mut Loan) {}
}

impl Own for () {
    unsafe fn take(_: *const u8) -> Self {}

    unsafe fn give(self, _: *mut u8) {}
}

/// What the first items of a tuple take.
struct Items {
    end: usize,
    align: usize,
    extent: usize,
}

impl Items {
    const NONE: Self = Items { end: 0, align: 1, extent: 0 };

    /// These and an item of type `T`.
    const fn and<T: Lend>(self) -> Self {
        let start = align_up(self.end, T::ALIGN);
        Items { end: start + T::SIZE, align: max(self.align, T::ALIGN), extent: max(self.extent, start + T::EXTENT) }
    }

    const fn size(self) -> usize {
        align_up(self.end, self.align)
    }

    /// Where the next item lies, of type `T`.
    fn next<T: Lend>(&mut self) -> usize {
        let start = align_up(self.end, T::ALIGN);
        self.end = start + T::SIZE;
        start
    }
}

macro_rules! tuple {
    ($($item:ident $index:tt),*) => {
        impl<$($item: Lend),*> Lend for ($($item,)*) {
            const SIZE: usize = Items::NONE$(.and::<$item>())*.size();
            const ALIGN: usize = Items::NONE$(.and::<$item>())*.align;
            const EXTENT: usize = max(Self::SIZE, Items::NONE$(.and::<$item>())*.extent);

            unsafe fn lend(&self, at: *mut u8, loan: &mut Loan) {
                let mut items = Items::NONE;
                $(self.$index.lend(at.add(items.next::<$item>()), loan);)*
            }
        }

        impl<$($item: Own),*> Own for ($($item,)*) {
            unsafe fn take(at: *const u8) -> Self {
                let mut items = Items::NONE;
                ($(take::<$item>(at.add(items.next::<$item>())),)*)
            }

            unsafe fn give(self, at: *mut u8) {
                let mut items = Items::NONE;
                $(self.$index.give(at.add(items.next::<$item>()));)*
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
