//! The kernel. All of it is in the library, whose `boot` is where the linker begins.
#![cfg_attr(not(feature = "std"), no_std, no_main)]

#[cfg(not(feature = "std"))]
use slight_machine as _;

/// Tests of the library build this as well, with an operating system below it.
#[cfg(feature = "std")]
fn main() {
    eprintln!("this program is a kernel: build it for x86_64-unknown-none, without the feature std");
    std::process::exit(2);
}
