//! Files as whoever keeps them offers them: 9p, uhyve.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::Pin;

use super::errno::Errno;

/// What a file system gives, in its own time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Errno>> + Send + 'a>>;

/// What sort of file it is, by WASI's numbers (`filetype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Kind {
    #[default]
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    Socket = 6,
    SymbolicLink = 7,
}

/// What is told of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    pub kind: Kind,
    pub links: u64,
    /// Bytes.
    pub size: u64,
    /// A number that is the same for the same file, and another one for others.
    pub identity: u64,
    /// Nanoseconds since 1970.
    pub accessed: u64,
    pub modified: u64,
    pub changed: u64,
}

/// An entry of a directory, other than `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: Vec<u8>,
    pub kind: Kind,
    pub identity: u64,
}

/// A file, a directory or a symbolic link, which is not followed.
pub trait Node: Send + Sync + 'static {
    fn kind(&self) -> Kind;

    fn status(&self) -> Pending<'_, Status>;

    /// Makes it ready to be read. `ACCES` where that isn't allowed.
    fn open(&self) -> Pending<'_, ()>;

    /// Up to `size` bytes of an open file from an offset on, fewer at its end; it may give less, but for none.
    fn read(&self, offset: u64, size: usize) -> Pending<'_, Vec<u8>>;

    /// What an open directory has.
    fn entries(&self) -> Pending<'_, Vec<Listed>>;

    /// What a name stands for in a directory: a name without a slash, and neither `.` nor `..`.
    fn child<'a>(&'a self, name: &'a [u8]) -> Pending<'a, Arc<dyn Node>>;

    /// What a symbolic link leads to; `INVAL` for another file.
    fn target(&self) -> Pending<'_, Vec<u8>>;
}

/// A directory that guests are given, and their name for it.
#[derive(Clone)]
pub struct Granted {
    pub name: Vec<u8>,
    pub root: Arc<dyn Node>,
}
