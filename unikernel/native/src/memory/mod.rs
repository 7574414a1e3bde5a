//! Memory: frames, page tables, the heap, stacks with guard pages, memories of guests, code.
//!
//! All RAM is mapped where it is, to be read and written, but for the kernel's code and constants, and the application:
//! so heap and statics have their physical addresses. Memories of guests and stacks of tasks lie in ranges of their own:
//!
//! | from | |
//! | --- | --- |
//! | 0 | RAM and devices, where they are; the first page is missing |
//! | 512 GiB | stacks of tasks, one in each MiB |
//! | 768 GiB | registers of devices whose addresses are larger than 512 GiB |
//! | 1 TiB | memories of guests, one in each 4 GiB |
//!
//! Nothing is mapped to be written and executed.

#[cfg(target_os = "none")]
pub mod code;
#[cfg(target_os = "none")]
mod devices;
pub mod frames;
#[cfg(target_os = "none")]
pub mod guests;
#[cfg(target_os = "none")]
mod heap;
pub mod modules;
#[cfg(target_os = "none")]
mod ram;
pub mod slots;
#[cfg(target_os = "none")]
pub mod stacks;
pub mod tables;
mod tls;

#[cfg(target_os = "none")]
pub use devices::map_device;
#[cfg(target_os = "none")]
pub use ram::{
    add_low_memory, explain, forget_shortage, free, has_room, image_end, init, is_short, is_stack_guard, page_fault,
    physical,
};
