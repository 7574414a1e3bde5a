//! PCI configuration mechanism 1, through the ports 0xCF8 and 0xCFC (PCI Local Bus Specification 3.0, 3.2.2.3.2).

use crate::cpu::port;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

#[derive(Clone)]
pub(in crate::virtio) struct Ports;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

impl Ports {
    fn select(&self, function: DeviceFunction, register: u8) {
        let place =
            u32::from(function.bus) << 16 | u32::from(function.device) << 11 | u32::from(function.function) << 8;
        // SAFETY: the port only selects what the other one reads or writes.
        unsafe { port::write_u32(CONFIG_ADDRESS, 1 << 31 | place | u32::from(register & 0xfc)) };
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        self.select(function, register);
        // SAFETY: reading a configuration register changes nothing.
        unsafe { port::read_u32(CONFIG_DATA) }
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, value: u32) {
        self.select(function, register);
        // SAFETY: the command register, places of registers and the switch of MSI-X alone are written, and devices write
        // to no memory before they are given queues, and messages to send.
        unsafe { port::write_u32(CONFIG_DATA, value) };
    }

    unsafe fn unsafe_clone(&self) -> Ports {
        Ports
    }
}
