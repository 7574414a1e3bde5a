//! The kernel with trials of the machine in an application's place: `cpu::trials`.
#![no_std]
#![no_main]

use slight_machine as _;
