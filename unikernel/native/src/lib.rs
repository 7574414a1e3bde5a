//! The native machine: one WebAssembly application, and nothing else, on a processor of its own.
//!
//! README.md has the folders in reading order. Those that touch the machine are built for `x86_64-unknown-none` alone;
//! the others are also built with the feature `std`, so that they are tested and fuzzed as an ordinary program.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod bindings;
#[allow(unsafe_code)]
pub mod boot;
pub mod capabilities;
#[allow(unsafe_code)]
#[cfg(target_os = "none")]
pub mod cpu;
pub mod host;
#[allow(unsafe_code)]
pub mod memory;
pub mod net;
#[allow(unsafe_code)]
pub mod virtio;
