//! Descriptors: what they are, what is told of them, and what can't be changed of files that are read only.

use alloc::boxed::Box;

use wasmtime::{Caller, Linker, Result};

use super::super::guest::Data;
use super::MODULE;
use super::call::{Answer, Call, answered};
use super::errno::Errno;
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

pub fn add_to_linker(linker: &mut Linker<Data>) -> Result<()> {
    linker.func_wrap(MODULE, "fd_close", |mut caller: Caller<'_, Data>, number: u32| {
        let call = Call::begin(&mut caller, "fd_close")?;
        answered(call.wasi.table().remove(number).map_err(Into::into))
    })?;
    linker.func_wrap(MODULE, "fd_renumber", |mut caller: Caller<'_, Data>, number: u32, to: u32| {
        let call = Call::begin(&mut caller, "fd_renumber")?;
        answered(call.wasi.table().renumber(number, to).map_err(Into::into))
    })?;
    linker.func_wrap(MODULE, "fd_fdstat_get", |mut caller: Caller<'_, Data>, number: u32, at: u32| {
        answered(fdstat(&mut Call::begin(&mut caller, "fd_fdstat_get")?, number, at))
    })?;
    linker.func_wrap(MODULE, "fd_fdstat_set_flags", |mut caller: Caller<'_, Data>, number: u32, flags: u32| {
        answered(set_flags(&mut Call::begin(&mut caller, "fd_fdstat_set_flags")?, number, flags))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_rights",
        |mut caller: Caller<'_, Data>, number: u32, rights: u64, inherited: u64| {
            let call = &mut Call::begin(&mut caller, "fd_fdstat_set_rights")?;
            call.flags("rights", rights, RIGHTS)?;
            call.flags("rights", inherited, RIGHTS)?;
            answered(match call.wasi.table().get(number) {
                Ok(Entry::File(_) | Entry::Directory(_)) => Err(Errno::NOTSUP.into()),
                _ => Err(Errno::BADF.into()),
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_advise",
        |mut caller: Caller<'_, Data>, number: u32, offset: u64, size: u64, advice: u32| {
            let call = &mut Call::begin(&mut caller, "fd_advise")?;
            call.case("advice", advice, ADVICE)?;
            answered(match call.wasi.table().file(number) {
                Err(errno) => Err(errno.into()),
                Ok(_) if (offset | size) >> 63 != 0 => Err(Errno::INVAL.into()),
                Ok(_) => Ok(()),
            })
        },
    )?;
    linker.func_wrap(MODULE, "fd_allocate", |mut caller: Caller<'_, Data>, number: u32, _: u64, _: u64| {
        let call = Call::begin(&mut caller, "fd_allocate")?;
        answered(call.wasi.table().file(number).and(Err(Errno::NOTSUP)).map_err(Into::into))
    })?;
    for name in ["fd_datasync", "fd_sync"] {
        linker.func_wrap(MODULE, name, move |mut caller: Caller<'_, Data>, number: u32| {
            let call = Call::begin(&mut caller, name)?;
            answered(call.wasi.table().file(number).map(|_| ()).map_err(Into::into))
        })?;
    }
    linker.func_wrap_async(MODULE, "fd_filestat_get", |mut caller: Caller<'_, Data>, (number, at): (u32, u32)| {
        Box::new(async move { answered(filestat(&mut caller, number, at).await) })
    })?;
    linker.func_wrap(MODULE, "fd_filestat_set_size", |mut caller: Caller<'_, Data>, number: u32, _: u64| {
        let call = Call::begin(&mut caller, "fd_filestat_set_size")?;
        answered(call.wasi.table().file(number).and(Err(Errno::PERM)).map_err(Into::into))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_filestat_set_times",
        |mut caller: Caller<'_, Data>, number: u32, _: u64, _: u64, flags: u32| {
            answered(set_times(&mut Call::begin(&mut caller, "fd_filestat_set_times")?, number, flags))
        },
    )?;
    linker.func_wrap(MODULE, "fd_prestat_get", |mut caller: Caller<'_, Data>, number: u32, at: u32| {
        answered(prestat(&mut Call::begin(&mut caller, "fd_prestat_get")?, number, at))
    })?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_dir_name",
        |mut caller: Caller<'_, Data>, number: u32, at: u32, size: u32| {
            answered(prestat_name(&mut Call::begin(&mut caller, "fd_prestat_dir_name")?, number, at, size))
        },
    )?;
    add_sockets(linker)
}

/// There are none.
fn add_sockets(linker: &mut Linker<Data>) -> Result<()> {
    fn no_socket(caller: &mut Caller<'_, Data>, name: &'static str, number: u32) -> Result<u32> {
        let call = Call::begin(caller, name)?;
        answered(call.wasi.table().get(number).and(Err(Errno::NOTSOCK)).map_err(Into::into))
    }
    linker.func_wrap(MODULE, "sock_accept", |mut caller: Caller<'_, Data>, number: u32, _: u32, _: u32| {
        no_socket(&mut caller, "sock_accept", number)
    })?;
    linker.func_wrap(
        MODULE,
        "sock_recv",
        |mut caller: Caller<'_, Data>, number: u32, _: u32, _: u32, _: u32, _: u32, _: u32| {
            no_socket(&mut caller, "sock_recv", number)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "sock_send",
        |mut caller: Caller<'_, Data>, number: u32, _: u32, _: u32, _: u32, _: u32| {
            no_socket(&mut caller, "sock_send", number)
        },
    )?;
    linker.func_wrap(MODULE, "sock_shutdown", |mut caller: Caller<'_, Data>, number: u32, _: u32| {
        no_socket(&mut caller, "sock_shutdown", number)
    })?;
    Ok(())
}

fn fdstat(call: &mut Call<'_>, number: u32, at: u32) -> Answer {
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

fn set_flags(call: &mut Call<'_>, number: u32, flags: u32) -> Answer {
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

fn set_times(call: &mut Call<'_>, number: u32, flags: u32) -> Answer {
    check_times(call, flags)?;
    match call.wasi.table().get(number)? {
        Entry::File(_) | Entry::Directory(_) => Err(Errno::PERM.into()),
        Entry::Input(_) | Entry::Output(_) => Err(Errno::BADF.into()),
    }
}

async fn filestat(caller: &mut Caller<'_, Data>, number: u32, at: u32) -> Answer {
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

fn prestat(call: &mut Call<'_>, number: u32, at: u32) -> Answer {
    let Entry::Directory(directory) = call.wasi.table().get(number)?.clone() else {
        return Err(Errno::BADF.into());
    };
    let Some(name) = &directory.granted else { return Err(Errno::BADF.into()) };
    let prestat = call.bytes("buf", at, 8, 4)?;
    prestat[..4].fill(0);
    prestat[4..].copy_from_slice(&(name.len() as u32).to_le_bytes());
    Ok(())
}

fn prestat_name(call: &mut Call<'_>, number: u32, at: u32, size: u32) -> Answer {
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
