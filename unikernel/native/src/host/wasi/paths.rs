//! Paths below a granted directory: found component by component, so that none leads out of it; and what can be done
//! with one.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use wasmtime::Caller;

use super::super::guest::Data;
use super::super::sync::Mutex;
use super::call::{Answer, Call, Failure};
use super::descriptors::{FILESTAT, FLAGS, FD_WRITE, RIGHTS, SYNCHRONOUS, check_times, put_status};
use super::errno::Errno;
use super::import::{Args, Import, later, now, words};
use super::table::{Directory, Entry, File, FileState};
use super::volume::{Kind, Node};

/// Symbolic links on the way of one path, as in Linux.
const MAX_LINKS: usize = 40;

/// Directories that one path leads down.
const MAX_DEPTH: usize = 256;

/// Bytes of a path, as in Linux.
const MAX_PATH: u32 = 4096;

pub static IMPORTS: [Import; 10] = [
    later("path_open", "iiiiiIIii", |caller, args| Box::pin(open(caller, args))),
    later("path_filestat_get", "iiiii", |caller, args| Box::pin(status(caller, args))),
    later("path_readlink", "iiiiii", |caller, args| Box::pin(read_link(caller, args))),
    // What would change something: refused, as files are read only.
    now("path_create_directory", "iii", change),
    now("path_remove_directory", "iii", change),
    now("path_unlink_file", "iii", change),
    now("path_filestat_set_times", "iiiiIIi", set_times),
    now("path_link", "iiiiiii", link),
    now("path_rename", "iiiiii", rename),
    now("path_symlink", "iiiii", link_symbolically),
];

fn change(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, path, size, ..] = words(args);
    path_at(call, "path", path, size)?;
    refuse(call, &[number])
}

fn set_times(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, lookup, path, size, _accessed, _modified, flags, ..] = words(args);
    call.flags("lookup flags", lookup.into(), 1)?;
    check_times(call, flags)?;
    path_at(call, "path", path, size)?;
    refuse(call, &[number])
}

fn link(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, lookup, path, size, to, new, length, ..] = words(args);
    call.flags("lookup flags", lookup.into(), 1)?;
    path_at(call, "path", path, size)?;
    path_at(call, "new path", new, length)?;
    refuse(call, &[number, to])
}

fn rename(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, path, size, to, new, length, ..] = words(args);
    path_at(call, "path", path, size)?;
    path_at(call, "new path", new, length)?;
    refuse(call, &[number, to])
}

fn link_symbolically(call: &mut Call<'_>, args: Args) -> Answer {
    let [target, length, number, path, size, ..] = words(args);
    path_at(call, "target", target, length)?;
    path_at(call, "path", path, size)?;
    refuse(call, &[number])
}

/// `PERM` for directories, in which nothing may be changed; `BADF` for what is none.
fn refuse(call: &mut Call<'_>, numbers: &[u32]) -> Answer {
    for number in numbers {
        call.wasi.table().directory(*number)?;
    }
    Err(Errno::PERM.into())
}

/// A path that the guest hands over. `ILSEQ` where it is not UTF-8; one that is too long isn't copied to be refused.
fn path_at(call: &mut Call<'_>, what: &str, at: u32, size: u32) -> Result<Vec<u8>, Failure> {
    let bytes = call.bytes(what, at, size.into(), 1)?;
    if size >= MAX_PATH {
        return Ok(vec![b'x'; MAX_PATH as usize]);
    }
    match core::str::from_utf8(bytes) {
        Ok(text) => Ok(text.as_bytes().to_vec()),
        Err(_) => Err(Errno::ILSEQ.into()),
    }
}

/// Where a path leads: a name in a directory. It may be that of a symbolic link, or of nothing.
struct Place {
    directory: Arc<dyn Node>,
    /// None where the path leads to the directory itself.
    name: Option<Vec<u8>>,
    /// Whether the path ends in a slash: only a directory is meant.
    slash: bool,
}

impl Place {
    async fn node(&self) -> Result<Arc<dyn Node>, Errno> {
        match &self.name {
            None => Ok(self.directory.clone()),
            Some(name) => self.directory.child(name).await,
        }
    }

    /// The same, but `NOTDIR` where the path ends in a slash and leads to anything but a directory.
    async fn node_of_kind(&self) -> Result<Arc<dyn Node>, Errno> {
        let node = self.node().await?;
        if self.slash && node.kind() != Kind::Directory { Err(Errno::NOTDIR) } else { Ok(node) }
    }
}

/// Where a path leads from a directory. With `follow`, a symbolic link at its end is followed.
///
/// `PERM` for a path that leads out of the directory.
async fn walk(start: &Arc<dyn Node>, path: &[u8], follow: bool) -> Result<Place, Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if path.len() >= MAX_PATH as usize {
        return Err(Errno::NAMETOOLONG);
    }
    if path.contains(&0) {
        return Err(Errno::INVAL);
    }
    let mut todo = components(path)?;
    let mut slash = path.ends_with(b"/");
    let mut links = 0;
    // The directories below the first one that lead to the place, each in the one before it.
    let mut below: Vec<Arc<dyn Node>> = Vec::new();
    while let Some(name) = todo.pop() {
        let directory = below.last().unwrap_or(start).clone();
        if name == b".." {
            below.pop().ok_or(Errno::PERM)?;
            continue;
        }
        if name == b"." {
            continue;
        }
        if todo.is_empty() && !follow {
            return Ok(Place { directory, name: Some(name), slash });
        }
        let node = match directory.child(&name).await {
            Err(Errno::NOENT) if todo.is_empty() => return Ok(Place { directory, name: Some(name), slash }),
            found => found?,
        };
        match node.kind() {
            Kind::SymbolicLink => {
                let target = node.target().await?;
                slash |= todo.is_empty() && target.ends_with(b"/");
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                todo.extend(components(&target)?);
            }
            _ if todo.is_empty() => return Ok(Place { directory, name: Some(name), slash }),
            Kind::Directory if below.len() == MAX_DEPTH => return Err(Errno::NAMETOOLONG),
            Kind::Directory => below.push(node),
            _ => return Err(Errno::NOTDIR),
        }
    }
    Ok(Place { directory: below.pop().unwrap_or_else(|| start.clone()), name: None, slash })
}

/// The components of a path, the first last; those that mean nothing are left out. `PERM` for an absolute path.
fn components(path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    if path.starts_with(b"/") {
        return Err(Errno::PERM);
    }
    let mut found: Vec<_> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    found.reverse();
    Ok(if found.is_empty() { vec![b".".to_vec()] } else { found })
}

const CREATE: u32 = 1;
const DIRECTORY: u32 = 2;
const EXCLUSIVE: u32 = 4;
const TRUNCATE: u32 = 8;
const FOLLOW: u32 = 1;
const APPEND: u32 = 1;
const NONBLOCK: u32 = 4;

async fn open(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    const NAME: &str = "path_open";
    let [number, lookup, path, size, wanted, _, _, flags, at] = words(args);
    let [_, _, _, _, _, rights, inherited, ..] = args;
    let (directory, path) = {
        let mut call = Call::begin(caller, NAME)?;
        call.flags("lookup flags", lookup.into(), 1)?;
        call.flags("oflags", wanted.into(), 4)?;
        call.flags("rights", rights | inherited, RIGHTS)?;
        call.flags("flags", flags.into(), FLAGS)?;
        let path = path_at(&mut call, "path", path, size)?;
        call.check("fd", at, 4, 4)?;
        let directory = match call.wasi.table().get(number)? {
            Entry::Directory(directory) => directory.clone(),
            Entry::File(_) => return Err(Errno::NOTDIR.into()),
            Entry::Input(_) | Entry::Output(_) => return Err(Errno::BADF.into()),
        };
        if flags & SYNCHRONOUS != 0 {
            return Err(Errno::NOTSUP.into());
        }
        if wanted & DIRECTORY != 0 && wanted & (CREATE | EXCLUSIVE | TRUNCATE) != 0 {
            return Err(Errno::INVAL.into());
        }
        if rights & FD_WRITE != 0 || wanted & (CREATE | TRUNCATE) != 0 {
            return Err(Errno::PERM.into());
        }
        call.wasi.table().check_room()?;
        (directory, path)
    };
    let follow = lookup & FOLLOW != 0 || path.ends_with(b"/");
    let place = walk(&directory.node, &path, follow).await?;
    let node = place.node().await?;
    let entry = match node.kind() {
        Kind::SymbolicLink => return Err(Errno::LOOP.into()),
        Kind::Directory => Entry::Directory(Arc::new(Directory::new(node.clone(), None))),
        _ if place.slash || wanted & DIRECTORY != 0 => return Err(Errno::NOTDIR.into()),
        _ => {
            let (append, nonblocking) = (flags & APPEND != 0, flags & NONBLOCK != 0);
            let state = FileState { position: 0, append, nonblocking };
            Entry::File(Arc::new(File { node: node.clone(), state: Mutex::new(state) }))
        }
    };
    node.open().await?;
    let mut call = Call::resume(caller, NAME)?;
    let number = call.wasi.table().add(entry);
    Ok(call.put_u32("fd", at, number)?)
}

async fn status(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    const NAME: &str = "path_filestat_get";
    let [number, lookup, path, size, at, ..] = words(args);
    let (directory, path) = {
        let mut call = Call::begin(caller, NAME)?;
        call.flags("lookup flags", lookup.into(), 1)?;
        let path = path_at(&mut call, "path", path, size)?;
        call.check("stat", at, FILESTAT, 8)?;
        (call.wasi.table().directory(number)?.clone(), path)
    };
    let follow = lookup & FOLLOW != 0 || path.ends_with(b"/");
    let found = walk(&directory.node, &path, follow).await?.node_of_kind().await?.status().await?;
    put_status(&mut Call::resume(caller, NAME)?, at, &found, 1)
}

async fn read_link(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    const NAME: &str = "path_readlink";
    let [number, path, path_size, buffer, size, at, ..] = words(args);
    let (directory, path) = {
        let mut call = Call::begin(caller, NAME)?;
        let path = path_at(&mut call, "path", path, path_size)?;
        call.check("buf", buffer, size.into(), 1)?;
        call.check("size", at, 4, 4)?;
        (call.wasi.table().directory(number)?.clone(), path)
    };
    let place = walk(&directory.node, &path, path.ends_with(b"/")).await?;
    let target = place.node_of_kind().await?.target().await?;
    if target.starts_with(b"/") {
        return Err(Errno::PERM.into()); // it says something of the machine
    }
    if core::str::from_utf8(&target).is_err() {
        return Err(Errno::ILSEQ.into());
    }
    let done = target.len().min(size as usize);
    let mut call = Call::resume(caller, NAME)?;
    call.bytes("buf", buffer, done as u64, 1)?.copy_from_slice(&target[..done]);
    Ok(call.put_u32("size", at, done as u32)?)
}
