//! The table of interrupts, and the way from the processor's interrupt to Rust and back.
use core::arch::global_asm;

use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::segments::InterruptStack;
use super::unshared::Unshared;
use super::{apic, exceptions, interrupts};

/// Vectors 0 to 31 are exceptions of the processor.
const EXCEPTIONS: usize = 32;
const DOUBLE_FAULT: usize = 8;
/// The vector of the first input of the IOAPIC.
pub(super) const DEVICES: u8 = 32;
/// The vector of the timer.
pub(super) const TIMER: u8 = 56;
/// The vector of interrupts that were withdrawn before they were accepted.
pub(super) const SPURIOUS: u8 = 63;
const COUNT: usize = 64;

/// Bytes from one vector's entry to the next one's.
const ENTRY_BYTES: u64 = 16;

// The registers that a function may change are saved, and no others: the kernel has no floating point, so what a guest
// has in those registers stays there.
global_asm!(
    r#"
.section .text.interrupts, "ax", @progbits
.balign 16
interrupt_entries:
.set vector, 0
.rept {count}
    .balign {entry}
    .if ((0x60227d00 >> vector) & 1) == 0       // the exceptions for which the processor pushes an error code
    push 0
    .endif
    push vector
    jmp interrupt_common
    .set vector, vector + 1
.endr

interrupt_common:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    cld
    mov rdi, rsp
    call {handle}
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq
"#,
    count = const COUNT,
    entry = const ENTRY_BYTES,
    handle = sym handle,
);

unsafe extern "C" {
    static interrupt_entries: u8;
}

/// What is on the stack when `handle` is called.
#[repr(C)]
pub(super) struct Frame {
    saved: [u64; 9],
    pub vector: u64,
    pub error: u64,
    pub instruction: u64,
    code_segment: u64,
    flags: u64,
    pub stack: u64,
    stack_segment: u64,
}

extern "C" fn handle(frame: &Frame) {
    match frame.vector as u8 {
        TIMER => {
            apic::end_of_interrupt();
            super::clock::timer();
        }
        SPURIOUS => {}
        vector if vector >= DEVICES => {
            interrupts::handle(vector - DEVICES);
            apic::end_of_interrupt();
        }
        _ => exceptions::handle(frame),
    }
}

/// An entry of the table: Intel's manual, volume 3, 6.14.1.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate(u64, u64);

const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
const CODE_SEGMENT: u64 = 8 << 16;

static TABLE: Unshared<[Gate; COUNT]> = Unshared::new([Gate(0, 0); COUNT]);

/// Loads the table of interrupts. To be called once, when segments are loaded.
pub(super) fn load() {
    // SAFETY: this is called once, and nobody else uses it.
    let table = unsafe { TABLE.get() };
    for (vector, gate) in table.iter_mut().enumerate() {
        let stack = match vector {
            DOUBLE_FAULT => InterruptStack::DoubleFault,
            ..EXCEPTIONS => InterruptStack::Exceptions,
            _ => InterruptStack::Devices,
        };
        let entry = (&raw const interrupt_entries) as u64 + vector as u64 * ENTRY_BYTES;
        let low = entry & 0xffff | CODE_SEGMENT | (stack as u64) << 32 | PRESENT_INTERRUPT_GATE;
        *gate = Gate(low | (entry >> 16 & 0xffff) << 48, entry >> 32);
    }
    let limit = (size_of::<[Gate; COUNT]>() - 1) as u16;
    // SAFETY: the gates lead to the entries above, on stacks that `segments` has made.
    unsafe { lidt(&DescriptorTablePointer { limit, base: VirtAddr::new(TABLE.address()) }) };
}
