//! Where virtio-mmio devices are, as QEMU and Firecracker append it to the command line.

/// One device's place, in the form of Linux's parameter `virtio_mmio.device=SIZE@ADDRESS:LINE` (its Documentation/
/// admin-guide/kernel-parameters.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes of registers.
    pub size: usize,
    /// The physical address of the first one.
    pub address: u64,
    /// The input of the IOAPIC that the device interrupts by.
    pub line: u8,
}

const WORD: &str = "virtio_mmio.device=";
/// Where the registers of a device begin that are its own.
const OWN_REGISTERS: usize = 0x100;

impl Place {
    /// None for any other word, and for one that tells of no place below 4 GiB that a device can have.
    pub fn from_word(word: &str) -> Option<Place> {
        let (size, place) = word.strip_prefix(WORD)?.split_once('@')?;
        // A further number after a second colon is Linux's own name of the device.
        let mut numbers = place.split(':');
        let address = number(numbers.next()?)?;
        let line = u8::try_from(number(numbers.next()?)?).ok()?;
        let size = usize::try_from(number(size)?).ok()?;
        let end = address.checked_add(size as u64)?;
        let fits = size >= OWN_REGISTERS && address >= 1 << 20 && end <= 1 << 32 && address.is_multiple_of(4);
        fits.then_some(Place { size, address, line })
    }
}

/// A number as Linux's `memparse` reads it: decimal or `0x…`, then K, M or G.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok()?,
        None => digits.parse().ok()?,
    };
    value.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_and_firecracker_are_understood() {
        let place = |word| Place::from_word(word).unwrap();
        let qemu = Place { size: 512, address: 0xfeb0_0e00, line: 12 };
        assert_eq!(place("virtio_mmio.device=512@0xfeb00e00:12"), qemu);
        let firecracker = Place { size: 4096, address: 0xd000_0000, line: 5 };
        assert_eq!(place("virtio_mmio.device=4K@0xd0000000:5"), firecracker);
        assert_eq!(place("virtio_mmio.device=4K@0xd0000000:5:1"), firecracker);
    }

    #[test]
    fn what_can_be_no_device_is_none() {
        for word in [
            "",
            "virtio_mmio.device=",
            "virtio_mmio.device=512@0xfeb00e00",
            "virtio_mmio.device=16@0xfeb00e00:12",
            "virtio_mmio.device=512@0xfeb00e01:12",
            "virtio_mmio.device=512@0x1000:12",
            "virtio_mmio.device=512@0xffffff00:12",
            "virtio_mmio.device=18446744073709551615G@0xfeb00e00:12",
            "virtio_mmio.device=512@0xfeb00e00:300",
            "virtio_mmio.device=K@:",
            "console=ttyS0",
        ] {
            assert_eq!(Place::from_word(word), None, "{word}");
        }
    }
}
