//! Descriptors: what they are, what is told of them, and what can't be changed of files that are read only.

use alloc::boxed::Box;

use wasmtime::Caller;

use super::super::guest::Data;
use super::call::{Answer, Call};
use super::errno::Errno;
use super::import::{Args, Import, later, now, words};
use super::table::Entry;
use super::volume::{Kind, Status};

const APPEND: u32 = 1;
const NONBLOCK: u32 = 4;
/// DSYNC, RSYNC, SYNC: nothing is written.
pub const SYNCHRONOUS: u32 = 2 | 8 | 16;
pub const FLAGS: u32 = 5;
const ADVICE: u32 = 6;

/// Rights, each a bit.
pub const RIGHTS: u32 = 30;
const ALL: u64 = (1 << RIGHTS) - 1;
pub const FD_READ: u64 = 1 << 1;
const FD_SEEK: u64 = 1 << 2;
pub const FD_WRITE: u64 = 1 << 6;
const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
/// path_create_directory to path_rename_target, path_filestat_get, path_filestat_set_times, fd_filestat_get,
/// fd_filestat_set_times, path_symlink, path_remove_directory, path_unlink_file
const OF_GRANTED: u64 = 0x7fe00 | 1 << 20 | 1 << 21 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
/// and, for what is opened there, all that files have
const INHERITED: u64 = OF_GRANTED | 0x1ff | 1 << 22 | 1 << 27;

pub static IMPORTS: [Import; 18] = [
    now("fd_close", "i", |call, args| Ok(call.wasi.table().remove(words(args)[0])?)),
    now("fd_renumber", "ii", |call, args| Ok(call.wasi.table().renumber(words(args)[0], words(args)[1])?)),
    now("fd_fdstat_get", "ii", fdstat),
    now("fd_fdstat_set_flags", "ii", set_flags),
    now("fd_fdstat_set_rights", "iII", set_rights),
    now("fd_advise", "iIIi", advise),
    now("fd_allocate", "iII", |call, args| with_file(call, args, Err(Errno::NOTSUP))),
    now("fd_datasync", "i", |call, args| with_file(call, args, Ok(()))),
    now("fd_sync", "i", |call, args| with_file(call, args, Ok(()))),
    later("fd_filestat_get", "ii", |caller, args| Box::pin(filestat(caller, args))),
    now("fd_filestat_set_size", "iI", |call, args| with_file(call, args, Err(Errno::PERM))),
    now("fd_filestat_set_times", "iIIi", set_times),
    now("fd_prestat_get", "ii", prestat),
    now("fd_prestat_dir_name", "iii", prestat_name),
    now("sock_accept", "iii", no_socket),
    now("sock_recv", "iiiiii", no_socket),
    now("sock_send", "iiiii", no_socket),
    now("sock_shutdown", "ii", no_socket),
];

/// There are none.
fn no_socket(call: &mut Call<'_>, args: Args) -> Answer {
    call.wasi.table().get(words(args)[0])?;
    Err(Errno::NOTSOCK.into())
}

/// The answer where the descriptor is a file's.
fn with_file(call: &mut Call<'_>, args: Args, answer: Result<(), Errno>) -> Answer {
    call.wasi.table().file(words(args)[0])?;
    Ok(answer?)
}

fn set_rights(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, rights, inherited, ..] = args;
    call.flags("rights", rights, RIGHTS)?;
    call.flags("rights", inherited, RIGHTS)?;
    match call.wasi.table().get(number as u32)? {
        Entry::File(_) | Entry::Directory(_) => Err(Errno::NOTSUP.into()),
        Entry::Input(_) | Entry::Output(_) => Err(Errno::BADF.into()),
    }
}

fn advise(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, offset, size, advice, ..] = args;
    call.case("advice", advice as u32, ADVICE)?;
    call.wasi.table().file(number as u32)?;
    if (offset | size) >> 63 != 0 { Err(Errno::INVAL.into()) } else { Ok(()) }
}

fn fdstat(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, at, ..] = words(args);
    let entry = call.wasi.table().get(number)?.clone();
    let mut flags = 0;
    let (kind, rights, inherited) = match entry {
        Entry::Input(_) => (Kind::Unknown, FD_READ, FD_READ),
        Entry::Output(_) => (Kind::Unknown, FD_WRITE, FD_WRITE),
        Entry::Directory(directory) if directory.granted.is_some() => (Kind::Directory, OF_GRANTED, INHERITED),
        Entry::Directory(_) => {
            let rights = ALL & !(FD_SEEK | FD_FILESTAT_SET_SIZE | PATH_FILESTAT_SET_SIZE | FD_WRITE);
            (Kind::Directory, rights, rights)
        }
        Entry::File(file) => {
            let state = file.state.lock();
            flags = APPEND * u32::from(state.append) | NONBLOCK * u32::from(state.nonblocking);
            (file.node.kind(), ALL & !FD_WRITE, ALL & !FD_WRITE)
        }
    };
    // `fdstat`: a byte, 16 bits at 2, 64 bits each at 8 and 16.
    let stat = call.bytes("stat", at, 24, 8)?;
    stat[..8].fill(0);
    stat[0] = kind as u8;
    stat[2] = flags as u8;
    stat[8..16].copy_from_slice(&rights.to_le_bytes());
    stat[16..24].copy_from_slice(&inherited.to_le_bytes());
    Ok(())
}

fn set_flags(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, flags, ..] = words(args);
    call.flags("flags", flags.into(), FLAGS)?;
    let file = call.wasi.table().file(number)?;
    if flags & SYNCHRONOUS != 0 {
        return Err(Errno::INVAL.into());
    }
    let mut state = file.state.lock();
    state.append = flags & APPEND != 0;
    state.nonblocking = flags & NONBLOCK != 0;
    Ok(())
}

/// Checks which times are to be set: `INVAL` where one is both a given one and now.
pub fn check_times(call: &Call<'_>, flags: u32) -> Answer {
    call.flags("flags", flags.into(), 4)?;
    if flags & 3 == 3 || flags & 12 == 12 { Err(Errno::INVAL.into()) } else { Ok(()) }
}

fn set_times(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, _accessed, _modified, flags, ..] = words(args);
    check_times(call, flags)?;
    match call.wasi.table().get(number)? {
        Entry::File(_) | Entry::Directory(_) => Err(Errno::PERM.into()),
        Entry::Input(_) | Entry::Output(_) => Err(Errno::BADF.into()),
    }
}

async fn filestat(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    let [number, at, ..] = words(args);
    let entry = Call::begin(caller, "fd_filestat_get")?.wasi.table().get(number)?.clone();
    let (status, device) = match entry {
        Entry::Input(_) | Entry::Output(_) => (Status::default(), 0),
        Entry::File(file) => (file.node.status().await?, 1),
        Entry::Directory(directory) => (directory.node.status().await?, 1),
    };
    put_status(&mut Call::resume(caller, "fd_filestat_get")?, at, &status, device)
}

/// Bytes of a `filestat`.
pub const FILESTAT: u64 = 64;

/// Writes a `filestat`. All files are on one `device`, as the numbers of others tell the guest nothing.
pub fn put_status(call: &mut Call<'_>, at: u32, status: &Status, device: u64) -> Answer {
    let stat = call.bytes("stat", at, FILESTAT, 8)?;
    let kind = status.kind as u64;
    let numbers = [
        device,
        status.identity,
        kind,
        status.links,
        status.size,
        status.accessed,
        status.modified,
        status.changed,
    ];
    for (place, number) in stat.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    Ok(())
}

fn prestat(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, at, ..] = words(args);
    let Entry::Directory(directory) = call.wasi.table().get(number)?.clone() else {
        return Err(Errno::BADF.into());
    };
    let Some(name) = &directory.granted else { return Err(Errno::BADF.into()) };
    let prestat = call.bytes("buf", at, 8, 4)?;
    prestat[..4].fill(0);
    prestat[4..].copy_from_slice(&(name.len() as u32).to_le_bytes());
    Ok(())
}

fn prestat_name(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, at, size, ..] = words(args);
    let Entry::Directory(directory) = call.wasi.table().get(number)?.clone() else {
        return Err(Errno::NOTDIR.into());
    };
    let Some(name) = &directory.granted else { return Err(Errno::NOTDIR.into()) };
    if (size as usize) < name.len() {
        return Err(Errno::NAMETOOLONG.into());
    }
    call.bytes("path", at, name.len() as u64, 1)?.copy_from_slice(name);
    Ok(())
}
