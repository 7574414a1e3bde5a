//! Devices of the machine, by the ways that lead to them.

use super::Device;
use crate::cpu::interrupts;
use crate::memory;
use crate::virtio::pci::{self, Pci};
use crate::virtio::ring::Broken;
use crate::virtio::words::Place;
use alloc::vec::Vec;
use virtio_drivers::transport::mmio::MmioTransport;

/// The way to a device, with the line that it interrupts by.
pub(in crate::virtio) enum Transport {
    Mmio(MmioTransport<'static>, u8),
    Pci(Pci, u8),
}

/// Calls a method of the transport, whichever that is.
macro_rules! transport {
    ($device:expr, $transport:ident => $call:expr) => {
        match &mut $device.transport {
            Transport::Mmio($transport, _) => $call,
            Transport::Pci($transport, _) => $call,
        }
    };
}
pub(super) use transport;

/// All devices: those that the command line names, or else those on the PCI bus.
pub(in crate::virtio) fn find(words: impl Iterator<Item: AsRef<str>>) -> Vec<Device> {
    let places: Vec<Place> = words.filter_map(|word| Place::from_word(word.as_ref())).collect();
    if places.is_empty() {
        let devices = pci::find(pci::Ports, memory::map_device).into_iter();
        return devices.map(|(pci, line)| Device::new(Transport::Pci(pci, line))).collect();
    }
    places.into_iter().filter_map(mmio).collect()
}

/// None where no device is plugged in.
fn mmio(place: Place) -> Option<Device> {
    let registers = memory::map_device(place.address, place.size).cast();
    // SAFETY: the machine's command line says that the registers of a device are there, and a place is aligned.
    let transport = unsafe { MmioTransport::new(registers, place.size) }.ok()?;
    Some(Device::new(Transport::Mmio(transport, place.line)))
}

impl Transport {
    pub(super) fn is_forgetful(&self) -> bool {
        matches!(self, Transport::Pci(pci, _) if pci.is_forgetful())
    }

    /// Has the device's interrupts call `handler`.
    pub(super) fn listen(&mut self, handler: fn()) -> Result<(), Broken> {
        match self {
            Transport::Pci(pci, _) if pci.sends_messages() => {
                let message = interrupts::register_message(handler).map_err(|_| Broken)?;
                pci.send(message.address, message.data)
            }
            Transport::Mmio(_, line) | Transport::Pci(_, line) => {
                interrupts::register(*line, handler).map_err(|_| Broken)
            }
        }
    }

    /// Lets the next interrupt come.
    pub(super) fn open(&self) {
        match self {
            Transport::Pci(pci, _) if pci.sends_messages() => {}
            Transport::Mmio(_, line) | Transport::Pci(_, line) => interrupts::open(*line),
        }
    }
}
