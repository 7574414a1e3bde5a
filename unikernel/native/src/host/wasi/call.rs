//! A call of a guest: its memory, in which every pointer is checked, and what it has open.
//!
//! A pointer past the guest's memory, or one that isn't aligned, ends the guest, as the witx documents ask.

use alloc::format;
use core::fmt::Display;

use wasmtime::{Caller, Error, Extern, Result};

use super::super::guest::Data;
use super::errno::Errno;
use super::{MODULE, Wasi};
use crate::bindings::canonical_abi::{self as abi, Fault};

/// Why a call doesn't succeed: the guest is told a number, or ended.
pub enum Failure {
    Errno(Errno),
    Ended(Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::Errno(errno)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ended(error)
    }
}

pub type Answer = core::result::Result<(), Failure>;

/// What the guest gets for an answer: 0, or the number of an error.
pub fn answered(answer: Answer) -> Result<u32> {
    match answer {
        Ok(()) => Ok(0),
        Err(Failure::Errno(errno)) => Ok(errno.0.into()),
        Err(Failure::Ended(error)) => Err(error),
    }
}

/// A call of the function `name`: for as long as nothing is awaited, as memory may grow and move meanwhile.
pub struct Call<'a> {
    name: &'static str,
    /// None where the guest exports none.
    memory: Option<&'a mut [u8]>,
    pub wasi: &'a mut Wasi,
}

impl<'a> Call<'a> {
    /// The first thing that a function does: ends guests that call from where they may not.
    pub fn begin(caller: &'a mut Caller<'_, Data>, name: &'static str) -> Result<Self> {
        abi::enter(caller, name)?;
        Self::resume(caller, name)
    }

    /// The same after something was awaited.
    pub fn resume(caller: &'a mut Caller<'_, Data>, name: &'static str) -> Result<Self> {
        let Some(memory) = caller.get_export("memory").and_then(Extern::into_memory) else {
            return Ok(Call { name, memory: None, wasi: &mut caller.data_mut().wasi });
        };
        let (memory, data) = memory.data_and_store_mut(caller);
        Ok(Call { name, memory: Some(memory), wasi: &mut data.wasi })
    }

    /// Ends the guest for what is wrong with `what`.
    pub fn fault<T>(&self, what: &str, wrong: impl Display) -> Result<T> {
        Err(Fault(format!("{MODULE}: {}: {what}: {wrong}", self.name)).into())
    }

    /// `size` bytes at an address that is a multiple of `align`.
    pub fn bytes(&mut self, what: &str, at: u32, size: u64, align: u32) -> Result<&mut [u8]> {
        let Some(memory) = &self.memory else {
            return Err(Fault("the guest exports no memory".into()).into());
        };
        let end = memory.len();
        let Some(past) = u64::from(at).checked_add(size).filter(|past| *past <= end as u64) else {
            return self.fault(what, format_args!("{size} bytes at {at:#x} reach past the end of memory, {end:#x}"));
        };
        if at % align != 0 {
            return self.fault(what, format_args!("{at:#x} is not a multiple of {align}"));
        }
        let range = at as usize..past as usize;
        Ok(self.memory.as_mut().map_or(&mut [], |memory| &mut memory[range]))
    }

    pub fn check(&mut self, what: &str, at: u32, size: u64, align: u32) -> Result<()> {
        self.bytes(what, at, size, align).map(|_| ())
    }

    pub fn put_u32(&mut self, what: &str, at: u32, value: u32) -> Result<()> {
        self.bytes(what, at, 4, 4)?.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    pub fn put_u64(&mut self, what: &str, at: u32, value: u64) -> Result<()> {
        self.bytes(what, at, 8, 8)?.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// A value that is one of `count` cases; ends the guest for another.
    pub fn case(&self, what: &str, value: u32, count: u32) -> Result<()> {
        if value < count {
            return Ok(());
        }
        self.fault(what, format_args!("{value} is not one of the {count} there are"))
    }

    /// A set of `count` flags; ends the guest for another.
    pub fn flags(&self, what: &str, value: u64, count: u32) -> Result<()> {
        if value >> count == 0 {
            return Ok(());
        }
        self.fault(what, format_args!("{value:#x} has more than the {count} flags there are"))
    }
}

/// A number at the beginning of bytes that are known to be there.
pub fn u32_in(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub fn u64_in(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_in(bytes, at)) | u64::from(u32_in(bytes, at + 4)) << 32
}
