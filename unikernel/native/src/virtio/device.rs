//! A device as it is found: what it is, its queues, its interrupts.

#[cfg(target_os = "none")]
mod machine;

#[cfg(test)]
use super::liar::{self as machine, Transport};
use super::ring::{Broken, Ring};
#[cfg(target_os = "none")]
use machine::Transport;
#[cfg(target_os = "none")]
pub(super) use machine::find;
use machine::transport;
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport as _};

pub(super) struct Device {
    transport: Transport,
}

/// `VIRTIO_F_VERSION_1`: the device follows version 1 of the standard.
pub(super) const VERSION_1: u64 = 1 << 32;
const PAGE: u32 = 4096;

impl Device {
    pub(in crate::virtio) fn new(transport: Transport) -> Device {
        Device { transport }
    }

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
        let eager = self.transport.is_forgetful();
        transport!(self, transport => Ring::new(transport, index, eager))
    }

    /// Lets the device begin, and has its interrupts call `handler`, in the interrupt.
    pub(super) fn finish(&mut self, handler: fn()) -> Result<(), Broken> {
        self.transport.listen(handler)?;
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
        self.transport.open();
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
