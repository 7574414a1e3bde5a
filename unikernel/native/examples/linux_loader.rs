//! Loads an image as Firecracker and Cloud Hypervisor do, with their loader: `linux_loader IMAGE MEMORY` says what that
//! finds, and writes the machine's memory from 1 MiB to the image's end to a file.
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{KernelLoader, KernelLoaderResult};
use std::fs::File;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const MEMORY: usize = 64 << 20;
/// Below it there is no place for a kernel in their machines.
const HIGH_MEMORY: GuestAddress = GuestAddress(1 << 20);

fn main() {
    let [image, memory] = [1, 2].map(|number| std::env::args().nth(number).expect("paths of an image and of a file"));
    let machine: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).expect("memory");
    let mut image = File::open(image).expect("an image");
    let loaded = Elf::load(&machine, None, &mut image, Some(HIGH_MEMORY)).expect("an image that the loader takes");
    let KernelLoaderResult { kernel_load, kernel_end, pvh_boot_cap, .. } = loaded;
    let PvhBootCapability::PvhEntryPresent(entry) = pvh_boot_cap else { panic!("{pvh_boot_cap}") };
    println!("start {}", kernel_load.0);
    println!("entry {}", entry.0);
    println!("end {kernel_end}");
    let mut written = vec![0; (kernel_end - HIGH_MEMORY.0) as usize];
    machine.read_slice(&mut written, HIGH_MEMORY).expect("memory up to the image's end");
    std::fs::write(memory, written).expect("a file");
}
