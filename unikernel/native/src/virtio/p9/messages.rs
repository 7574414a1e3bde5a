//! The messages: requests as bytes, and what a server answered to them.

use super::codec::{Reader, Writer};
use crate::host::wasi::errno::Errno;
use crate::host::wasi::volume::{Kind, Status};
use alloc::vec::Vec;

/// A number of ours for a file that the server has found for us.
pub(super) type Fid = u32;

const VERSION: u8 = 100;
const ATTACH: u8 = 104;
const WALK: u8 = 110;
const GETATTR: u8 = 24;
const LOPEN: u8 = 12;
const READ: u8 = 116;
const READDIR: u8 = 40;
const READLINK: u8 = 22;
const CLUNK: u8 = 120;
/// The answer that an error has come of a request.
const LERROR: u8 = 7;

const DIALECT: &[u8] = b"9P2000.L";
/// The tag of the first message, and the fid of nobody.
const NO_TAG: u16 = !0;
const NO_FID: Fid = !0;
/// Attributes that are asked for: all that `stat` gives (`P9_GETATTR_BASIC`).
const BASIC: u64 = 0x7ff;
/// Bytes of a message that carries data, besides the data (`P9_IOHDRSZ`).
pub(super) const DATA_HEADER: u32 = 24;
/// Bytes of the header of each message: length, type and tag.
const HEADER: usize = 7;
/// Bytes of the answer to `read` before the data.
pub(super) const READ_HEADER: usize = HEADER + 4;
/// Room for the answers that carry no data: the longest has a symbolic link's target.
pub(super) const SHORT: usize = 8192;

/// A request: its bytes, in which the tag is missing, and what its answer has to be.
pub(super) struct Request {
    bytes: Vec<u8>,
    answer: u8,
    /// Bytes that the answer may have.
    pub(super) room: usize,
}

const TAG: core::ops::Range<usize> = 5..7;

impl Request {
    fn new(writer: Writer, kind: u8, room: usize) -> Request {
        Request { bytes: writer.finish(), answer: kind + 1, room }
    }

    /// The request's bytes with its tag, which tells answers apart.
    pub(super) fn tagged(&self, tag: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let tag = if self.answer == VERSION + 1 { NO_TAG } else { tag };
        bytes[TAG].copy_from_slice(&tag.to_le_bytes());
        bytes
    }

    /// What an answer holds after its header, or the error that it tells of; `IO` for what is no answer to this.
    pub(super) fn check<'a>(&self, answer: &'a [u8]) -> Result<Reader<'a>, Errno> {
        let mut reader = Reader::new(answer);
        let (length, kind, _tag) = (reader.u32(), reader.u8(), reader.u16());
        let length = length.map(|length| length as usize).filter(|length| (HEADER..=answer.len()).contains(length));
        let mut body = Reader::new(&answer[HEADER..length.ok_or(Errno::IO)?]);
        match kind {
            Some(kind) if kind == self.answer => Ok(body),
            Some(LERROR) => Err(body.u32().map_or(Errno::IO, errno)),
            _ => Err(Errno::IO),
        }
    }
}

fn start(kind: u8) -> Writer {
    Writer::new(kind, 0)
}

/// The first message: how long messages may be.
pub(super) fn version(message: u32) -> Request {
    // The name of the dialect is short.
    let writer = start(VERSION).u32(message).text(DIALECT).unwrap_or_else(|| start(VERSION));
    Request::new(writer, VERSION, SHORT)
}

/// How long messages may be for the server, which speaks our dialect.
pub(super) fn read_version(mut body: Reader) -> Option<u32> {
    let message = body.u32()?;
    (body.text()? == DIALECT).then_some(message)
}

/// Has `fid` stand for the root of what is shared.
pub(super) fn attach(fid: Fid) -> Request {
    let user = 0;
    let writer = start(ATTACH).u32(fid).u32(NO_FID).u16(0).u16(0).u32(user);
    Request::new(writer, ATTACH, SHORT)
}

/// Has `new` stand for what a name in the directory `fid` stands for; without a name, for what `fid` stands for. None for
/// a name that is none: with a slash or a null byte, empty, too long, or a way up.
pub(super) fn walk(fid: Fid, new: Fid, name: Option<&[u8]>) -> Option<Request> {
    let writer = start(WALK).u32(fid).u32(new);
    let writer = match name {
        None => writer.u16(0),
        Some(name) if is_name(name) => writer.u16(1).text(name)?,
        Some(_) => return None,
    };
    Some(Request::new(writer, WALK, SHORT))
}

/// Whether a directory can have an entry of that name, besides itself and the one above.
pub(super) fn is_name(name: &[u8]) -> bool {
    !(name.is_empty()
        || name == b"."
        || name == b".."
        || name.len() > 255
        || name.iter().any(|byte| b"/\0".contains(byte)))
}

pub(super) fn getattr(fid: Fid) -> Request {
    Request::new(start(GETATTR).u32(fid).u64(BASIC), GETATTR, SHORT)
}

pub(super) fn lopen(fid: Fid) -> Request {
    let read_only = 0;
    Request::new(start(LOPEN).u32(fid).u32(read_only), LOPEN, SHORT)
}

pub(super) fn read(fid: Fid, offset: u64, count: u32) -> Request {
    let room = (count + DATA_HEADER) as usize;
    Request::new(start(READ).u32(fid).u64(offset).u32(count), READ, room)
}

pub(super) fn readdir(fid: Fid, offset: u64, count: u32) -> Request {
    let room = (count + DATA_HEADER) as usize;
    Request::new(start(READDIR).u32(fid).u64(offset).u32(count), READDIR, room)
}

pub(super) fn readlink(fid: Fid) -> Request {
    Request::new(start(READLINK).u32(fid), READLINK, SHORT)
}

pub(super) fn clunk(fid: Fid) -> Request {
    Request::new(start(CLUNK).u32(fid), CLUNK, SHORT)
}

/// How many names a walk has gone along.
pub(super) fn read_walk(mut body: Reader) -> Option<u16> {
    body.u16()
}

pub(super) fn read_attributes(mut body: Reader) -> Option<Status> {
    let _valid = body.u64()?;
    let qid = Qid::read(&mut body)?;
    let mode = body.u32()?;
    let (_user, _group) = (body.u32()?, body.u32()?);
    let links = body.u64()?;
    let _device = body.u64()?;
    let size = body.u64()?;
    let (_block_size, _blocks) = (body.u64()?, body.u64()?);
    let mut time = || {
        let (seconds, nanoseconds) = (body.u64()?, body.u64()?);
        Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    };
    let (accessed, modified, changed) = (time()?, time()?, time()?);
    Some(Status { kind: kind_of_mode(mode), links, size, identity: qid.path, accessed, modified, changed })
}

/// The data of an answer to `read` or `readdir`, which is no more than was asked for.
pub(super) fn read_data<'a>(mut body: Reader<'a>, asked: u32) -> Option<&'a [u8]> {
    let count = body.u32().filter(|count| *count <= asked)?;
    body.bytes(count as usize)
}

pub(super) fn read_target<'a>(mut body: Reader<'a>) -> Option<&'a [u8]> {
    body.text()
}

/// An entry of a directory.
pub(super) struct Entry<'a> {
    pub(super) identity: u64,
    pub(super) kind: Kind,
    /// Where the entry after this one is read from.
    pub(super) next: u64,
    pub(super) name: &'a [u8],
}

/// The next entry in the data of an answer to `readdir`.
pub(super) fn read_entry<'a>(data: &mut Reader<'a>) -> Option<Entry<'a>> {
    let qid = Qid::read(data)?;
    let next = data.u64()?;
    // The type as `readdir` has it: what a mode has in its upper bits.
    let kind = kind_of_mode(u32::from(data.u8()?) << 12);
    Some(Entry { identity: qid.path, kind, next, name: data.text()? })
}

/// What the server tells a file by.
struct Qid {
    path: u64,
}

impl Qid {
    fn read(from: &mut Reader) -> Option<Qid> {
        let (_kind, _version) = (from.u8()?, from.u32()?);
        Some(Qid { path: from.u64()? })
    }
}

/// From `st_mode`, as Linux has it.
fn kind_of_mode(mode: u32) -> Kind {
    match mode & 0o170000 {
        0o040000 => Kind::Directory,
        0o100000 => Kind::RegularFile,
        0o120000 => Kind::SymbolicLink,
        0o020000 => Kind::CharacterDevice,
        0o060000 => Kind::BlockDevice,
        0o140000 => Kind::Socket,
        _ => Kind::Unknown,
    }
}

/// WASI's number for an error of Linux.
fn errno(linux: u32) -> Errno {
    match linux {
        1 => Errno::PERM,
        2 => Errno::NOENT,
        9 => Errno::BADF,
        11 => Errno::AGAIN,
        13 => Errno::ACCES,
        20 => Errno::NOTDIR,
        21 => Errno::ISDIR,
        22 => Errno::INVAL,
        24 => Errno::MFILE,
        36 => Errno::NAMETOOLONG,
        40 => Errno::LOOP,
        95 => Errno::NOTSUP,
        _ => Errno::IO,
    }
}
