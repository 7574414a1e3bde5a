//! Loads an image as uhyve does, with the loader of the Hermit project, and says what it finds: `hermit_loader IMAGE`.
use hermit_entry::elf::KernelObject;
use std::mem::MaybeUninit;

fn main() {
    let path = std::env::args().nth(1).expect("the path of an image");
    let file = std::fs::read(path).expect("an image");
    let object = KernelObject::parse(&file).expect("an image that the loader takes");
    let start = object.start_addr().expect("an image that is loaded at one address");
    let mut memory = vec![MaybeUninit::<u8>::uninit(); object.mem_size()];
    let loaded = object.load_kernel(&mut memory, start);
    println!("start {start}");
    println!("end {}", start + memory.len() as u64);
    println!("entry {}", loaded.entry_point);
    println!("interface {:?}", object.uhyve_interface_version().map(|version| version.0));
}
