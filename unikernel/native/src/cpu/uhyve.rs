//! Files of the host, as uhyve has them: its hypercalls of interface 1 (the crate `uhyve-interface`, `v1`).
use alloc::vec::Vec;

use super::{interrupts, port, unshared::Unshared};

const OPEN: u16 = 0x440;
const CLOSE: u16 = 0x480;
const READ: u16 = 0x500;
const SEEK: u16 = 0x580;

/// Bytes of a path at most, with the zero byte at its end, as in Linux.
const PATH: usize = 4096;

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

const FROM_START: i32 = 0;
const FROM_END: i32 = 2;

/// An error of the host's, by Linux's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError(pub u32);

const INVALID: HostError = HostError(22);

/// An open file. Dropping it closes it.
#[derive(Debug)]
pub struct File(i32);

#[repr(C, packed)]
struct Open {
    path: u64,
    flags: i32,
    mode: i32,
    answer: i32,
}

#[repr(C, packed)]
struct Close {
    file: i32,
    answer: i32,
}

#[repr(C, packed)]
struct Read {
    file: i32,
    buffer: u64,
    length: u64,
    answer: i64,
}

#[repr(C, packed)]
struct Seek {
    file: i32,
    /// Where to go, and in the answer where that is.
    offset: i64,
    whence: i32,
}

/// What uhyve reads and writes. It takes physical addresses, which those of stacks are not.
#[repr(C, align(16))]
struct Parameters {
    open: Open,
    close: Close,
    read: Read,
    seek: Seek,
    path: [u8; PATH],
    content: [u8; PIECE],
}

static PARAMETERS: Unshared<Parameters> = Unshared::new(Parameters {
    open: Open { path: 0, flags: 0, mode: 0, answer: 0 },
    close: Close { file: 0, answer: 0 },
    read: Read { file: 0, buffer: 0, length: 0, answer: 0 },
    seek: Seek { file: 0, offset: 0, whence: 0 },
    path: [0; PATH],
    content: [0; PIECE],
});

/// Works with the parameters while nobody else does.
fn with<T>(work: impl FnOnce(&mut Parameters) -> T) -> T {
    // SAFETY: no interrupt comes in between, and `work` calls nothing of this module but `call`.
    interrupts::without(|| work(unsafe { PARAMETERS.get() }))
}

/// Makes a hypercall with parameters, which are a part of `PARAMETERS`.
fn call<T>(number: u16, parameters: &mut T) {
    // SAFETY: uhyve reads the parameters, writes their answer, and of `content` as many bytes as `read` says there are.
    // The kernel's data is below 4 GiB.
    unsafe { port::write_u32(number, core::ptr::from_mut(parameters) as u64 as u32) }
}

/// An answer of uhyve's: negative where it is an error's number.
fn answered(answer: i64) -> Result<u64, HostError> {
    u64::try_from(answer).map_err(|_| HostError(u32::try_from(answer.unsigned_abs()).unwrap_or(INVALID.0)))
}

impl File {
    /// Opens a file that is mapped in under that path, for reading.
    pub fn open(path: &[u8]) -> Result<File, HostError> {
        if path.len() >= PATH || path.contains(&0) {
            return Err(INVALID);
        }
        with(|parameters| {
            parameters.path[..path.len()].copy_from_slice(path);
            parameters.path[path.len()] = 0;
            let path = (&raw const parameters.path) as u64;
            parameters.open = Open { path, flags: 0, mode: 0, answer: 0 };
            call(OPEN, &mut parameters.open);
            let file = answered(parameters.open.answer.into())?;
            Ok(File(i32::try_from(file).map_err(|_| INVALID)?))
        })
    }

    /// How long the file is, in bytes.
    pub fn size(&self) -> Result<u64, HostError> {
        with(|parameters| self.seek(parameters, 0, FROM_END))
    }

    /// Up to `size` bytes from an offset on; fewer at the file's end, and never more than are read at once.
    pub fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, HostError> {
        let size = size.min(PIECE);
        let offset = i64::try_from(offset).map_err(|_| INVALID)?;
        with(|parameters| {
            self.seek(parameters, offset, FROM_START)?;
            let buffer = (&raw const parameters.content) as u64;
            parameters.read = Read { file: self.0, buffer, length: size as u64, answer: 0 };
            call(READ, &mut parameters.read);
            let length = answered(parameters.read.answer)?;
            let length = usize::try_from(length).unwrap_or(size).min(size);
            Ok(parameters.content[..length].to_vec())
        })
    }

    fn seek(&self, parameters: &mut Parameters, offset: i64, whence: i32) -> Result<u64, HostError> {
        parameters.seek = Seek { file: self.0, offset, whence };
        call(SEEK, &mut parameters.seek);
        answered(parameters.seek.offset)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        with(|parameters| {
            parameters.close = Close { file: self.0, answer: 0 };
            call(CLOSE, &mut parameters.close);
        });
    }
}
