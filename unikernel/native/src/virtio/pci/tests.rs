use super::{Broken, Pci, common, find};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use proptest::prelude::*;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};

const VIRTIO_NETWORK: u32 = 0x1041_1af4;
const HAS_CAPABILITIES: u32 = 1 << 20;
const FIRST_CAPABILITY: usize = 0x34 / 4;
const LINE: usize = 0x3c / 4;
const BARS: usize = 0x10 / 4;
/// Where the capabilities of `Space::new` are.
const MSI_X: usize = 0x40 / 4;
const COMMON: usize = 0x50 / 4;
const ISR: usize = 0x60 / 4;
const DEVICE: usize = 0x70 / 4;
const NOTIFY: usize = 0x80 / 4;

const FAR: u64 = 0x9a_0000_0000;
const NEAR: u64 = 0xfebc_0000;
const ENABLED: u32 = 1 << 31;
/// What a device answers that has no room for a message.
const NO_VECTOR: u16 = 0xffff;

/// A device's configuration space.
#[derive(Clone)]
struct Space {
    words: [u32; 64],
    /// Of each BAR: the bits that can be written.
    masks: [u32; 6],
    /// Words that are something else at every look.
    fickle: Vec<usize>,
    looks: u32,
}

impl Space {
    /// One like QEMU's: registers of virtio at a place of 16 KiB above 4 GiB, a table of messages at another one.
    fn new() -> Space {
        let mut space = Space { words: [0; 64], masks: [0; 6], fickle: Vec::new(), looks: 0 };
        space.words[0] = VIRTIO_NETWORK;
        space.words[1] = HAS_CAPABILITIES;
        space.words[FIRST_CAPABILITY] = 0x40;
        space.words[LINE] = 11;
        (space.words[BARS + 1], space.masks[1]) = (NEAR as u32, !0xfff);
        (space.words[BARS + 4], space.masks[4]) = (FAR as u32 | 0b1100, !0x3fff);
        (space.words[BARS + 5], space.masks[5]) = ((FAR >> 32) as u32, u32::MAX);
        space.words[MSI_X..MSI_X + 3].copy_from_slice(&[2 << 16 | 0x5011, 1, 0x801]);
        let virtio = |kind: u32, next: u32, offset: u32, length: u32| [kind << 24 | next << 8 | 9, 4, offset, length];
        space.words[COMMON..COMMON + 4].copy_from_slice(&virtio(1, 0x60, 0, 0x38));
        space.words[ISR..ISR + 4].copy_from_slice(&virtio(3, 0x70, 0x1000, 4));
        space.words[DEVICE..DEVICE + 4].copy_from_slice(&virtio(4, 0x80, 0x2000, 8));
        space.words[NOTIFY..NOTIFY + 4].copy_from_slice(&virtio(2, 0, 0x3000, 0x1000));
        space.words[NOTIFY + 4] = 4;
        space
    }

    /// Whether so many bytes at an address belong to one of the places that the device says are its own.
    fn owns(&self, address: u64, length: usize) -> bool {
        let mut bar = 0;
        while bar < 6 {
            let (low, high) = (self.words[BARS + bar], self.words[BARS + bar + 1]);
            let wide = low & 0b111 == 0b100;
            let high_mask = if wide { self.masks.get(bar + 1).copied().unwrap_or(0) } else { u32::MAX };
            let start = u64::from(low & !0xf) | if wide { u64::from(high) << 32 } else { 0 };
            let size = (!(u64::from(high_mask) << 32 | u64::from(self.masks[bar] & !0xf))).wrapping_add(1);
            if low & 1 == 0 && start <= address && address + length as u64 <= start.saturating_add(size) {
                return true;
            }
            bar += if wide { 2 } else { 1 };
        }
        false
    }
}

/// A bus with one device.
#[derive(Clone)]
struct Bus(Arc<Mutex<Space>>);

impl ConfigurationAccess for Bus {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        let mut space = self.0.lock().unwrap();
        let number = usize::from(register / 4);
        if (function.device, function.function) != (3, 0) {
            return u32::MAX;
        }
        space.looks = space.looks.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        if space.fickle.contains(&number) { space.looks } else { space.words[number] }
    }

    fn write_word(&mut self, _: DeviceFunction, register: u8, value: u32) {
        let mut space = self.0.lock().unwrap();
        let number = usize::from(register / 4);
        let mask = match number.checked_sub(BARS) {
            Some(bar) if bar < 6 => space.masks[bar],
            _ => u32::MAX,
        };
        space.words[number] = space.words[number] & !mask | value & mask;
    }

    unsafe fn unsafe_clone(&self) -> Bus {
        self.clone()
    }
}

/// Memory in the place of registers, with more around it that nobody is to write to.
struct Mapped {
    physical: u64,
    length: usize,
    start: NonNull<u8>,
}

const AROUND: usize = 4096;
const UNTOUCHED: u8 = 0xa5;

impl Mapped {
    fn new(physical: u64, length: usize, content: u8) -> Mapped {
        let before = AROUND + physical as usize % AROUND;
        let layout = Layout::from_size_align(before + length + AROUND, AROUND).unwrap();
        // SAFETY: the layout has a size, and all of it is written before it's read. It's never freed: registers stay.
        unsafe {
            let memory = std::alloc::alloc(layout);
            memory.write_bytes(UNTOUCHED, layout.size());
            let start = NonNull::new(memory.add(before)).unwrap();
            start.write_bytes(content, length);
            Mapped { physical, length, start }
        }
    }

    fn is_intact_around(&self) -> bool {
        // SAFETY: it lies within what `new` has allocated.
        let byte = |offset: isize| unsafe { self.start.offset(offset).read() };
        let end = self.length as isize;
        (-(AROUND as isize)..0).chain(end..end + AROUND as isize).all(|offset| byte(offset) == UNTOUCHED)
    }

    fn word(&self, offset: usize) -> u32 {
        assert!(offset + 4 <= self.length);
        // SAFETY: the offset lies within it.
        unsafe { self.start.add(offset).cast::<u32>().read_unaligned() }
    }
}

/// What is found, what the space is afterwards, and what was mapped.
fn found(space: Space, content: u8) -> (Vec<(Pci, u8)>, Space, Vec<Mapped>) {
    let (bus, mut mapped) = (Bus(Arc::new(Mutex::new(space))), Vec::new());
    let devices = find(bus.clone(), |physical, length| {
        mapped.push(Mapped::new(physical, length, content));
        mapped.last().unwrap().start
    });
    let space = bus.0.lock().unwrap().clone();
    (devices, space, mapped)
}

#[test]
fn a_device_is_found_with_its_registers_its_line_and_a_message() {
    let (mut devices, space, mapped) = found(Space::new(), 0);
    let (mut device, line) = devices.pop().unwrap();
    assert_eq!((device.device_type(), line, device.sends_messages()), (DeviceType::Network, 11, true));
    let places: Vec<_> = mapped.iter().map(|mapped| (mapped.physical, mapped.length)).collect();
    let registers = [(FAR, 0x38), (FAR + 0x1000, 4), (FAR + 0x2000, 8), (FAR + 0x3000, 0x1000)];
    assert_eq!(places, [&registers[..], &[(NEAR, 16)]].concat());
    assert_eq!(space.words[MSI_X] & ENABLED, ENABLED);
    assert_eq!(device.send(0xfee0_0000, 57), Ok(()));
    let table = mapped.last().unwrap();
    assert_eq!([0, 4, 8, 12].map(|offset| table.word(offset)), [0xfee0_0000, 0, 57, 0]);
}

#[test]
fn queues_and_configuration_are_told_of_the_message() {
    let (mut devices, _, mapped) = found(Space::new(), 0xff);
    let (device, _) = &mut devices[0];
    device.queue_set(0, 8, 0x1000, 0x2000, 0x3000);
    device.send(0xfee0_0000, 57).unwrap();
    assert_eq!(mapped[0].word(common::QUEUE_SIZE) >> 16, 0);
    assert_eq!(mapped[0].word(common::CONFIG_MSIX_VECTOR) & 0xffff, 0);
}

#[test]
fn a_device_that_does_not_take_the_message_is_none() {
    let (mut devices, _, mapped) = found(Space::new(), 0);
    let device = &mut devices[0].0;
    let register = mapped[0].start.as_ptr() as usize + common::CONFIG_MSIX_VECTOR;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // SAFETY: the register lies within what was mapped. The driver bears that it changes at any time.
                unsafe { (register as *mut u16).write_volatile(NO_VECTOR) };
            }
        });
        let end = Instant::now() + Duration::from_secs(60);
        while device.send(0xfee0_0000, 57).is_ok() && Instant::now() < end {}
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(device.send(0xfee0_0000, 57), Err(Broken));
}

#[test]
fn a_device_whose_table_lies_elsewhere_than_it_can_keeps_to_its_line() {
    // Behind the end of the registers, in BARs that there aren't, and in the upper half of one.
    for table in [0x1001, 0xff8 | 1, 0xffff_fff9, 0, 3, 5, 6, 7] {
        let mut space = Space::new();
        space.words[MSI_X + 1] = table;
        let (devices, space, mapped) = found(space, 0);
        assert!(!devices[0].0.sends_messages(), "{table:#x}");
        assert_eq!(space.words[MSI_X] & ENABLED, 0);
        assert_eq!(mapped.len(), 4);
    }
}

#[test]
fn a_device_whose_registers_lie_elsewhere_than_they_can_is_none() {
    let outside = |change: fn(&mut Space)| {
        let mut space = Space::new();
        change(&mut space);
        found(space, 0).0.is_empty()
    };
    assert!(!outside(|_| {}));
    assert!(outside(|space| space.words[COMMON + 1] = 6));
    assert!(outside(|space| space.words[COMMON + 2] = 0x4000 - 0x34));
    assert!(outside(|space| space.words[COMMON + 3] = 0x37));
    assert!(outside(|space| space.words[NOTIFY + 2] = u32::MAX));
    assert!(outside(|space| space.words[BARS + 5] = 1 << 20)); // an address of 53 bits
    assert!(outside(|space| (space.words[BARS + 4], space.words[BARS + 5]) = (0x9_000c, 0))); // of a PC's first MiB
}

#[test]
fn registers_without_a_place_get_one() {
    let mut space = Space::new();
    (space.words[BARS + 1], space.words[BARS + 4], space.words[BARS + 5]) = (0, 0b1100, 0);
    let (devices, space, mapped) = found(space, 0);
    assert_eq!((devices.len(), mapped.len()), (1, 5));
    assert!(mapped.iter().all(|mapped| mapped.physical >= 0xfe80_0000 && space.owns(mapped.physical, mapped.length)));
}

#[test]
fn capabilities_in_a_circle_are_looked_at_and_left() {
    let mut space = Space::new();
    space.words[NOTIFY] = space.words[NOTIFY] & !0xff00 | 0x4000;
    assert_eq!(found(space, 0).0.len(), 1);
}

#[test]
fn a_capability_that_the_configuration_space_cuts_short_is_none() {
    let mut space = Space::new();
    space.words[FIRST_CAPABILITY] = 0xfc;
    space.words[63] = 2 << 24 | 0x4009; // of notifications, and then the others
    let (devices, _, mapped) = found(space, 0);
    assert_eq!((devices.len(), mapped.len()), (1, 5));
}

/// Uses a device as its drivers do, and more.
fn use_all(device: &mut Pci, queue: u16, offset: usize) {
    device.set_status(DeviceStatus::empty());
    device.read_device_features();
    device.write_driver_features(u64::MAX);
    device.max_queue_size(queue);
    device.queue_set(queue, 8, 0x1000, 0x2000, 0x3000);
    device.notify(queue);
    device.ack_interrupt();
    device.read_config_generation();
    let _ = device.read_config_space::<u8>(offset);
    let _ = device.read_config_space::<u32>(offset);
    let _ = device.send(0xfee0_0000, 57);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn whatever_a_device_says_only_its_own_registers_are_mapped_and_touched(
        words in prop::collection::vec((0usize..64, prop_oneof![any::<u32>(), 0u32..0x100]), 0..8),
        masks in prop::collection::vec((0usize..6, any::<u32>()), 0..3),
        bytes in prop::collection::vec((0usize..256, any::<u8>()), 0..8),
        fickle in prop::collection::vec(prop_oneof![1usize..BARS, BARS + 6..64], 0..3),
        content: u8,
        queue: u16,
        offset in prop_oneof![0usize..16, any::<usize>()],
    ) {
        let mut space = Space::new();
        words.into_iter().for_each(|(number, word)| space.words[number] = word);
        masks.into_iter().for_each(|(bar, mask)| space.masks[bar] = mask);
        for (at, byte) in bytes {
            let mut word = space.words[at / 4].to_le_bytes();
            word[at % 4] = byte;
            space.words[at / 4] = u32::from_le_bytes(word);
        }
        space.fickle = fickle;
        let (mut devices, space, mapped) = found(space, content);
        devices.iter_mut().for_each(|(device, _)| use_all(device, queue, offset));
        for mapped in mapped {
            prop_assert!(space.owns(mapped.physical, mapped.length), "{:#x} {:#x}", mapped.physical, mapped.length);
            prop_assert!(mapped.is_intact_around());
        }
    }
}
