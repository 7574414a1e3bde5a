//! virtio over PCI (Virtual I/O Device Version 1.2, section 4.1), configured through the ports 0xCF8 and 0xCFC.
//!
//! The transport of the crate virtio-drivers isn't used: it writes 64-bit registers at once, which the standard doesn't
//! allow (4.1.3.1) and uhyve doesn't survive, and it asks the device where a queue's bell is at every ring.

use super::hal::Heap;
use crate::cpu::port;
use alloc::vec::Vec;
use core::ptr::NonNull;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, MemoryBarType, PCI_CAP_ID_VNDR, PciRoot,
};
use virtio_drivers::transport::pci::{
    VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG,
    virtio_device_type,
};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, Hal, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where the word of the header's type is, and that of the interrupt line.
const HEADER_TYPE: u8 = 0x0c;
const INTERRUPT_LINE: u8 = 0x3c;
/// Where registers go that nobody gave a place: below the IOAPIC, where no RAM is and no firmware puts anything.
const FREE_PLACE: u64 = 0xfe80_0000;
const PAGE: u64 = 4096;

/// PCI configuration mechanism 1 (PCI Local Bus Specification 3.0, 3.2.2.3.2).
struct Ports;

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
        // SAFETY: the command register and places of registers alone are written, and devices write to no memory before
        // they are given queues.
        unsafe { port::write_u32(CONFIG_DATA, value) };
    }

    unsafe fn unsafe_clone(&self) -> Ports {
        Ports
    }
}

/// All virtio devices of bus 0, each with its interrupt line.
pub(super) fn find() -> Vec<(Pci, u8)> {
    let mut root = PciRoot::new(Ports);
    let functions: Vec<DeviceFunction> = root
        .enumerate_bus(0)
        .filter(|(_, info)| virtio_device_type(info).is_some())
        .map(|(function, _)| function)
        .filter(|function| function.function == 0 || has_functions(*function))
        .collect();
    let mut free = FREE_PLACE;
    functions.into_iter().filter_map(|function| Pci::new(&mut root, function, &mut free)).collect()
}

/// Whether a device has more functions than the first. One that hasn't may answer to the others' numbers as well.
fn has_functions(of: DeviceFunction) -> bool {
    let header = Ports.read_word(DeviceFunction { function: 0, ..of }, HEADER_TYPE);
    header & 1 << 23 != 0
}

/// Registers of `virtio_pci_common_cfg` (4.1.4.3), by their offset.
mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0c;
    pub const STATUS: usize = 0x14;
    pub const CONFIG_GENERATION: usize = 0x15;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_ENABLE: usize = 0x1c;
    pub const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub const QUEUE_DESC: usize = 0x20;
    pub const QUEUE_DRIVER: usize = 0x28;
    pub const QUEUE_DEVICE: usize = 0x30;
    pub const LENGTH: usize = 0x38;
}

/// Some registers of a device.
#[derive(Clone, Copy)]
struct Registers {
    start: NonNull<u8>,
    length: usize,
}

impl Registers {
    /// The place of a register, where it lies within these and where its size wants it.
    fn place<T>(self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.length || !(self.start.as_ptr() as usize + offset).is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the offset lies within the registers.
        Some(unsafe { self.start.add(offset) }.cast())
    }

    /// 0 for what isn't there.
    fn read<T: Copy + Default>(self, offset: usize) -> T {
        match self.place::<T>(offset) {
            // SAFETY: `find` made these of a device's registers, and `place` has checked the rest.
            Some(place) => unsafe { place.read_volatile() },
            None => T::default(),
        }
    }

    fn write<T>(self, offset: usize, value: T) {
        if let Some(place) = self.place::<T>(offset) {
            // SAFETY: as for `read`.
            unsafe { place.write_volatile(value) };
        }
    }
}

/// One device.
pub(super) struct Pci {
    kind: DeviceType,
    common: Registers,
    notify: Registers,
    notify_multiplier: usize,
    isr: Registers,
    /// Of length 0 where the device has nothing of its own to configure.
    device: Registers,
    /// The offset in `notify` of each queue that was set up.
    bells: [Option<usize>; QUEUES],
    forgetful: bool,
}

/// Queues of a device that are used, at most.
const QUEUES: usize = 64;

// SAFETY: there is one processor.
unsafe impl Send for Pci {}

impl Pci {
    /// None for a device that lacks what version 1 of the standard demands.
    fn new(root: &mut PciRoot<Ports>, function: DeviceFunction, free: &mut u64) -> Option<(Pci, u8)> {
        let config = Ports;
        let kind = DeviceType::try_from(match (config.read_word(function, 0) >> 16) as u16 {
            // Transitional devices have their type as the subsystem's number (4.1.2.3).
            0x1000..0x1040 => (config.read_word(function, 0x2c) >> 16) as u16,
            modern => modern - 0x1040,
        })
        .ok()?;
        let capabilities: Vec<_> = root.capabilities(function).take(QUEUES).collect();
        let (mut common, mut notify, mut isr, mut device) = (None, None, None, None);
        let (mut notify_multiplier, mut forgetful) = (0, false);
        for capability in capabilities.into_iter().filter(|capability| capability.id == PCI_CAP_ID_VNDR) {
            let at = capability.offset;
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
            let bar = config.read_word(function, at + 4) as u8;
            let (offset, length) = (config.read_word(function, at + 8), config.read_word(function, at + 12));
            *wanted = registers(root, function, bar, offset, length, free);
            if (capability.private_header >> 8) as u8 == VIRTIO_PCI_CAP_NOTIFY_CFG {
                notify_multiplier = config.read_word(function, at + 16) as usize;
                // By this uhyve is known, which has no name in its registers.
                forgetful = length == 0;
            }
        }
        root.set_command(function, Command::MEMORY_SPACE | Command::BUS_MASTER);
        let line = config.read_word(function, INTERRUPT_LINE) as u8;
        let common: Registers = common.filter(|common: &Registers| common.length >= common::LENGTH)?;
        let none = Registers { start: NonNull::dangling(), length: 0 };
        let device = device.unwrap_or(none);
        Some((
            Pci {
                kind,
                common,
                notify: notify?,
                notify_multiplier,
                isr: isr?,
                device,
                bells: [None; QUEUES],
                forgetful,
            },
            line,
        ))
    }

    /// Whether the device is uhyve's (0.10): it asks to be told of what is added to a queue, and doesn't look again at
    /// what was added just before. So it has to be told always.
    pub(super) fn is_forgetful(&self) -> bool {
        self.forgetful
    }

    fn select(&self, queue: u16) {
        self.common.write(common::QUEUE_SELECT, queue);
    }

    /// Two writes, the lower half first: registers of 64 bits have to be written so (4.1.3.1).
    fn write_address(&self, register: usize, address: PhysAddr) {
        self.common.write(register, address as u32);
        self.common.write(register + 4, (address >> 32) as u32);
    }
}

/// Where registers lie that a capability tells of. None where that can't be.
fn registers(
    root: &mut PciRoot<Ports>,
    function: DeviceFunction,
    bar: u8,
    offset: u32,
    length: u32,
    free: &mut u64,
) -> Option<Registers> {
    if bar > 5 {
        return None;
    }
    let Some(BarInfo::Memory { address_type, mut address, size, .. }) = root.bar_info(function, bar).ok()? else {
        return None;
    };
    if address == 0 {
        // No firmware has run.
        address = free.checked_next_multiple_of(size.max(PAGE))?;
        *free = address.checked_add(size)?;
        match address_type {
            MemoryBarType::Width64 => root.set_bar_64(function, bar, address),
            _ => root.set_bar_32(function, bar, u32::try_from(address).ok()?),
        }
    }
    let rest = size.checked_sub(u64::from(offset))?;
    // uhyve doesn't tell how many registers there are for notifications.
    let length = if length == 0 { rest.min(PAGE) } else { u64::from(length) };
    if length > rest {
        return None;
    }
    // SAFETY: the device says that its registers lie there, and they are nobody else's.
    let start = unsafe { Heap::mmio_phys_to_virt(address + u64::from(offset), length as usize) };
    Some(Registers { start, length: length as usize })
}

impl Transport for Pci {
    fn device_type(&self) -> DeviceType {
        self.kind
    }

    fn read_device_features(&mut self) -> u64 {
        self.common.write(common::DEVICE_FEATURE_SELECT, 0u32);
        let low: u32 = self.common.read(common::DEVICE_FEATURE);
        self.common.write(common::DEVICE_FEATURE_SELECT, 1u32);
        let high: u32 = self.common.read(common::DEVICE_FEATURE);
        u64::from(high) << 32 | u64::from(low)
    }

    fn write_driver_features(&mut self, features: u64) {
        self.common.write(common::DRIVER_FEATURE_SELECT, 0u32);
        self.common.write(common::DRIVER_FEATURE, features as u32);
        self.common.write(common::DRIVER_FEATURE_SELECT, 1u32);
        self.common.write(common::DRIVER_FEATURE, (features >> 32) as u32);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        self.common.read::<u16>(common::QUEUE_SIZE).into()
    }

    fn notify(&mut self, queue: u16) {
        if let Some(Some(bell)) = self.bells.get(usize::from(queue)) {
            self.notify.write(*bell, queue);
        }
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.common.read::<u8>(common::STATUS).into())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.common.write(common::STATUS, status.bits() as u8);
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.select(queue);
        // uhyve has queues of one size, and none of its registers takes another.
        if u32::from(self.common.read::<u16>(common::QUEUE_SIZE)) != size {
            self.common.write(common::QUEUE_SIZE, size as u16);
        }
        self.write_address(common::QUEUE_DESC, descriptors);
        self.write_address(common::QUEUE_DRIVER, driver_area);
        self.write_address(common::QUEUE_DEVICE, device_area);
        if let Some(bell) = self.bells.get_mut(usize::from(queue)) {
            let offset = usize::from(self.common.read::<u16>(common::QUEUE_NOTIFY_OFF));
            *bell = offset.checked_mul(self.notify_multiplier);
        }
        self.common.write(common::QUEUE_ENABLE, 1u16);
    }

    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, queue: u16) -> bool {
        // The device isn't asked: uhyve has one such register for all queues.
        self.bells.get(usize::from(queue)).is_none_or(Option::is_some)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        // Reading takes the request back (4.1.4.5).
        InterruptStatus::from_bits_retain(self.isr.read::<u8>(0).into())
    }

    fn read_config_generation(&self) -> u32 {
        self.common.read::<u8>(common::CONFIG_GENERATION).into()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        let end = offset.checked_add(size_of::<T>()).filter(|end| *end <= self.device.length);
        end.ok_or(Error::ConfigSpaceTooSmall)?;
        for (index, byte) in value.as_mut_bytes().iter_mut().enumerate() {
            *byte = self.device.read(offset + index);
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<(), Error> {
        // No driver here has anything to write.
        Err(Error::Unsupported)
    }
}
