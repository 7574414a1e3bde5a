//! A folder of this computer as a file system of the machine's: what QEMU does for one over 9p.

use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use slight_machine::host::wasi::Errno;
use slight_machine::host::wasi::volume::{Kind, Listed, Node, Pending, Status};

/// A file, a folder or a link.
pub struct Folder {
    path: PathBuf,
    kind: Kind,
    opened: Mutex<Option<File>>,
}

impl Folder {
    /// What is at a path; a link is not followed.
    pub fn new(path: PathBuf) -> io::Result<Folder> {
        let kind = kind(fs::symlink_metadata(&path)?.file_type());
        Ok(Folder { path, kind, opened: Mutex::new(None) })
    }

    fn status(&self) -> io::Result<Status> {
        let found: Metadata = fs::symlink_metadata(&self.path)?;
        let time = |seconds: i64, nanoseconds: i64| (seconds * 1_000_000_000 + nanoseconds) as u64;
        Ok(Status {
            kind: self.kind,
            links: found.nlink(),
            size: found.size(),
            identity: found.ino(),
            accessed: time(found.atime(), found.atime_nsec()),
            modified: time(found.mtime(), found.mtime_nsec()),
            changed: time(found.ctime(), found.ctime_nsec()),
        })
    }

    fn read(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let opened = self.opened.lock().unwrap();
        let mut content = vec![0; size];
        let length = opened.as_ref().ok_or(io::ErrorKind::NotFound)?.read_at(&mut content, offset)?;
        content.truncate(length);
        Ok(content)
    }

    fn entries(&self) -> io::Result<Vec<Listed>> {
        let listed = |entry: fs::DirEntry| {
            let identity = entry.metadata()?.ino();
            Ok(Listed { kind: kind(entry.file_type()?), name: entry.file_name().into_vec(), identity })
        };
        fs::read_dir(&self.path)?.map(|entry| listed(entry?)).collect()
    }
}

fn kind(of: FileType) -> Kind {
    match of {
        _ if of.is_file() => Kind::RegularFile,
        _ if of.is_dir() => Kind::Directory,
        _ if of.is_symlink() => Kind::SymbolicLink,
        _ if of.is_char_device() => Kind::CharacterDevice,
        _ if of.is_block_device() => Kind::BlockDevice,
        _ if of.is_socket() => Kind::Socket,
        _ => Kind::Unknown,
    }
}

/// WASI's number for an error of Linux.
fn errno(error: io::Error) -> Errno {
    match error.raw_os_error() {
        Some(2) => Errno::NOENT,
        Some(13) => Errno::ACCES,
        Some(20) => Errno::NOTDIR,
        Some(22) => Errno::INVAL,
        Some(36) => Errno::NAMETOOLONG,
        _ => Errno::IO,
    }
}

impl Node for Folder {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn status(&self) -> Pending<'_, Status> {
        Box::pin(async { Folder::status(self).map_err(errno) })
    }

    fn open(&self) -> Pending<'_, ()> {
        Box::pin(async {
            *self.opened.lock().unwrap() = Some(File::open(&self.path).map_err(errno)?);
            Ok(())
        })
    }

    fn read(&self, offset: u64, size: usize) -> Pending<'_, Vec<u8>> {
        Box::pin(async move { Folder::read(self, offset, size).map_err(errno) })
    }

    fn entries(&self) -> Pending<'_, Vec<Listed>> {
        Box::pin(async { Folder::entries(self).map_err(errno) })
    }

    fn child<'a>(&'a self, name: &'a [u8]) -> Pending<'a, Arc<dyn Node>> {
        Box::pin(async move {
            let path = self.path.join(std::ffi::OsStr::from_bytes(name));
            Ok(Arc::new(Folder::new(path).map_err(errno)?) as Arc<dyn Node>)
        })
    }

    fn target(&self) -> Pending<'_, Vec<u8>> {
        Box::pin(async {
            let target = fs::read_link(&self.path).map_err(errno)?;
            Ok(target.into_os_string().into_vec())
        })
    }
}
