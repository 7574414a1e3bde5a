//! Trials of the memory: what may be done with it, and who gets it.
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::black_box;

use wasmtime::{CustomCodeMemory, LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

use super::say;
use crate::memory::{code, forget_shortage, free, guests, is_short, stacks};

const PAGE: usize = 4096;
const WASM_PAGE: usize = 64 << 10;
const STACK: usize = 640 << 10;

pub fn read(address: usize) -> u8 {
    // SAFETY: it ends the machine where it is not to be read.
    unsafe { (address as *const u8).read_volatile() }
}

pub fn write(address: usize) {
    // SAFETY: it ends the machine where it is not to be written to.
    unsafe { (address as *mut u8).write_volatile(0) }
}

/// A function whose code is one byte long: `ret`.
#[repr(C, align(4096))]
struct Code([u8; PAGE]);
const RETURN: u8 = 0xc3;

static CONSTANT: Code = Code([RETURN; PAGE]);

fn call(code: *const u8) {
    // SAFETY: these bytes are a function, and it ends the machine where they are not to be executed.
    unsafe { core::mem::transmute::<*const u8, extern "C" fn()>(code)() }
}

pub fn write_code() {
    write(call as *const () as usize);
}

pub fn write_constant() {
    write(black_box(&raw const CONSTANT) as usize);
}

pub fn execute_constant() {
    call(black_box((&raw const CONSTANT).cast()));
}

pub fn execute_heap() {
    call(black_box(Box::new(CONSTANT.0)).as_ptr());
}

/// Code can be called when it has been published, and isn't written to then.
pub fn publish() {
    let code = Box::leak(Box::new(Code([RETURN; PAGE])));
    code::Publisher.publish_executable(code.0.as_ptr(), PAGE).expect("code is published");
    call(code.0.as_ptr());
    say(format_args!("published code was called"));
    code::Publisher.unpublish_executable(code.0.as_ptr(), PAGE).expect("code is taken back");
    code.0[0] = 0;
    code::Publisher.publish_executable(code.0.as_ptr(), PAGE).expect("code is published");
    say(format_args!("written to when it was taken back"));
    write(black_box(code.0.as_ptr()) as usize);
}

fn stack() -> Box<dyn StackMemory> {
    stacks::Creator.new_stack(STACK, true).expect("there is memory for a stack")
}

/// A stack is zeros, gets its pages when they're touched, and gives them back.
pub fn stacks() {
    drop(stack()); // with the page tables that stay
    let before = free();
    let stack = stack();
    let zeros = |range: core::ops::Range<usize>| range.step_by(8).all(|at| read(at) == 0);
    say(format_args!("a new stack took {} KiB, and is zeros: {}", (before - free()) >> 10, zeros(stack.range())));
    say(format_args!("all of it takes {} KiB", (before - free()) >> 10));
    stack.range().step_by(64).for_each(|at| {
        // SAFETY: nobody uses this stack.
        unsafe { (at as *mut u8).write(1) }
    });
    drop(stack);
    say(format_args!("given back, {} KiB are kept", (before - free()) >> 10));
    let stack = self::stack();
    say(format_args!("the next one is zeros: {}", zeros(stack.range())));
    let mut all = Vec::new();
    while let Ok(stack) = stacks::Creator.new_stack(STACK, false) {
        all.push(stack);
    }
    let error = stacks::Creator.new_stack(STACK, false).map(|_| ()).expect_err("all memory is taken");
    say(format_args!("{} stacks, then: {error}", all.len()));
    say(format_args!("more than 100 stacks: {}", all.len() > 100));
}

/// Writes below a stack.
pub fn guard() {
    let stack = stack();
    write(stack.range().start);
    say(format_args!("the last byte of the stack was written"));
    write(stack.range().start - 1);
}

fn guest(bytes: usize) -> Result<Box<dyn LinearMemory>, alloc::string::String> {
    guests::Creator.new_memory(MemoryType::new(1, None), bytes, None, Some(0), 0)
}

fn bytes(memory: &dyn LinearMemory) -> &mut [u8] {
    // SAFETY: nobody else uses the trial's memory.
    unsafe { core::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
}

/// A guest's memory is zeros, also where another one was; it takes what is touched; it stays where it is when it grows; a
/// lack of memory is an error of its own, and what was taken is there again afterwards.
pub fn guests() {
    let before = free();
    let mut memory = guest(256 * WASM_PAGE).expect("16 MiB that aren't touched take nothing");
    let at = memory.as_ptr();
    let zeros = bytes(&*memory)[..2 * WASM_PAGE].iter().all(|&byte| byte == 0);
    say(format_args!("16 MiB: zeros {zeros}, took {} KiB", (before - free()) >> 10));
    bytes(&*memory)[..2 * WASM_PAGE].fill(0xaa);
    memory.grow_to(260 * WASM_PAGE).expect("there is memory");
    let kept = bytes(&*memory)[..2 * WASM_PAGE].iter().all(|&byte| byte == 0xaa);
    let zeros = bytes(&*memory)[256 * WASM_PAGE..].iter().all(|&byte| byte == 0);
    say(format_args!("grown: at the same address {}, kept {kept}, zeros {zeros}", memory.as_ptr() == at));
    bytes(&*memory)[256 * WASM_PAGE..].fill(0xbb);
    drop(memory);
    let mut memory = guest(WASM_PAGE).expect("there is memory");
    memory.grow_to(6 * WASM_PAGE).expect("there is memory");
    let zeros = bytes(&*memory).iter().all(|&byte| byte == 0);
    say(format_args!("again: at the same address {}, zeros {zeros}", memory.as_ptr() == at));
    let before = free();
    let error = memory.grow_to(4 << 30).expect_err("there is no such memory");
    say(format_args!("growing to 4 GiB: {error}"));
    say(format_args!("nothing was lost: {}", before == free()));
    drop(memory);
    let mut all = Vec::with_capacity(10_000);
    let fill = |all: &mut Vec<Box<dyn LinearMemory>>| loop {
        match guest(WASM_PAGE) {
            Ok(memory) => {
                bytes(&*memory).fill(1);
                all.push(memory);
            }
            Err(error) => break error,
        }
    };
    let error = fill(&mut all);
    say(format_args!("at the end: {error}"));
    let count = all.len();
    all.clear();
    fill(&mut all);
    say(format_args!("more than 50: {}, as many again: {}", count > 50, count == all.len()));
    all.clear();
    let large = Vec::<u8>::with_capacity(free() as usize / 2);
    say(format_args!("what was kept went to the heap: {}", large.capacity() > 0));
}

/// Touches more than there is of what a memory has from the start: the machine is short of memory then, and goes on.
pub fn touch_too_much() {
    let stack = stack();
    for round in 1..=2 {
        let memory = guest(512 * WASM_PAGE).expect("32 MiB that aren't touched take nothing");
        forget_shortage();
        let (first, others) = bytes(&*memory).split_at_mut(WASM_PAGE);
        let zeros = first.iter().chain(&others[others.len() - WASM_PAGE..]).all(|&byte| byte == 0);
        first.fill(1);
        say(format_args!("round {round}: zeros {zeros}, short {}", is_short()));
        others.fill(2);
        let kept = first.iter().all(|&byte| byte == 1);
        say(format_args!("all touched: short {}, kept {kept}", is_short()));
        say(format_args!("left for stacks and the heap: {} KiB", free() >> 10));
        say(format_args!("another instance begins: {}", guest(WASM_PAGE).is_ok()));
    }
    let memory = guest(512 * WASM_PAGE).expect("32 MiB that aren't touched take nothing");
    bytes(&*memory).fill(1);
    forget_shortage();
    write(stack.range().start);
    say(format_args!("a stack grows by a page: short {}", is_short()));
    stack.range().step_by(PAGE).for_each(write);
    say(format_args!("all of it is used: short {}", is_short()));
    forget_shortage();
    drop(stack);
    let heap = Vec::<u8>::with_capacity(256 << 10);
    say(format_args!("the heap grows by 256 KiB: short {}", is_short()));
    let more = Vec::<u8>::with_capacity(256 << 10);
    say(format_args!("and again: {}, short {}", heap.capacity() + more.capacity() >= 512 << 10, is_short()));
}

/// Touches what a memory doesn't have.
pub fn beyond_a_guest() {
    let memory = guest(WASM_PAGE).expect("there is memory");
    write(memory.as_ptr() as usize + WASM_PAGE - 1);
    say(format_args!("the last byte of the memory was written"));
    write(memory.as_ptr() as usize + WASM_PAGE);
}

/// The heap gives back what isn't used any more.
pub fn heap() {
    let before = free();
    let many: Vec<Box<[u8]>> = (0..100).map(|_| alloc::vec![1; 20_000].into_boxed_slice()).collect();
    say(format_args!("the heap grew by at least 2000 KB: {}", before - free() >= 2_000_000));
    drop(many);
    say(format_args!("it kept at most 64 KiB: {}", before - free() <= 64 << 10));
    let try_much = Vec::<u8>::new().try_reserve(1 << 30);
    say(format_args!("too much can be asked for: {}", try_much.is_err()));
    let mut all = Vec::new();
    loop {
        all.push(Box::new([1u8; 1 << 16]));
    }
}
