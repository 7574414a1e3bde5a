//! The kernel. All of it is in the library, whose `boot` is where the linker begins.
#![no_std]
#![no_main]

use slight_machine as _;
