//! The device's driver, and its ports as streams of bytes.

use super::protocol::{Directory, HEADER, NAME, PORTS, READY};
use crate::host::executor::{spawn, timeout};
use crate::host::launcher;
use crate::host::log;
use crate::host::sync::{Mutex, Notify, Signal};
use crate::virtio::device::Device;
use crate::virtio::ring::{Broken, Buffers, Ring};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// The device has several ports (`VIRTIO_CONSOLE_F_MULTIPORT`).
const MULTIPORT: u64 = 1 << 1;
/// Where the device's configuration has the number of ports.
const MAX_PORTS: usize = 4;
const CONTROL_RECEIVE: u16 = 2;
const CONTROL_SEND: u16 = 3;
/// Messages that may wait. QEMU drops those for which there is no buffer: three for each port.
const MESSAGES: usize = 32;
/// Buffers of each port and direction.
const CHUNKS: usize = 8;
/// Bytes of one.
const CHUNK: usize = 4096;
/// How long the device may take to name its ports.
const NAMING: Duration = Duration::from_secs(2);

static EVENT: Signal = Signal::new();

/// The console device.
#[derive(Clone)]
pub struct Console(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    device: Device,
    control_receive: Ring<MESSAGES>,
    control_send: Ring<MESSAGES>,
    directory: Directory,
    channels: Vec<Channel>,
    broken: bool,
}

/// A port's queues.
struct Channel {
    receive: Ring<CHUNKS>,
    send: Ring<CHUNKS>,
    /// What has arrived and is not read: a buffer, and which part of it.
    rest: Option<(Box<[u8]>, core::ops::Range<usize>)>,
    /// Buffers with the device that it has not sent.
    sending: usize,
}

fn receive_queue(port: usize) -> u16 {
    // The control queues come after those of port 0.
    if port == 0 { 0 } else { 2 * port as u16 + 2 }
}

fn send_queue(port: usize) -> u16 {
    receive_queue(port) + 1
}

impl Console {
    /// Sets the device up. Its messages are handled by a task.
    pub(in crate::virtio) fn new(device: Device) -> Result<Console, Broken> {
        let state = State::new(device)?;
        let console = Console(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }));
        let running = console.0.clone();
        spawn(async move {
            loop {
                EVENT.wait().await;
                running.state.lock().attend();
                running.changed.notify();
            }
        })
        .detach();
        Ok(console)
    }

    /// The port with that name. None where the device has named none so within two seconds.
    pub async fn port(&self, name: &str) -> Option<Port> {
        let named = timeout(NAMING, async {
            loop {
                let changed = self.0.changed.notified();
                if let Some(number) = self.0.state.lock().directory.number(name) {
                    return number;
                }
                changed.await;
            }
        });
        let number = named.await.ok()?;
        self.0.state.lock().lend(number);
        Some(Port { console: self.0.clone(), number, name: name.into() })
    }
}

impl State {
    fn new(mut device: Device) -> Result<State, Broken> {
        if device.begin(MULTIPORT)? & MULTIPORT == 0 {
            return Err(Broken);
        }
        let mut most = [0; 4];
        device.config(MAX_PORTS, &mut most)?;
        let count = (u32::from_le_bytes(most) as usize).min(PORTS);
        let (control_receive, control_send) = (device.ring(CONTROL_RECEIVE)?, device.ring(CONTROL_SEND)?);
        let mut channels = Vec::new();
        for port in 0..count {
            let (receive, send) = (device.ring(receive_queue(port))?, device.ring(send_queue(port))?);
            channels.push(Channel { receive, send, rest: None, sending: 0 });
        }
        device.finish(|| EVENT.raise())?;
        let directory = Directory::default();
        let mut state = State { device, control_receive, control_send, directory, channels, broken: false };
        state.begin()?;
        Ok(state)
    }

    fn begin(&mut self) -> Result<(), Broken> {
        while self.control_receive.has_room(1) {
            self.control_receive.add(writable(HEADER + NAME + 1)).map_err(|_| Broken)?;
        }
        self.device.notify(CONTROL_RECEIVE, &mut self.control_receive);
        // What was sent is looked at when there is something to send.
        self.control_send.set_interrupts(false);
        for channel in &mut self.channels {
            channel.send.set_interrupts(false);
        }
        self.say(READY);
        Ok(())
    }

    /// Gives the device the buffers for what a port receives: those of ports that nobody asks for would be of no use.
    fn lend(&mut self, port: usize) {
        let Some(channel) = self.channels.get_mut(port) else { return };
        while channel.receive.has_room(1) && channel.receive.add(writable(CHUNK)).is_ok() {}
        self.device.notify(receive_queue(port), &mut channel.receive);
    }

    /// Sends a control message.
    fn say(&mut self, message: [u8; HEADER]) {
        while let Ok(Some(_)) = self.control_send.take() {}
        let reads = Some((Box::<[u8]>::from(message), 0..HEADER));
        if self.control_send.add(Buffers { reads, writes: None }).is_err() {
            // There is room for two answers to each port, unless the device takes none.
            self.break_down();
        }
        self.device.notify(CONTROL_SEND, &mut self.control_send);
    }

    /// All ports end.
    fn break_down(&mut self) {
        if !self.broken {
            self.broken = true;
            log::warning_on_console("the virtio console says what can't be, and is not used any more");
        }
    }

    /// Takes an interrupt back and handles control messages.
    fn attend(&mut self) {
        self.device.acknowledge();
        while !self.broken {
            match self.control_receive.take() {
                Ok(Some((buffers, length))) => {
                    let message = buffers.writes.as_deref().map_or(&[][..], |buffer| &buffer[..length]);
                    for answer in self.directory.take(message) {
                        self.say(answer);
                    }
                    // There is room: the buffer has come out of the queue.
                    let _ = self.control_receive.add(buffers);
                }
                Ok(None) => break,
                Err(Broken) => self.break_down(),
            }
        }
        self.device.notify(CONTROL_RECEIVE, &mut self.control_receive);
    }

    fn ended(&self, port: usize) -> bool {
        self.broken || self.directory.port(port).is_none_or(|port| port.ended && !port.open)
    }

    /// None where nothing has arrived yet.
    fn read(&mut self, port: usize, into: &mut [u8]) -> Option<usize> {
        let ended = self.ended(port);
        loop {
            let channel = self.channels.get_mut(port)?;
            if channel.rest.is_none() {
                match channel.receive.take() {
                    Ok(Some((Buffers { writes: Some(buffer), .. }, length))) => {
                        channel.rest = Some((buffer, 0..length))
                    }
                    Ok(_) if ended => return Some(0),
                    Ok(_) => return None,
                    Err(Broken) => {
                        self.break_down();
                        return Some(0);
                    }
                }
            }
            let (buffer, part) = channel.rest.as_mut()?;
            let count = part.len().min(into.len());
            into[..count].copy_from_slice(&buffer[part.start..part.start + count]);
            part.start += count;
            if part.start >= part.end {
                let (buffer, _) = channel.rest.take()?;
                // There is room: the buffer has come out of the queue.
                let _ = channel.receive.add(Buffers { reads: None, writes: Some(buffer) });
                self.device.notify(receive_queue(port), &mut channel.receive);
            }
            // A device that has written nothing has not ended, and may have written more after that.
            if count > 0 || into.is_empty() {
                return Some(count);
            }
        }
    }

    /// How many of the bytes the device has taken; none where it has no room, and all where nobody wants them.
    fn write(&mut self, port: usize, bytes: &[u8]) -> Option<usize> {
        if self.ended(port) {
            return Some(bytes.len());
        }
        self.reclaim(port);
        let channel = self.channels.get_mut(port)?;
        let count = bytes.len().min(CHUNK);
        let reads = Some((Box::<[u8]>::from(&bytes[..count]), 0..count));
        if !channel.send.has_room(1) || channel.send.add(Buffers { reads, writes: None }).is_err() {
            // The device is to tell when it has.
            channel.send.set_interrupts(true);
            // It may have taken some before interrupts were wanted, and tells nothing of that.
            return if channel.send.has_used() { self.write(port, bytes) } else { None };
        }
        channel.sending += 1;
        self.device.notify(send_queue(port), &mut channel.send);
        Some(count)
    }

    /// Whether the device has sent all; else it will tell of the next change.
    fn sent(&mut self, port: usize) -> bool {
        if self.ended(port) {
            return true;
        }
        self.reclaim(port);
        let Some(channel) = self.channels.get_mut(port) else { return true };
        channel.send.set_interrupts(channel.sending > 0);
        // It may have happened before interrupts were wanted.
        channel.sending == 0 || channel.send.has_used() && self.sent(port)
    }

    fn reclaim(&mut self, port: usize) {
        let Some(channel) = self.channels.get_mut(port) else { return };
        channel.send.set_interrupts(false);
        loop {
            match channel.send.take() {
                Ok(Some(_)) => channel.sending = channel.sending.saturating_sub(1),
                Ok(None) => return,
                Err(Broken) => return self.break_down(),
            }
        }
    }
}

fn writable(length: usize) -> Buffers {
    Buffers { reads: None, writes: Some(vec![0; length].into()) }
}

/// One channel to the launcher.
pub struct Port {
    console: Arc<Shared>,
    number: usize,
    name: String,
}

impl Port {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for bytes and puts them at the start of `into`; gives how many. 0 means that the other side has closed it.
    pub async fn read(&self, into: &mut [u8]) -> usize {
        loop {
            let changed = self.console.changed.notified();
            if let Some(count) = self.console.state.lock().read(self.number, into) {
                return count;
            }
            changed.await;
        }
    }

    /// Returns when the device has all the bytes, for which it may have to wait: as long as the reader takes none, where
    /// there is one. False where the other side has closed the port, and the bytes are thrown away.
    pub async fn write_all(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let changed = self.console.changed.notified();
            let written = self.console.state.lock().write(self.number, bytes);
            match written {
                Some(count) => bytes = &bytes[count..],
                None => changed.await,
            }
        }
        !self.ended()
    }

    /// Waits until the device has passed on all that was written. A machine that ends before that loses the rest.
    pub async fn flush(&self) {
        loop {
            let changed = self.console.changed.notified();
            if self.console.state.lock().sent(self.number) {
                return;
            }
            changed.await;
        }
    }

    /// Whether the other side has closed it, so that nobody reads what is written.
    pub fn ended(&self) -> bool {
        self.console.state.lock().ended(self.number)
    }
}

impl launcher::Port for Port {
    fn read<'a>(&'a self, into: &'a mut [u8]) -> launcher::Pending<'a, usize> {
        Box::pin(self.read(into))
    }

    fn write<'a>(&'a self, bytes: &'a [u8]) -> launcher::Pending<'a, bool> {
        Box::pin(async move {
            let read = self.write_all(bytes).await;
            // What the device has not passed on when the machine ends is lost.
            self.flush().await;
            read
        })
    }
}

#[cfg(test)]
mod tests;
