//! virtio over PCI (Virtual I/O Device Version 1.2, section 4.1).
//!
//! A device interrupts by a message (MSI-X) where it can, as Cloud Hypervisor's do that have no line, else by its line, as
//! uhyve's do that have no messages.
//!
//! The transport of the crate virtio-drivers isn't used: it writes 64-bit registers at once, which the standard doesn't
//! allow (4.1.3.1) and uhyve doesn't survive, and it asks the device where a queue's bell is at every ring.

mod find;
#[cfg(target_os = "none")]
mod ports;
mod registers;

pub(super) use find::find;
#[cfg(target_os = "none")]
pub(super) use ports::Ports;

use super::ring::Broken;
use registers::Registers;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Registers of `virtio_pci_common_cfg` (4.1.4.3), by their offset.
mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0c;
    pub const CONFIG_MSIX_VECTOR: usize = 0x10;
    pub const STATUS: usize = 0x14;
    pub const CONFIG_GENERATION: usize = 0x15;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_MSIX_VECTOR: usize = 0x1a;
    pub const QUEUE_ENABLE: usize = 0x1c;
    pub const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub const QUEUE_DESC: usize = 0x20;
    pub const QUEUE_DRIVER: usize = 0x28;
    pub const QUEUE_DEVICE: usize = 0x30;
    pub const LENGTH: usize = 0x38;
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
    /// Where the message is written to that the device sends in place of an interrupt by its line, if it does.
    message: Option<Registers>,
    /// Whether the device didn't take a message for one of its queues.
    deaf: bool,
    /// The offset in `notify` of each queue that was set up.
    bells: [Option<usize>; QUEUES],
    forgetful: bool,
}

/// The number of the one message that each device sends, in its table; and the last word of that entry, which lets it.
const MESSAGE: u16 = 0;
const UNMASKED: u32 = 0;

/// Queues of a device that are used, at most.
const QUEUES: usize = 64;

// SAFETY: there is one processor.
unsafe impl Send for Pci {}

impl Pci {
    /// `notify` comes with what the offset of a queue's bell is multiplied with.
    fn new(
        kind: DeviceType,
        common: Registers,
        (notify, notify_multiplier): (Registers, usize),
        isr: Registers,
        device: Registers,
        message: Option<Registers>,
        forgetful: bool,
    ) -> Pci {
        let bells = [None; QUEUES];
        Pci { kind, common, notify, notify_multiplier, isr, device, message, deaf: false, bells, forgetful }
    }

    /// Whether the device is uhyve's (0.10): it asks to be told of what is added to a queue, and doesn't look again at
    /// what was added just before. So it has to be told always.
    pub(super) fn is_forgetful(&self) -> bool {
        self.forgetful
    }

    /// Whether the device interrupts by messages, and not by its line.
    pub(super) fn sends_messages(&self) -> bool {
        self.message.is_some()
    }

    /// Has the device send a message for whatever it has to say: a write of `data` to `address`.
    pub(super) fn send(&mut self, address: u32, data: u32) -> Result<(), Broken> {
        self.take_message(common::CONFIG_MSIX_VECTOR);
        let Some(entry) = self.message.filter(|_| !self.deaf) else { return Err(Broken) };
        for (index, word) in [address, 0, data, UNMASKED].into_iter().enumerate() {
            entry.write(index * size_of::<u32>(), word);
        }
        Ok(())
    }

    /// Has the device send the message for what this register says. One that has no room for that answers with another
    /// number (4.1.5.1.2).
    fn take_message(&mut self, register: usize) {
        if self.message.is_some() {
            self.common.write(register, MESSAGE);
            self.deaf |= self.common.read::<u16>(register) != MESSAGE;
        }
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
        self.take_message(common::QUEUE_MSIX_VECTOR);
        self.common.write(common::QUEUE_ENABLE, 1u16);
    }

    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, queue: u16) -> bool {
        // The device isn't asked: uhyve has one such register for all queues.
        self.bells.get(usize::from(queue)).is_none_or(Option::is_some)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        // A message needs no answer; else reading takes the request back (4.1.4.5).
        let status = if self.sends_messages() { 0 } else { self.isr.read::<u8>(0) };
        InterruptStatus::from_bits_retain(status.into())
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

#[cfg(test)]
mod tests;
