//! A device as it is found: what it is, its queues, its interrupts.

use super::pci::{self, Pci};
use super::ring::{Broken, Ring};
use super::words::Place;
use crate::cpu::interrupts;
use crate::memory;
use alloc::vec::Vec;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport as _};

pub(super) struct Device {
    transport: Transport,
    line: u8,
}

enum Transport {
    Mmio(MmioTransport<'static>),
    Pci(Pci),
}

/// Calls a method of the transport, whichever that is.
macro_rules! transport {
    ($device:expr, $transport:ident => $call:expr) => {
        match &mut $device.transport {
            Transport::Mmio($transport) => $call,
            Transport::Pci($transport) => $call,
        }
    };
}

/// `VIRTIO_F_VERSION_1`: the device follows version 1 of the standard.
pub(super) const VERSION_1: u64 = 1 << 32;
const PAGE: u32 = 4096;

/// All devices: those that the command line names, or else those on the PCI bus.
pub(super) fn find(words: impl Iterator<Item: AsRef<str>>) -> Vec<Device> {
    let places: Vec<Place> = words.filter_map(|word| Place::from_word(word.as_ref())).collect();
    if places.is_empty() {
        let devices = pci::find(pci::Ports, memory::map_device).into_iter();
        return devices.map(|(pci, line)| Device { transport: Transport::Pci(pci), line }).collect();
    }
    places.into_iter().filter_map(mmio).collect()
}

/// None where no device is plugged in.
fn mmio(place: Place) -> Option<Device> {
    let registers = memory::map_device(place.address, place.size).cast();
    // SAFETY: the machine's command line says that the registers of a device are there, and a place is aligned.
    let transport = unsafe { MmioTransport::new(registers, place.size) }.ok()?;
    Some(Device { transport: Transport::Mmio(transport), line: place.line })
}

impl Device {
    pub(super) fn kind(&mut self) -> DeviceType {
        transport!(self, transport => transport.device_type())
    }

    /// Resets the device and takes those of the features that it has (Virtio 1.2, 3.1.1). Gives which.
    pub(super) fn begin(&mut self, features: u64) -> Result<u64, Broken> {
        transport!(self, transport => {
            // One bit after the other: uhyve insists on it.
            let mut status = DeviceStatus::empty();
            transport.set_status(status);
            for step in [DeviceStatus::ACKNOWLEDGE, DeviceStatus::DRIVER] {
                status |= step;
                transport.set_status(status);
            }
            let common = transport.read_device_features() & (features | VERSION_1);
            transport.write_driver_features(common);
            status |= DeviceStatus::FEATURES_OK;
            transport.set_status(status);
            let legacy = transport.requires_legacy_layout();
            if !legacy && !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
                return Err(Broken);
            }
            transport.set_guest_page_size(PAGE);
            Ok(common)
        })
    }

    /// Sets a queue up.
    pub(super) fn ring<const SIZE: usize>(&mut self, index: u16) -> Result<Ring<SIZE>, Broken> {
        let eager = matches!(&self.transport, Transport::Pci(pci) if pci.is_forgetful());
        transport!(self, transport => Ring::new(transport, index, eager))
    }

    /// Lets the device begin, and has its interrupts call `handler`, in the interrupt.
    pub(super) fn finish(&mut self, handler: fn()) -> Result<(), Broken> {
        match &mut self.transport {
            Transport::Pci(pci) if pci.sends_messages() => {
                let message = interrupts::register_message(handler).map_err(|_| Broken)?;
                pci.send(message.address, message.data)?;
            }
            _ => interrupts::register(self.line, handler).map_err(|_| Broken)?,
        }
        self.finish_silent();
        Ok(())
    }

    /// Lets a device begin that never interrupts, as none of its queues wants it to.
    pub(super) fn finish_silent(&mut self) {
        transport!(self, transport => transport.finish_init());
    }

    /// Tells the device of what was added to a queue, where it wants to know.
    pub(super) fn notify<const SIZE: usize>(&mut self, index: u16, ring: &mut Ring<SIZE>) {
        if ring.take_pending() {
            transport!(self, transport => transport.notify(index));
        }
    }

    /// Has the device take its interrupt back, and lets the next one come.
    pub(super) fn acknowledge(&mut self) {
        transport!(self, transport => transport.ack_interrupt());
        interrupts::open(self.line);
    }

    /// Reads bytes of the device's own configuration.
    pub(super) fn config(&mut self, offset: usize, into: &mut [u8]) -> Result<(), Broken> {
        transport!(self, transport => {
            for (index, byte) in into.iter_mut().enumerate() {
                *byte = transport.read_config_space::<u8>(offset + index).map_err(|_| Broken)?;
            }
            Ok(())
        })
    }
}
