//! Reading and writing: standard input and output, files, directories.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wasmtime::{Caller, Result};

use super::super::guest::Data;
use super::call::{Answer, Call, Failure, u32_in};
use super::errno::Errno;
use super::files;
use super::import::{Args, Import, later, now, words};
use super::table::{Directory, Entry};

/// How many buffers a call may name, as for readv(2) in Linux.
const BUFFERS: u32 = 1024;

/// Bytes that are printed at once, as a pipe takes them (PIPE_BUF in Linux).
const SHORT: u64 = 4096;

const END: u32 = 2;
const CURRENT: u32 = 1;

pub static IMPORTS: [Import; 7] = [
    later("fd_read", "iiii", |caller, args| Box::pin(read(caller, args))),
    later("fd_pread", "iiiIi", |caller, args| Box::pin(read_at(caller, args))),
    later("fd_write", "iiii", |caller, args| Box::pin(write(caller, args))),
    now("fd_pwrite", "iiiIi", write_at),
    later("fd_seek", "iIii", |caller, args| Box::pin(seek(caller, args))),
    now("fd_tell", "ii", tell),
    later("fd_readdir", "iiiIi", |caller, args| Box::pin(read_directory(caller, args))),
];

/// Address and size of the first buffer with anything in it, which is the one that is read or written: a call may do
/// less than it is asked for. `INVAL` for too many.
fn first_buffer(call: &mut Call<'_>, at: u32, count: u32) -> core::result::Result<(u32, u32), Failure> {
    let listed = call.bytes("iovs", at, u64::from(count) * 8, 4)?;
    if count > BUFFERS {
        return Err(Errno::INVAL.into());
    }
    let mut buffers = listed.chunks_exact(8).map(|buffer| (u32_in(buffer, 0), u32_in(buffer, 4)));
    let (buffer, size) = buffers.find(|(_, size)| *size > 0).unwrap_or((0, 0));
    call.check("buf", buffer, size.into(), 1)?;
    Ok((buffer, size))
}

/// What is in all buffers, where it is so little that it is printed at once: a C library has a line in two of them, and
/// what others print must not come between. None where it's more.
fn short(call: &mut Call<'_>, at: u32, count: u32) -> Result<Option<Vec<u8>>> {
    let listed = call.bytes("iovs", at, u64::from(count) * 8, 4)?;
    let buffers: Vec<_> = listed.chunks_exact(8).map(|buffer| (u32_in(buffer, 0), u32_in(buffer, 4))).collect();
    if buffers.iter().map(|(_, size)| u64::from(*size)).sum::<u64>() > SHORT {
        return Ok(None);
    }
    let mut all = Vec::new();
    for (buffer, size) in buffers.into_iter().filter(|(_, size)| *size > 0) {
        all.extend_from_slice(call.bytes("buf", buffer, size.into(), 1)?);
    }
    Ok(Some(all))
}

async fn read(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    let [number, buffers, count, at, ..] = words(args);
    let (buffer, size, entry) = {
        let mut call = Call::begin(caller, "fd_read")?;
        let (buffer, size) = first_buffer(&mut call, buffers, count)?;
        call.check("size", at, 4, 4)?;
        (buffer, size, call.wasi.table().get(number)?.clone())
    };
    let done = match entry {
        Entry::File(file) => {
            let position = file.state.lock().position;
            let done = files::read(caller, "fd_read", &file, buffer, size, position).await?;
            file.state.lock().position += u64::from(done);
            done
        }
        Entry::Input(Some(input)) if size > 0 => {
            let found = input.read(size as usize).await;
            let mut call = Call::resume(caller, "fd_read")?;
            call.bytes("buf", buffer, found.len() as u64, 1)?.copy_from_slice(&found);
            found.len() as u32
        }
        Entry::Input(_) => 0,
        Entry::Output(_) | Entry::Directory(_) => return Err(Errno::BADF.into()),
    };
    Ok(Call::resume(caller, "fd_read")?.put_u32("size", at, done)?)
}

async fn read_at(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    let [number, buffers, count, _, at, ..] = words(args);
    let position = args[3];
    let (buffer, size, entry) = {
        let mut call = Call::begin(caller, "fd_pread")?;
        let (buffer, size) = first_buffer(&mut call, buffers, count)?;
        call.check("size", at, 4, 4)?;
        (buffer, size, call.wasi.table().get(number)?.clone())
    };
    let done = match entry {
        Entry::File(file) => files::read(caller, "fd_pread", &file, buffer, size, position).await?,
        Entry::Input(_) => return Err(Errno::SPIPE.into()),
        Entry::Output(_) | Entry::Directory(_) => return Err(Errno::BADF.into()),
    };
    Ok(Call::resume(caller, "fd_pread")?.put_u32("size", at, done)?)
}

async fn write(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    let [number, buffers, count, at, ..] = words(args);
    let (buffer, size, output, line) = {
        let mut call = Call::begin(caller, "fd_write")?;
        let (buffer, size) = first_buffer(&mut call, buffers, count)?;
        call.check("size", at, 4, 4)?;
        // Files are read only.
        let Entry::Output(output) = call.wasi.table().get(number)?.clone() else {
            return Err(Errno::BADF.into());
        };
        (buffer, size, output, short(&mut call, buffers, count)?)
    };
    let done = if let Some(line) = line {
        output.print(&line).await.map_err(|_| Errno::PIPE)? as u32
    } else {
        let mut done = 0;
        while done < size {
            output.room().await;
            let mut call = Call::resume(caller, "fd_write")?;
            let piece = (size - done).min(SHORT as u32 * 16);
            let bytes = call.bytes("buf", buffer + done, piece.into(), 1)?.to_vec();
            done += output.print(&bytes).await.map_err(|_| Errno::PIPE)? as u32;
        }
        done
    };
    Ok(Call::resume(caller, "fd_write")?.put_u32("size", at, done)?)
}

/// Nothing that has positions can be written to.
fn write_at(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, buffers, count, _position, at, ..] = words(args);
    first_buffer(call, buffers, count)?;
    call.check("size", at, 4, 4)?;
    match call.wasi.table().get(number)? {
        Entry::Output(_) => Err(Errno::SPIPE.into()),
        Entry::Input(_) | Entry::File(_) | Entry::Directory(_) => Err(Errno::BADF.into()),
    }
}

async fn seek(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    let [number, _, whence, at, ..] = words(args);
    let offset = args[1] as i64;
    let file = {
        let call = Call::begin(caller, "fd_seek")?;
        call.case("whence", whence, END + 1)?;
        call.wasi.table().seekable(number)?.clone()
    };
    let base = match whence {
        CURRENT => file.state.lock().position,
        END => file.node.status().await?.size,
        _ => 0,
    };
    let Some(position) = base.checked_add_signed(offset) else { return Err(Errno::INVAL.into()) };
    Call::resume(caller, "fd_seek")?.put_u64("position", at, position)?;
    file.state.lock().position = position;
    Ok(())
}

fn tell(call: &mut Call<'_>, args: Args) -> Answer {
    let [number, at, ..] = words(args);
    let position = call.wasi.table().seekable(number)?.state.lock().position;
    Ok(call.put_u64("position", at, position)?)
}

async fn read_directory(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    let [number, buffer, size, _, at, ..] = words(args);
    let cookie = args[3];
    let directory: Arc<Directory> = {
        let mut call = Call::begin(caller, "fd_readdir")?;
        call.check("buf", buffer, size.into(), 1)?;
        call.check("size", at, 4, 4)?;
        call.wasi.table().directory(number)?.clone()
    };
    let found = files::entries(&directory, cookie, size as usize).await?;
    let mut call = Call::resume(caller, "fd_readdir")?;
    call.bytes("buf", buffer, found.len() as u64, 1)?.copy_from_slice(&found);
    Ok(call.put_u32("size", at, found.len() as u32)?)
}
