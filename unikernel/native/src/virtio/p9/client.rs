//! Files and directories, as WASI wants them.

use super::codec::Reader;
use super::messages::{self, DATA_HEADER, Fid, Request, is_name};
use crate::host::executor::spawn;
use crate::host::sync::Mutex;
use crate::host::wasi::errno::Errno;
use crate::host::wasi::volume::{Kind, Listed, Node, Pending, Status};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes that a message may have, in both directions.
const MESSAGE: u32 = 64 << 10;
/// The least that a server has to allow.
const LEAST: u32 = 4096;
/// Files that may be known to the server at a time.
const FIDS: u32 = 4096;
/// Entries of a directory, and bytes of all their names, that are listed at most.
const ENTRIES: usize = 1 << 16;
const NAMES: usize = 2 << 20;

/// Carries messages to a server and back.
pub trait Carrier: Send + Sync + 'static {
    /// Sends a request, which gets a tag of its own by the function that makes its bytes, and waits for the answer, of
    /// `room` bytes at most. Fails where none comes in time.
    fn exchange<'a>(&'a self, bytes: &'a (dyn Fn(u16) -> Vec<u8> + Sync), room: usize) -> Pending<'a, Vec<u8>>;
}

/// What both sides have agreed on.
struct Session {
    carrier: Arc<dyn Carrier>,
    /// Bytes that a message may have.
    message: u32,
    fids: Mutex<Fids>,
}

#[derive(Default)]
struct Fids {
    next: Fid,
    /// That were given back.
    free: Vec<Fid>,
}

/// The root of what a server shares. Fails where it speaks another protocol, or doesn't answer.
pub async fn attach(carrier: Arc<dyn Carrier>) -> Result<Arc<dyn Node>, Errno> {
    let mut session = Session { carrier, message: MESSAGE, fids: Mutex::default() };
    let request = messages::version(MESSAGE);
    let answer = session.exchange(&request).await?;
    let message = messages::read_version(request.check(&answer)?).filter(|message| *message >= LEAST);
    session.message = message.ok_or(Errno::IO)?.min(MESSAGE);
    let session = Arc::new(session);
    let root = Handle::new(&session)?;
    session.ask(&messages::attach(root.fid)).await?;
    Ok(Arc::new(File::new(root).await?))
}

impl Session {
    async fn exchange(&self, request: &Request) -> Result<Vec<u8>, Errno> {
        self.carrier.exchange(&|tag| request.tagged(tag), request.room).await
    }

    /// For requests whose answer says no more than that all is well.
    async fn ask(&self, request: &Request) -> Result<(), Errno> {
        let answer = self.exchange(request).await?;
        request.check(&answer).map(|_| ())
    }
}

/// A fid, which is given back to the server when nobody needs it any more.
struct Handle {
    session: Arc<Session>,
    fid: Fid,
}

impl Handle {
    fn new(session: &Arc<Session>) -> Result<Handle, Errno> {
        let mut fids = session.fids.lock();
        let fid = match fids.free.pop() {
            Some(fid) => fid,
            None if fids.next < FIDS => {
                fids.next += 1;
                fids.next - 1
            }
            None => return Err(Errno::MFILE),
        };
        drop(fids);
        Ok(Handle { session: session.clone(), fid })
    }

    /// What a name in this directory stands for, or without a name this file once more.
    async fn walk(&self, name: Option<&[u8]>) -> Result<Handle, Errno> {
        let target = Handle::new(&self.session)?;
        let request = messages::walk(self.fid, target.fid, name).ok_or(Errno::NOENT)?;
        let answer = self.session.exchange(&request).await?;
        let walked = messages::read_walk(request.check(&answer)?);
        match walked {
            Some(count) if count == u16::from(name.is_some()) => Ok(target),
            _ => Err(Errno::IO),
        }
    }

    async fn attributes(&self) -> Result<Status, Errno> {
        let request = messages::getattr(self.fid);
        let answer = self.session.exchange(&request).await?;
        messages::read_attributes(request.check(&answer)?).ok_or(Errno::IO)
    }

    /// Bytes of data that a message may carry.
    fn most(&self) -> u32 {
        self.session.message - DATA_HEADER
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (session, fid) = (self.session.clone(), self.fid);
        spawn(async move {
            // A server that doesn't know the fid has none to give back. One that doesn't answer may still have it.
            if session.ask(&messages::clunk(fid)).await != Err(NO_ANSWER) {
                session.fids.lock().free.push(fid);
            }
        })
        .detach();
    }
}

/// What a carrier says when the time is over.
pub const NO_ANSWER: Errno = Errno::AGAIN;

struct File {
    handle: Handle,
    kind: Kind,
    opened: Mutex<Option<Arc<Handle>>>,
}

impl File {
    async fn new(handle: Handle) -> Result<File, Errno> {
        let kind = handle.attributes().await?.kind;
        Ok(File { handle, kind, opened: Mutex::new(None) })
    }

    fn opened(&self) -> Result<Arc<Handle>, Errno> {
        self.opened.lock().clone().ok_or(Errno::BADF)
    }

    async fn list(&self) -> Result<Vec<Listed>, Errno> {
        let handle = self.opened()?;
        let (mut entries, mut names, mut offset) = (Vec::new(), 0, 0);
        loop {
            let count = handle.most();
            let request = messages::readdir(handle.fid, offset, count);
            let answer = handle.session.exchange(&request).await?;
            let data = messages::read_data(request.check(&answer)?, count).ok_or(Errno::IO)?;
            if data.is_empty() {
                return Ok(entries);
            }
            let mut rest = Reader::new(data);
            while !rest.is_empty() {
                let entry = messages::read_entry(&mut rest).ok_or(Errno::IO)?;
                offset = entry.next;
                // Whatever the entries are, a server that has no end of them is not followed for ever.
                names += entry.name.len() + 1;
                if entries.len() >= ENTRIES || names > NAMES {
                    return Err(Errno::IO);
                }
                if is_name(entry.name) {
                    let (name, kind, identity) = (entry.name.into(), entry.kind, entry.identity);
                    entries.push(Listed { name, kind, identity });
                } else if entry.name != b"." && entry.name != b".." {
                    return Err(Errno::IO);
                }
            }
        }
    }
}

impl Node for File {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn status(&self) -> Pending<'_, Status> {
        Box::pin(self.handle.attributes())
    }

    fn open(&self) -> Pending<'_, ()> {
        Box::pin(async {
            // A fid that is open can't be walked from, so it gets one of its own.
            let handle = self.handle.walk(None).await?;
            handle.session.ask(&messages::lopen(handle.fid)).await?;
            *self.opened.lock() = Some(Arc::new(handle));
            Ok(())
        })
    }

    fn read(&self, offset: u64, size: usize) -> Pending<'_, Vec<u8>> {
        Box::pin(async move {
            let handle = self.opened()?;
            let count = u32::try_from(size).unwrap_or(u32::MAX).min(handle.most());
            let request = messages::read(handle.fid, offset, count);
            let mut answer = handle.session.exchange(&request).await?;
            let length = messages::read_data(request.check(&answer)?, count).ok_or(Errno::IO)?.len();
            answer.drain(..messages::READ_HEADER);
            answer.truncate(length);
            Ok(answer)
        })
    }

    fn entries(&self) -> Pending<'_, Vec<Listed>> {
        Box::pin(self.list())
    }

    fn child<'a>(&'a self, name: &'a [u8]) -> Pending<'a, Arc<dyn Node>> {
        Box::pin(async move {
            let child = self.handle.walk(Some(name)).await?;
            let file: Arc<dyn Node> = Arc::new(File::new(child).await?);
            Ok(file)
        })
    }

    fn target(&self) -> Pending<'_, Vec<u8>> {
        Box::pin(async {
            if self.kind != Kind::SymbolicLink {
                return Err(Errno::INVAL);
            }
            let request = messages::readlink(self.handle.fid);
            let answer = self.handle.session.exchange(&request).await?;
            Ok(messages::read_target(request.check(&answer)?).ok_or(Errno::IO)?.into())
        })
    }
}
