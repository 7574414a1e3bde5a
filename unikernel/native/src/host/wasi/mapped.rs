//! Files that are mapped in one by one, as uhyve does it: each directory that the module is given has those whose paths
//! lead through it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::errno::Errno;
use super::volume::{Granted, Kind, Listed, Node, Pending, Status};

/// Where the content of a file comes from.
pub trait Content: Send + Sync + 'static {
    /// Bytes.
    fn size(&self) -> Result<u64, Errno>;

    /// Up to `size` bytes from an offset on, fewer at the end; it may give less, but for none.
    fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, Errno>;
}

/// What opens a file by its path in the machine.
pub type Open = fn(path: &[u8]) -> Result<Box<dyn Content>, Errno>;

/// The directories with the files of these paths, each of which begins with `/`. Paths that name no file are left out.
pub fn directories(paths: &[String], open: Open) -> Vec<Granted> {
    let mut by_directory: BTreeMap<&str, BTreeMap<Vec<u8>, Arc<File>>> = BTreeMap::new();
    for (number, path) in paths.iter().enumerate() {
        let Some((directory, name)) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()) else { continue };
        let directory = if directory.is_empty() { "/" } else { directory };
        let file = File { path: path.clone().into_bytes(), identity: number as u64 + 1, open };
        by_directory.entry(directory).or_default().insert(name.as_bytes().to_vec(), Arc::new(file));
    }
    let root = |(number, (name, files)): (usize, (&str, _))| Granted {
        name: name.as_bytes().to_vec(),
        root: Arc::new(Directory { files, identity: (paths.len() + number) as u64 + 1 }),
    };
    by_directory.into_iter().enumerate().map(root).collect()
}

struct Directory {
    files: BTreeMap<Vec<u8>, Arc<File>>,
    identity: u64,
}

struct File {
    path: Vec<u8>,
    identity: u64,
    open: Open,
}

impl Node for Directory {
    fn kind(&self) -> Kind {
        Kind::Directory
    }

    fn status(&self) -> Pending<'_, Status> {
        let status = Status { kind: Kind::Directory, links: 1, identity: self.identity, ..Status::default() };
        Box::pin(async move { Ok(status) })
    }

    fn open(&self) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn read(&self, _: u64, _: usize) -> Pending<'_, Vec<u8>> {
        Box::pin(async { Err(Errno::ISDIR) })
    }

    fn entries(&self) -> Pending<'_, Vec<Listed>> {
        let listed = |(name, file): (&Vec<u8>, &Arc<File>)| Listed {
            name: name.clone(),
            kind: Kind::RegularFile,
            identity: file.identity,
        };
        Box::pin(async move { Ok(self.files.iter().map(listed).collect()) })
    }

    fn child<'a>(&'a self, name: &'a [u8]) -> Pending<'a, Arc<dyn Node>> {
        Box::pin(async move {
            let file = self.files.get(name).ok_or(Errno::NOENT)?;
            Ok(file.clone() as Arc<dyn Node>)
        })
    }

    fn target(&self) -> Pending<'_, Vec<u8>> {
        Box::pin(async { Err(Errno::INVAL) })
    }
}

impl Node for File {
    fn kind(&self) -> Kind {
        Kind::RegularFile
    }

    fn status(&self) -> Pending<'_, Status> {
        Box::pin(async {
            let size = (self.open)(&self.path)?.size()?;
            Ok(Status { kind: Kind::RegularFile, links: 1, size, identity: self.identity, ..Status::default() })
        })
    }

    fn open(&self) -> Pending<'_, ()> {
        Box::pin(async { (self.open)(&self.path).map(|_| ()) })
    }

    /// The host's file is opened for each piece: the module may have as many files open as it likes.
    fn read(&self, offset: u64, size: usize) -> Pending<'_, Vec<u8>> {
        Box::pin(async move { (self.open)(&self.path)?.read(offset, size) })
    }

    fn entries(&self) -> Pending<'_, Vec<Listed>> {
        Box::pin(async { Err(Errno::NOTDIR) })
    }

    fn child<'a>(&'a self, _: &'a [u8]) -> Pending<'a, Arc<dyn Node>> {
        Box::pin(async { Err(Errno::NOTDIR) })
    }

    fn target(&self) -> Pending<'_, Vec<u8>> {
        Box::pin(async { Err(Errno::INVAL) })
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::host::executor::block_on;
    use alloc::vec;

    struct Text(&'static [u8]);

    impl Content for Text {
        fn size(&self) -> Result<u64, Errno> {
            Ok(self.0.len() as u64)
        }

        fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, Errno> {
            Ok(self.0.iter().skip(offset as usize).take(size.min(4)).copied().collect())
        }
    }

    fn open(path: &[u8]) -> Result<Box<dyn Content>, Errno> {
        match path {
            b"/data/numbers" => Ok(Box::new(Text(b"0123456789"))),
            b"/top" => Ok(Box::new(Text(b"top"))),
            _ => Err(Errno::NOENT),
        }
    }

    #[test]
    fn files_are_in_the_directories_of_their_paths() {
        let paths = ["/data/numbers", "/top", "/data/gone", "nothing", "/data/"].map(String::from);
        let granted = directories(&paths, open);
        let names: Vec<&[u8]> = granted.iter().map(|granted| &granted.name[..]).collect();
        assert_eq!(names, [&b"/"[..], b"/data"]);
        block_on(async {
            let data = &granted[1].root;
            let listed: Vec<Vec<u8>> = data.entries().await.unwrap().into_iter().map(|entry| entry.name).collect();
            assert_eq!(listed, [b"gone".to_vec(), b"numbers".to_vec()]);
            let numbers = data.child(b"numbers").await.unwrap();
            assert_eq!(numbers.status().await.unwrap().size, 10);
            assert_eq!(numbers.read(2, 100).await.unwrap(), b"2345");
            assert!(numbers.read(10, 100).await.unwrap().is_empty());
            assert_eq!(data.child(b"gone").await.unwrap().open().await, Err(Errno::NOENT));
            assert_eq!(data.child(b"top").await.err(), Some(Errno::NOENT));
        });
    }

    #[test]
    fn each_file_has_an_identity_of_its_own() {
        let paths = ["/data/numbers", "/data/gone", "/top"].map(String::from);
        let granted = directories(&paths, open);
        block_on(async {
            let mut identities = vec![];
            for directory in &granted {
                identities.push(directory.root.status().await.unwrap().identity);
                identities.extend(directory.root.entries().await.unwrap().iter().map(|entry| entry.identity));
            }
            identities.sort_unstable();
            identities.dedup();
            assert_eq!(identities.len(), 2 + 3);
        });
    }
}
