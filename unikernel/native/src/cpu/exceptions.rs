//! Exceptions of the processor: mistakes of the kernel, for guests' are found by what their code checks. Each gives one
//! line, and ends the machine.
use x86_64::registers::control::Cr2;

use super::vectors::Frame;
use super::{PANIC_CODE, console, shutdown};
use crate::memory;

const PAGE_FAULT: u64 = 14;

/// Intel's manual, volume 3, table 6-1.
const NAMES: [&str; 22] = [
    "division by zero",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid instruction",
    "no floating point",
    "double fault",
    "coprocessor overrun",
    "invalid task state segment",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "reserved exception",
    "floating-point error",
    "misaligned access",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
];

pub(super) fn handle(frame: &Frame) {
    let Frame { vector, error, instruction, stack, .. } = frame;
    let name = NAMES.get(*vector as usize).unwrap_or(&"reserved exception");
    if *vector == PAGE_FAULT {
        let address = Cr2::read_raw();
        if memory::page_fault(address, *error) {
            return;
        }
        let name = if memory::is_stack_guard(address) { "stack overflow" } else { name };
        console::line(format_args!(
            "panic: {name} (exception {vector}) at {instruction:#x}, address {address:#x}, error {error:#x}, stack {stack:#x}"
        ));
    } else {
        console::line(format_args!(
            "panic: {name} (exception {vector}) at {instruction:#x}, error {error:#x}, stack {stack:#x}"
        ));
    }
    shutdown(PANIC_CODE)
}
