//! The application behind the kernel: its manifest and its compiled module, which `slight-py image build` puts there.
//!
//! At the first page behind the kernel's memory lies this header, in little endian, with offsets that count from it:
//!
//! | offset | |
//! | --- | --- |
//! | 0 | `slightAP` |
//! | 8 | version, 32 bits: 1 |
//! | 12 | zero, 32 bits |
//! | 16 | size of the header and all behind it, 64 bits |
//! | 24, 32 | offset and length of the manifest, 64 bits each |
//! | 40, 48 | offset, in whole pages, and length of the module, 64 bits each |
//!
//! `unikernel/flavours/payload.py` writes it.
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;

const MAGIC: &[u8; 8] = b"slightAP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 56;
const PAGE: usize = 4096;

/// The application.
#[derive(Debug)]
pub struct Payload {
    /// `app.json`.
    pub manifest: &'static [u8],
    /// What wasmtime has compiled, at the beginning of a page. Nothing else refers to these bytes.
    pub module: NonNull<[u8]>,
}

// SAFETY: `module` is the only reference to its bytes, so it may go where it likes.
unsafe impl Send for Payload {}

/// Where things are in a payload, in bytes from its header.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    pub total: usize,
    pub manifest: Range<usize>,
    pub module: Range<usize>,
}

/// What is wrong with a payload.
#[derive(Debug, PartialEq, Eq)]
pub enum PayloadError {
    Version(u32),
    Damaged(&'static str),
    CutShort { has: usize, needs: u64 },
}

impl fmt::Display for PayloadError {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            PayloadError::Version(version) => {
                write!(
                    formatter,
                    "the application is of format {version}, this kernel takes {VERSION}: build the image again"
                )
            }
            PayloadError::Damaged(what) => {
                write!(formatter, "the application is damaged ({what}): build the image again")
            }
            PayloadError::CutShort { has, needs } => write!(
                formatter,
                "the application takes {needs} bytes and {has} of them are in memory: give the machine more with --memory, \
                 or, where the image was cut short, build it again"
            ),
        }
    }
}

impl Layout {
    /// Reads the header. `memory` is all that follows the kernel in RAM. None where no application was put there.
    pub fn read(memory: &[u8]) -> Result<Option<Layout>, PayloadError> {
        let Some(header) = memory.first_chunk::<HEADER_BYTES>().filter(|header| header.starts_with(MAGIC)) else {
            return Ok(None);
        };
        let word = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().expect("8 bytes of the header"));
        let version = word(8) as u32;
        if version != VERSION {
            return Err(PayloadError::Version(version));
        }
        let total = word(16);
        let end = usize::try_from(total).ok().filter(|&end| end <= memory.len());
        let end = end.ok_or(PayloadError::CutShort { has: memory.len(), needs: total })?;
        let range = |at: usize| -> Option<Range<usize>> {
            let (start, length) = (usize::try_from(word(at)).ok()?, usize::try_from(word(at + 8)).ok()?);
            let range = start..start.checked_add(length)?;
            (start >= HEADER_BYTES && range.end <= end && length > 0).then_some(range)
        };
        let manifest = range(24).ok_or(PayloadError::Damaged("where the manifest lies"))?;
        let module = range(40).ok_or(PayloadError::Damaged("where the module lies"))?;
        if module.start % PAGE != 0 || (module.start < manifest.end && manifest.start < module.end) {
            return Err(PayloadError::Damaged("where the module lies"));
        }
        Ok(Some(Layout { total: end, manifest, module }))
    }
}

#[cfg(target_os = "none")]
pub(super) use placed::{Placed, behind_the_kernel};

#[cfg(target_os = "none")]
mod placed {
    use super::{Layout, Payload};
    use crate::boot::Region;
    use crate::{cpu, memory};
    use core::ptr::NonNull;

    /// A payload in memory, which isn't in use yet.
    pub struct Placed {
        start: u64,
        layout: Layout,
    }

    /// Finds the payload. Gives up where there is a bad one.
    pub fn behind_the_kernel(regions: &[Region]) -> Option<Placed> {
        let start = memory::image_end();
        let region = regions.iter().find(|region| (region.start..region.end).contains(&start))?;
        // SAFETY: this is RAM behind the kernel, of the first GiB, which is mapped; nobody writes to it meanwhile.
        let bytes =
            unsafe { core::slice::from_raw_parts(start as *const u8, (region.end.min(1 << 30) - start) as usize) };
        match Layout::read(bytes) {
            Ok(layout) => Some(Placed { start, layout: layout? }),
            Err(error) => cpu::give_up_with(format_args!("{error}")),
        }
    }

    impl Placed {
        /// The first address behind the payload.
        pub fn end(&self) -> u64 {
            self.start + self.layout.total as u64
        }

        pub fn into_payload(self) -> Payload {
            let at = |offset: usize| (self.start as usize + offset) as *mut u8;
            let module = core::ptr::slice_from_raw_parts_mut(at(self.layout.module.start), self.layout.module.len());
            Payload {
                // SAFETY: `Layout` has checked that these bytes lie in RAM, apart from the module's; the allocator of
                // frames leaves them out, and nothing else refers to them.
                manifest: unsafe {
                    core::slice::from_raw_parts(at(self.layout.manifest.start), self.layout.manifest.len())
                },
                module: NonNull::new(module).expect("RAM behind the kernel is not at address 0"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, Layout, PayloadError};

    /// A payload with the manifest `{}` and a module of 5 bytes; `change` sets 64-bit words of its header.
    fn payload(change: &[(usize, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; 4096 + 5];
        bytes[..8].copy_from_slice(b"slightAP");
        for (at, value) in [(8, 1), (16, 4101), (24, 56), (32, 2), (40, 4096), (48, 5)].iter().chain(change) {
            bytes[*at..at + 8].copy_from_slice(&u64::to_le_bytes(*value));
        }
        bytes
    }

    #[test]
    fn a_payload_is_found_where_more_memory_follows() {
        let mut memory = payload(&[]);
        memory.resize(1 << 20, 0xff);
        let layout = Layout { total: 4101, manifest: 56..58, module: 4096..4101 };
        assert_eq!(Layout::read(&memory), Ok(Some(layout)));
    }

    #[test]
    fn other_memory_is_no_payload() {
        assert_eq!(Layout::read(&[]), Ok(None));
        assert_eq!(Layout::read(&[0; 4096]), Ok(None));
        assert_eq!(Layout::read(&payload(&[])[..HEADER_BYTES - 1]), Ok(None));
    }

    #[test]
    fn another_version_is_told() {
        let error = Layout::read(&payload(&[(8, 2)])).unwrap_err();
        assert_eq!(error, PayloadError::Version(2));
        assert_eq!(error.to_string(), "the application is of format 2, this kernel takes 1: build the image again");
    }

    #[test]
    fn a_payload_that_memory_has_no_room_for_is_told_with_its_size() {
        let error = Layout::read(&payload(&[])[..4000]).unwrap_err();
        assert_eq!(error, PayloadError::CutShort { has: 4000, needs: 4101 });
        assert!(error.to_string().contains("--memory"));
    }

    #[test]
    fn ranges_outside_of_the_payload_are_refused() {
        for change in
            [(24, 0), (24, 4100), (24, u64::MAX), (32, u64::MAX), (32, 0), (40, 8192), (40, 57), (48, 6), (48, 0)]
        {
            let result = Layout::read(&payload(&[change]));
            assert!(matches!(result, Err(PayloadError::Damaged(_))), "{change:?}: {result:?}");
        }
    }

    #[test]
    fn a_manifest_within_the_module_is_refused() {
        let result = Layout::read(&payload(&[(24, 4097)]));
        assert_eq!(result, Err(PayloadError::Damaged("where the module lies")));
    }
}
