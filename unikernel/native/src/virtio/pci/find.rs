//! Finding devices by their configuration space, whose every word is checked: it is the device's to fill.

use super::registers::Registers;
use super::{Pci, QUEUES, common};
use alloc::vec::Vec;
use core::ptr::NonNull;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    BarInfo, CapabilityInfo, Command, ConfigurationAccess, DeviceFunction, MemoryBarType, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{
    VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG,
    virtio_device_type,
};

/// Where the word of the header's type is, and that of the interrupt line.
const HEADER_TYPE: u8 = 0x0c;
const INTERRUPT_LINE: u8 = 0x3c;
/// Where the words are that say where registers lie, and what those of 64 bits begin with.
const BARS: u8 = 0x10;
const WIDE_BAR: u32 = 0b100;
/// The capability of interrupts that are messages (PCI Local Bus Specification 3.0, 6.8.2).
const MSI_X: u8 = 0x11;
const MSI_X_ENABLE: u32 = 1 << 31;
const MSI_X_MASK_ALL: u32 = 1 << 30;
/// Bytes of an entry of its table.
const MSI_X_ENTRY: u32 = 16;
/// There is room for no more capabilities: a chain that is longer goes in a circle.
const CAPABILITIES: usize = 48;
/// Where registers go that nobody gave a place: below the IOAPIC, where no RAM is and no firmware puts anything.
const FREE_PLACE: u64 = 0xfe80_0000;
/// Below it lies what PCs have had from the start, and no device's registers.
const LOW_MEMORY_END: u64 = 1 << 20;
/// No processor has larger addresses.
const ADDRESSES_END: u64 = 1 << 52;
const PAGE: u64 = 4096;
/// Registers that are mapped at most: a page for each bell of a queue.
const MOST: u64 = QUEUES as u64 * PAGE;

/// Bus 0, and how registers get to where they can be read and written.
struct Bus<C: ConfigurationAccess, M> {
    root: PciRoot<C>,
    config: C,
    map: M,
    /// Where the next registers go that nobody gave a place.
    free: u64,
}

/// All virtio devices of bus 0, each with its interrupt line. `map` maps registers at a physical address, so many bytes of
/// them, for good.
pub(in crate::virtio) fn find<C: ConfigurationAccess + Clone>(
    config: C,
    map: impl FnMut(u64, usize) -> NonNull<u8>,
) -> Vec<(Pci, u8)> {
    let mut bus = Bus { root: PciRoot::new(config.clone()), config, map, free: FREE_PLACE };
    let functions: Vec<(DeviceFunction, DeviceType)> = bus
        .root
        .enumerate_bus(0)
        .filter_map(|(function, info)| Some((function, virtio_device_type(&info)?)))
        .filter(|(function, _)| function.function == 0 || bus.has_functions(*function))
        .collect();
    functions.into_iter().filter_map(|(function, kind)| bus.device(function, kind)).collect()
}

impl<C: ConfigurationAccess, M: FnMut(u64, usize) -> NonNull<u8>> Bus<C, M> {
    /// Whether a device has more functions than the first. One that hasn't may answer to the others' numbers as well.
    fn has_functions(&self, of: DeviceFunction) -> bool {
        let header = self.config.read_word(DeviceFunction { function: 0, ..of }, HEADER_TYPE);
        header & 1 << 23 != 0
    }

    /// A word of a capability; 0 behind the end of the configuration space.
    fn word(&self, function: DeviceFunction, capability: &CapabilityInfo, offset: u8) -> u32 {
        capability.offset.checked_add(offset).map_or(0, |at| self.config.read_word(function, at))
    }

    /// None for a device that lacks what version 1 of the standard demands.
    fn device(&mut self, function: DeviceFunction, kind: DeviceType) -> Option<(Pci, u8)> {
        let capabilities: Vec<_> = self.root.capabilities(function).take(CAPABILITIES).collect();
        let (mut common, mut notify, mut isr, mut device) = (None, None, None, None);
        let (mut notify_multiplier, mut forgetful) = (0, false);
        for capability in capabilities.iter().filter(|capability| capability.id == PCI_CAP_ID_VNDR) {
            let wanted = match (capability.private_header >> 8) as u8 {
                VIRTIO_PCI_CAP_COMMON_CFG => &mut common,
                VIRTIO_PCI_CAP_NOTIFY_CFG => &mut notify,
                VIRTIO_PCI_CAP_ISR_CFG => &mut isr,
                VIRTIO_PCI_CAP_DEVICE_CFG => &mut device,
                _ => continue,
            };
            // The first of a kind counts (4.1.4.1).
            if wanted.is_some() {
                continue;
            }
            let bar = self.word(function, capability, 4) as u8;
            let (offset, length) = (self.word(function, capability, 8), self.word(function, capability, 12));
            *wanted = self.registers(function, bar, offset, length);
            if (capability.private_header >> 8) as u8 == VIRTIO_PCI_CAP_NOTIFY_CFG {
                notify_multiplier = self.word(function, capability, 16) as usize;
                // By this uhyve is known, which has no name in its registers.
                forgetful = length == 0;
            }
        }
        let common: Registers = common.filter(|common: &Registers| common.length >= common::LENGTH)?;
        let (notify, isr) = (notify?, isr?);
        self.root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER);
        let messages = capabilities.iter().find(|capability| capability.id == MSI_X);
        let message = messages.and_then(|capability| self.message(function, capability));
        let line = self.config.read_word(function, INTERRUPT_LINE) as u8;
        let device = device.unwrap_or(Registers::NONE);
        Some((Pci::new(kind, common, (notify, notify_multiplier), isr, device, message, forgetful), line))
    }

    /// Has the device send messages in place of interrupts by its line. Gives where the first of them is to be written
    /// to, which is masked until then; none where that can't be, and the device keeps to its line.
    fn message(&mut self, function: DeviceFunction, capability: &CapabilityInfo) -> Option<Registers> {
        let table = self.word(function, capability, 4);
        let entry = self.registers(function, (table & 7) as u8, table & !7, MSI_X_ENTRY)?;
        let control = self.word(function, capability, 0);
        self.config.write_word(function, capability.offset, control & !MSI_X_MASK_ALL | MSI_X_ENABLE);
        Some(entry)
    }

    /// Whether what looks like a BAR is the upper half of the one before.
    fn is_upper_half(&self, function: DeviceFunction, bar: u8) -> bool {
        let mut number = 0;
        while number < bar {
            let wide = self.config.read_word(function, BARS + 4 * number) & 0b111 == WIDE_BAR;
            number += if wide { 2 } else { 1 };
        }
        number != bar
    }

    /// Maps the registers that a capability tells of. None where there can be none.
    fn registers(&mut self, function: DeviceFunction, bar: u8, offset: u32, length: u32) -> Option<Registers> {
        if bar > 5 || self.is_upper_half(function, bar) {
            return None;
        }
        let Some(BarInfo::Memory { address_type, mut address, size, .. }) = self.root.bar_info(function, bar).ok()?
        else {
            return None;
        };
        if address == 0 {
            // No firmware has run.
            address = self.free.checked_next_multiple_of(size.max(PAGE))?;
            self.free = address.checked_add(size)?;
            match address_type {
                MemoryBarType::Width64 => self.root.set_bar_64(function, bar, address),
                MemoryBarType::Below1MiB => return None,
                MemoryBarType::Width32 => self.root.set_bar_32(function, bar, u32::try_from(address).ok()?),
            }
        }
        if address < LOW_MEMORY_END || address.checked_add(size)? > ADDRESSES_END {
            return None;
        }
        let rest = size.checked_sub(u64::from(offset))?;
        // uhyve doesn't tell how many registers there are for notifications.
        let length = if length == 0 { rest.min(PAGE) } else { u64::from(length) };
        if length > rest {
            return None;
        }
        let length = length.min(MOST);
        let start = (self.map)(address + u64::from(offset), length as usize);
        // SAFETY: `map` has mapped them, and they lie within what the device says is its own.
        Some(unsafe { Registers::new(start, length as usize) })
    }
}
