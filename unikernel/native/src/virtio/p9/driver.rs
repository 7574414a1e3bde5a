//! The device that carries messages (Virtio 1.2 leaves it to QEMU's hw/9pfs/virtio-9p.h): one queue, and a tag by which
//! the launcher says what is shared.

use super::client::{self, Carrier, NO_ANSWER};
use crate::host::executor::{spawn, timeout};
use crate::host::sync::{Mutex, Notify, Signal};
use crate::host::wasi::errno::Errno;
use crate::host::wasi::volume::{Node, Pending};
use crate::virtio::device::Device;
use crate::virtio::ring::{Broken, Buffers, Ring};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// The device has a tag in its configuration (`VIRTIO_9P_MOUNT_TAG`).
const MOUNT_TAG: u64 = 1;
/// Bytes of that tag at most.
const TAG: usize = 255;
const QUEUE: u16 = 0;
const SIZE: usize = 32;
/// Messages under way at most, each of which takes two buffers of the queue.
const EXCHANGES: usize = SIZE / 2;
/// How long a server may take for an answer.
const LIMIT: Duration = Duration::from_secs(30);

static EVENT: Signal = Signal::new();

/// What the launcher shares, by tags.
#[derive(Default)]
pub struct Volumes(Vec<(String, Arc<Carried>)>);

struct Carried {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    device: Device,
    ring: Ring<SIZE>,
    exchanges: [Exchange; EXCHANGES],
    broken: bool,
}

/// What happens with a tag.
enum Exchange {
    Free,
    Asked,
    Answered(Vec<u8>),
    /// Nobody waits for the answer any more.
    Abandoned,
}

impl Volumes {
    /// Sets a device up.
    pub(in crate::virtio) fn add(&mut self, mut device: Device) -> Result<(), Broken> {
        if device.begin(MOUNT_TAG)? & MOUNT_TAG == 0 {
            return Err(Broken);
        }
        let mut length = [0; 2];
        device.config(0, &mut length)?;
        let mut tag = vec![0; usize::from(u16::from_le_bytes(length)).min(TAG)];
        device.config(2, &mut tag)?;
        let tag = String::from_utf8(tag).map_err(|_| Broken)?;
        let ring = device.ring(QUEUE)?;
        device.finish(|| EVENT.raise())?;
        let exchanges = [const { Exchange::Free }; EXCHANGES];
        let state = Mutex::new(State { device, ring, exchanges, broken: false });
        self.0.push((tag, Arc::new(Carried { state, changed: Notify::new() })));
        Ok(())
    }

    /// Begins to attend to the devices, once all are added.
    pub(in crate::virtio) fn start(&self) {
        let all: Vec<Arc<Carried>> = self.0.iter().map(|(_, carried)| carried.clone()).collect();
        if all.is_empty() {
            return;
        }
        spawn(async move {
            loop {
                EVENT.wait().await;
                for carried in &all {
                    carried.state.lock().attend();
                    carried.changed.notify();
                }
            }
        })
        .detach();
    }

    /// The root of what is shared by a tag. `NOENT` where nothing is, and other errors of a server that can't be used.
    pub async fn attach(&self, tag: &str) -> Result<Arc<dyn Node>, Errno> {
        let (_, carried) = self.0.iter().find(|(name, _)| name == tag).ok_or(Errno::NOENT)?;
        client::attach(carried.clone()).await
    }
}

impl State {
    /// Takes an interrupt back, and answers.
    fn attend(&mut self) {
        self.device.acknowledge();
        while !self.broken {
            match self.ring.take() {
                Ok(Some((Buffers { reads: Some((request, _)), writes: Some(mut answer) }, length))) => {
                    let tag = usize::from(request[0]);
                    let mut answer = core::mem::take(&mut answer).into_vec();
                    answer.truncate(length);
                    self.answer(tag, answer);
                }
                Ok(Some(_)) | Err(Broken) => self.broken = true,
                Ok(None) => return,
            }
        }
    }

    fn answer(&mut self, tag: usize, answer: Vec<u8>) {
        if let Some(exchange) = self.exchanges.get_mut(tag) {
            *exchange = match exchange {
                Exchange::Asked => Exchange::Answered(answer),
                _ => Exchange::Free,
            };
        }
    }
}

impl State {
    /// Hands a request over, where there is a tag for it; gives the tag.
    fn ask(&mut self, bytes: &dyn Fn(u16) -> Vec<u8>, room: usize) -> Result<Option<usize>, Errno> {
        if self.broken {
            return Err(Errno::IO);
        }
        let Some(tag) = self.exchanges.iter().position(|exchange| matches!(exchange, Exchange::Free)) else {
            return Ok(None);
        };
        // Before the request itself, for us: which exchange it belongs to.
        let mut request = Vec::from([tag as u8]);
        request.extend(bytes(tag as u16));
        let part = 1..request.len();
        let buffers = Buffers { reads: Some((request.into(), part)), writes: Some(vec![0; room].into()) };
        if self.ring.add(buffers).is_err() {
            return Ok(None);
        }
        self.exchanges[tag] = Exchange::Asked;
        self.device.notify(QUEUE, &mut self.ring);
        Ok(Some(tag))
    }

    /// The answer, if it is there.
    fn take(&mut self, tag: usize) -> Result<Option<Vec<u8>>, Errno> {
        if self.broken {
            return Err(Errno::IO);
        }
        match core::mem::replace(&mut self.exchanges[tag], Exchange::Free) {
            Exchange::Answered(answer) => Ok(Some(answer)),
            other => {
                self.exchanges[tag] = other;
                Ok(None)
            }
        }
    }

    fn abandon(&mut self, tag: usize) {
        self.exchanges[tag] = match self.exchanges[tag] {
            Exchange::Asked => Exchange::Abandoned,
            _ => Exchange::Free,
        };
    }
}

/// A request that waits for its answer. Dropping it lets the answer go.
struct Waiting<'a> {
    carried: &'a Carried,
    tag: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.carried.state.lock().abandon(self.tag);
        self.carried.changed.notify();
    }
}

impl Carried {
    async fn answer(&self, bytes: &(dyn Fn(u16) -> Vec<u8> + Sync), room: usize) -> Result<Vec<u8>, Errno> {
        let waiting = loop {
            let changed = self.changed.notified();
            let asked = self.state.lock().ask(bytes, room)?;
            match asked {
                Some(tag) => break Waiting { carried: self, tag },
                None => changed.await,
            }
        };
        loop {
            let changed = self.changed.notified();
            let answer = self.state.lock().take(waiting.tag)?;
            match answer {
                Some(answer) => return Ok(answer),
                None => changed.await,
            }
        }
    }
}

impl Carrier for Carried {
    fn exchange<'a>(&'a self, bytes: &'a (dyn Fn(u16) -> Vec<u8> + Sync), room: usize) -> Pending<'a, Vec<u8>> {
        Box::pin(async move { timeout(LIMIT, self.answer(bytes, room)).await.unwrap_or(Err(NO_ANSWER)) })
    }
}

#[cfg(test)]
mod tests;
