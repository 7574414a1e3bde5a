//! The first instructions: from what a loader leaves behind to 64-bit code with a stack, and on to Rust.
//!
//! There are two ways in, which the notes name:
//! - PVH (QEMU's `-kernel`, Firecracker, Cloud Hypervisor): 32-bit protected mode without paging, the address of the
//!   start information in ebx. Xen's `docs/misc/pvh.pandoc` is the specification.
//! - Hermit's entry, version 4 (uhyve, Hermit's loader): 64-bit mode on the loader's page tables, the address of the boot
//!   information in rdi. The crate `hermit-entry` is the specification.
//!
//! Both go on with page tables that map the first GiB where it is, for as long as [`crate::memory`] has none of its own.
//! Only general registers are used before [`crate::cpu::init`]: code for this target has no others.
use core::arch::global_asm;

global_asm!(
    r#"
.section .note.boot, "a", @note
.balign 4
    // XEN_ELFNOTE_PHYS32_ENTRY
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_start
    // Version 4 of Hermit's entry
    .long 7, 1, 0x5a00
    .ascii "HERMIT\0\0"
    .byte 4, 0, 0, 0
    // Version 1 of uhyve's interface (a number of big end first): hypercalls take addresses below 4 GiB
    .long 8, 4, 0x5b00
    .ascii "UHYVEIF\0"
    .byte 0, 0, 0, 1
    // The operating system (6 is Hermit), and a version of it, without which its loaders refuse a kernel
    .long 4, 16, 1
    .asciz "GNU"
    .long 6, 0, 13, 2

// Fills the page tables, which lie among what the file has no bytes of; in code of 32 and of 64 bits.
.macro fill_boot_tables
    mov edi, offset boot_pml4
    mov dword ptr [edi], offset boot_pdpt + 3           // present, writable
    mov dword ptr [edi + 4096], offset boot_pd + 3
    add edi, 8192                                       // boot_pd
    mov eax, 0x83                                       // present, writable, of 2 MiB
    mov ecx, 512
2:
    mov dword ptr [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 2b
.endm

.section .text.boot, "ax", @progbits
.code32
.global pvh_start
pvh_start:
    cli
    cld
    mov esp, offset boot_stack_top
    fill_boot_tables
    mov eax, offset boot_pml4
    mov cr3, eax
    mov eax, cr4
    or eax, 0x20                    // physical address extension
    mov cr4, eax
    mov ecx, 0xc0000080             // EFER
    rdmsr
    or eax, 0x100                   // long mode
    wrmsr
    mov eax, cr0
    or eax, 0x80000001              // paging, protection
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    push 8
    mov eax, offset pvh_long
    push eax
    retf
.code64
pvh_long:
    mov edi, ebx
    lea rsi, [rip + {pvh}]
    jmp boot_long

.global hermit_start
hermit_start:
    cli
    cld
    lea rsp, [rip + boot_stack_top]
    mov rdx, rdi                    // the boot information
    fill_boot_tables
    mov rdi, rdx
    lea rax, [rip + boot_pml4]
    mov cr3, rax
    lgdt [rip + boot_gdt_pointer]
    lea rsi, [rip + {hermit}]
    push 8
    lea rax, [rip + boot_long]
    push rax
    retfq

boot_long:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp                    // where a chain of stack frames ends
    call rsi
    ud2

.section .data.boot, "aw", @progbits
.balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff     // none, code of 64 bits, data
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .quad boot_gdt

.section .bss.boot, "aw", @nobits
.balign 4096
.global boot_tables
boot_tables:
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pd:
    .skip 4096
.global boot_tables_end
boot_tables_end:

.global boot_stack_guard
boot_stack_guard:
    .skip 4096
.global boot_stack
boot_stack:
    .skip {stack}
.global boot_stack_top
boot_stack_top:
"#,
    pvh = sym super::pvh::start,
    hermit = sym super::hermit::start,
    stack = const super::STACK_BYTES,
);
