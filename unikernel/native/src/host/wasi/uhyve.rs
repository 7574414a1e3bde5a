//! Files of uhyve's host, for `mapped`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::errno::Errno;
use super::mapped::Content;
use crate::cpu::uhyve::{File, HostError};

/// Opens a file by the path under which uhyve has mapped it in.
pub fn open(path: &[u8]) -> Result<Box<dyn Content>, Errno> {
    Ok(Box::new(File::open(path).map_err(errno)?))
}

impl Content for File {
    fn size(&self) -> Result<u64, Errno> {
        File::size(self).map_err(errno)
    }

    fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
        File::read(self, offset, size).map_err(errno)
    }
}

/// WASI's number for an error of Linux's.
fn errno(HostError(number): HostError) -> Errno {
    match number {
        2 => Errno::NOENT,
        13 => Errno::ACCES,
        20 => Errno::NOTDIR,
        21 => Errno::ISDIR,
        22 => Errno::INVAL,
        24 => Errno::MFILE,
        _ => Errno::IO,
    }
}
