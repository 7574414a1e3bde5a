//! A device for tests, which says what it likes: true things and others.

use super::ring::Broken;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, MutexGuard};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport as Trait};
use virtio_drivers::{Error, PhysAddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The driver's way to the device.
pub(in crate::virtio) struct Transport(Liar);

/// Calls a method of the transport.
macro_rules! transport {
    ($device:expr, $transport:ident => $call:expr) => {{
        let $transport = &mut $device.transport;
        $call
    }};
}
pub(super) use transport;

/// The device's own side.
#[derive(Clone)]
pub(super) struct Liar(Arc<Mutex<State>>);

pub(super) struct State {
    pub features: u64,
    /// What is in its own configuration.
    pub config: Vec<u8>,
    /// How large it says that each of its queues may be.
    pub largest: u32,
    pub legacy: bool,
    status: DeviceStatus,
    queues: BTreeMap<u16, Queue>,
}

/// Where a queue lies, and how many of its exchanges have been answered.
#[derive(Clone, Copy)]
struct Queue {
    size: u16,
    descriptors: PhysAddr,
    available: PhysAddr,
    used: PhysAddr,
    answered: u16,
}

const DESCRIPTOR: u64 = 16;
/// Flags of a descriptor: another one follows, and the device writes.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

impl Liar {
    /// With all features, and large queues.
    pub fn new(config: &[u8]) -> Liar {
        Liar(Arc::new(Mutex::new(State {
            features: u64::MAX,
            config: config.into(),
            largest: 1024,
            legacy: false,
            status: DeviceStatus::empty(),
            queues: BTreeMap::new(),
        })))
    }

    pub fn transport(&self) -> Transport {
        Transport(self.clone())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn queue(&self, queue: u16) -> Option<Queue> {
        self.state().queues.get(&queue).copied()
    }

    /// Says that it is done with an exchange, and how many bytes it wrote.
    pub fn says_used(&self, queue: u16, id: u32, length: u32) {
        let Some(Queue { size, used, .. }) = self.queue(queue) else { return };
        let index: u16 = read(used + 2);
        let entry = used + 4 + u64::from(index % size) * 8;
        write(entry, id);
        write(entry + 4, length);
        write(used + 2, index.wrapping_add(1));
    }

    /// Says how many exchanges it is done with.
    pub fn says_index(&self, queue: u16, index: u16) {
        let Some(Queue { used, .. }) = self.queue(queue) else { return };
        write(used + 2, index);
    }

    /// Says whether it wants to be told of what is added, and more.
    pub fn says_flags(&self, queue: u16, flags: u16) {
        let Some(Queue { used, .. }) = self.queue(queue) else { return };
        write(used, flags);
    }

    /// Writes to what only the driver may: which descriptor follows another one, and which is to be looked at.
    pub fn scribbles(&self, queue: u16, number: u16, value: u16) {
        let Some(Queue { size, descriptors, available, .. }) = self.queue(queue) else { return };
        write(descriptors + u64::from(number % size) * DESCRIPTOR + 14, value);
        write(available + 4 + u64::from(number % size) * 2, value);
    }

    /// Answers the next exchange as it should: takes what it is to read, and writes as many of the bytes as there is room
    /// for. None where there is no exchange.
    pub fn answers(&self, queue: u16, bytes: &[u8]) -> Option<Vec<u8>> {
        let Queue { size, descriptors, available, answered, .. } = self.queue(queue)?;
        if read::<u16>(available + 2) == answered {
            return None;
        }
        let head: u16 = read(available + 4 + u64::from(answered % size) * 2);
        let (mut taken, mut written, mut number) = (Vec::new(), 0, head);
        for _ in 0..size {
            let descriptor = descriptors + u64::from(number % size) * DESCRIPTOR;
            let (address, length): (u64, u32) = (read(descriptor), read(descriptor + 8));
            let (flags, next): (u16, u16) = (read(descriptor + 12), read(descriptor + 14));
            // What has been scribbled on may lead to a descriptor that isn't in use.
            for offset in (0..u64::from(length)).filter(|_| address != 0) {
                match bytes.get(written) {
                    Some(byte) if flags & WRITE != 0 => {
                        write(address + offset, *byte);
                        written += 1;
                    }
                    _ if flags & WRITE == 0 => taken.push(read(address + offset)),
                    _ => break,
                }
            }
            if flags & NEXT == 0 {
                break;
            }
            number = next;
        }
        self.state().queues.get_mut(&queue)?.answered = answered.wrapping_add(1);
        self.says_used(queue, head.into(), written as u32);
        Some(taken)
    }
}

/// Reads memory as a device does.
fn read<T: Copy>(address: PhysAddr) -> T {
    // SAFETY: the driver has told the device of this memory, and keeps it for as long as it does; and the processor is
    // elsewhere meanwhile.
    unsafe { (address as *const T).read_volatile() }
}

fn write<T>(address: PhysAddr, value: T) {
    // SAFETY: as for `read`.
    unsafe { (address as *mut T).write_volatile(value) };
}

impl Transport {
    pub(super) fn is_forgetful(&self) -> bool {
        false
    }

    pub(super) fn listen(&mut self, _: fn()) -> Result<(), Broken> {
        Ok(())
    }

    pub(super) fn open(&self) {}
}

impl Trait for Transport {
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.state().features
    }

    fn write_driver_features(&mut self, _: u64) {}

    fn max_queue_size(&mut self, _: u16) -> u32 {
        self.0.state().largest
    }

    fn notify(&mut self, _: u16) {}

    fn get_status(&self) -> DeviceStatus {
        self.0.state().status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.0.state().status = status;
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        self.0.state().legacy
    }

    fn queue_set(&mut self, queue: u16, size: u32, descriptors: PhysAddr, available: PhysAddr, used: PhysAddr) {
        let size = size as u16;
        self.0.state().queues.insert(queue, Queue { size, descriptors, available, used, answered: 0 });
    }

    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.state().queues.contains_key(&queue)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::all()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, Error> {
        let state = self.0.state();
        let bytes = state.config.get(offset..offset + size_of::<T>()).ok_or(Error::ConfigSpaceTooSmall)?;
        T::read_from_bytes(bytes).map_err(|_| Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
}
