//! What is in files and directories.

use alloc::sync::Arc;
use alloc::vec::Vec;

use wasmtime::Caller;

use super::super::guest::Data;
use super::call::{Call, Failure};
use super::errno::Errno;
use super::table::{Directory, File};
use super::volume::{Kind, Listed};

/// Bytes that are asked for at once.
const PIECE: u32 = 64 << 10;

/// Reads from a position into the guest's memory; returns how many bytes, fewer only at the end or where an error came
/// after some.
pub async fn read(
    caller: &mut Caller<'_, Data>,
    name: &'static str,
    file: &File,
    buffer: u32,
    size: u32,
    position: u64,
) -> Result<u32, Failure> {
    if position >> 63 != 0 {
        return Err(Errno::INVAL.into());
    }
    let mut done = 0;
    while done < size {
        let piece = (size - done).min(PIECE);
        let found = match file.node.read(position + u64::from(done), piece as usize).await {
            Ok(found) => found,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        };
        if found.is_empty() {
            break;
        }
        let count = found.len().min(piece as usize);
        let mut call = Call::resume(caller, name)?;
        call.bytes("buf", buffer + done, count as u64, 1)?.copy_from_slice(&found[..count]);
        done += count as u32;
    }
    Ok(done)
}

/// Bytes of a `dirent`, which the name follows.
const ENTRY: usize = 24;

/// Entries of a directory as `fd_readdir` has them, from the one on that `cookie` stands for, cut off after `size` bytes.
/// A cookie is the number of an entry. `ILSEQ` for a name that is not UTF-8.
pub async fn entries(directory: &Directory, cookie: u64, size: usize) -> Result<Vec<u8>, Errno> {
    let Ok(first) = usize::try_from(cookie as i64) else { return Err(Errno::INVAL) };
    let listed = listed(directory, first == 0).await?;
    let own = directory.node.status().await?.identity;
    let dots = [&b"."[..], b".."].map(|name| Listed { name: name.to_vec(), kind: Kind::Directory, identity: own });
    let mut found = Vec::new();
    for (number, entry) in dots.iter().chain(listed.iter()).enumerate().skip(first) {
        if found.len() >= size {
            break;
        }
        if core::str::from_utf8(&entry.name).is_err() {
            return Err(Errno::ILSEQ);
        }
        let at = found.len();
        found.resize(at + ENTRY, 0);
        found[at..at + 8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
        found[at + 8..at + 16].copy_from_slice(&entry.identity.to_le_bytes());
        found[at + 16..at + 20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
        found[at + 20] = entry.kind as u8;
        found.extend_from_slice(&entry.name);
    }
    found.truncate(size);
    Ok(found)
}

/// What a directory has: asked for anew where it is read from its beginning, so that cookies stay good until then.
async fn listed(directory: &Directory, anew: bool) -> Result<Arc<Vec<Listed>>, Errno> {
    let known = directory.listed.lock().clone();
    if let Some(known) = known.filter(|_| !anew) {
        return Ok(known);
    }
    directory.node.open().await?;
    let found = Arc::new(directory.node.entries().await?);
    *directory.listed.lock() = Some(found.clone());
    Ok(found)
}
