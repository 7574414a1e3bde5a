//! Enters the kernel again through Hermit's entry, as uhyve leaves a processor: `trial=hermit` with what the command line
//! says behind it. uhyve itself takes KVM, which tests don't have everywhere.
use core::arch::asm;

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

use crate::cpu::unshared::Unshared;

/// Version 4 of Hermit's boot information, as the crate `hermit-entry` lays it out for its platform 3, a device tree. (It
/// makes one with its feature `loader` alone, which needs an operating system.)
#[repr(C)]
struct BootInformation {
    memory_start: u64,
    memory_end: u64,
    serial_port: u16,
    device_tree: u64,
    image: [u64; 2],
    thread_local_storage: [u64; 4],
    platform: u32,
    of_platform: [u64; 5],
}

const DEVICE_TREE: u32 = 3;
const MEMORY_END: u64 = 16 << 20;

static INFORMATION: Unshared<BootInformation> = Unshared::new(BootInformation {
    memory_start: 0,
    memory_end: MEMORY_END,
    serial_port: super::super::console::COM1,
    device_tree: 0,
    image: [0; 2],
    thread_local_storage: [0; 4],
    platform: DEVICE_TREE,
    of_platform: [0; 5],
});

#[repr(C, align(8))]
struct Tree([u8; 512]);

static TREE: Unshared<Tree> = Unshared::new(Tree([0; 512]));

unsafe extern "C" {
    fn hermit_start() -> !;
}

/// Enters again, where the command line asks for it. Nothing has been set up yet.
pub fn enter_if_asked(command_line: &str) {
    let Some(rest) = command_line.strip_prefix("trial=hermit ") else { return };
    // SAFETY: nothing else uses these yet.
    let (information, tree) = unsafe { (INFORMATION.get(), TREE.get()) };
    write_device_tree(&mut tree.0, rest.as_bytes());
    information.device_tree = TREE.address();
    // SAFETY: this is the state in which uhyve 0.10 enters a kernel (its `linux/x86_64/kvm_cpu.rs`, `setup_long_mode`):
    // protection and paging, physical address extension, long mode and no execution; all else is off.
    unsafe {
        Cr4::write_raw(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits());
        Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE));
        let flags =
            Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::EXTENSION_TYPE | Cr0Flags::NUMERIC_ERROR | Cr0Flags::PAGING;
        Cr0::write_raw(flags.bits());
        asm!(
            "xor esi, esi",
            "jmp {entry}",
            entry = sym hermit_start,
            in("rdi") INFORMATION.address(),
            options(noreturn),
        )
    }
}

/// Writes a device tree that has a command line and nothing else: chapter 5 of its specification, version 0.4.
fn write_device_tree(into: &mut [u8; 512], command_line: &[u8]) {
    const HEADER_BYTES: usize = 40;
    const RESERVATIONS_BYTES: usize = 16;
    const STRINGS: &[u8] = b"bootargs\0";
    const BEGIN: u32 = 1;
    const END: u32 = 2;
    const PROPERTY: u32 = 3;
    const LAST: u32 = 9;

    let mut at = HEADER_BYTES + RESERVATIONS_BYTES;
    let mut put = |bytes: &[u8]| {
        into[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len().next_multiple_of(4);
        at
    };
    let structure = HEADER_BYTES + RESERVATIONS_BYTES;
    for word in [BEGIN, 0, BEGIN] {
        put(&word.to_be_bytes());
    }
    put(b"chosen\0");
    for word in [PROPERTY, command_line.len() as u32 + 1, 0] {
        put(&word.to_be_bytes());
    }
    put(command_line);
    if command_line.len() % 4 == 0 {
        put(&[0]); // what ends the text, which otherwise is the padding
    }
    for word in [END, END, LAST] {
        put(&word.to_be_bytes());
    }
    let strings = put(&[]);
    let total = put(STRINGS);
    let header = [0xd00d_feed, total, structure, strings, HEADER_BYTES, 17, 16, 0, STRINGS.len(), strings - structure];
    for (index, word) in header.into_iter().enumerate() {
        into[index * 4..index * 4 + 4].copy_from_slice(&(word as u32).to_be_bytes());
    }
}
