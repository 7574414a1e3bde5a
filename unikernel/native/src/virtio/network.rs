//! A network card (Virtio 1.2, section 5.1).

use super::device::{Device, VERSION_1};
use super::ring::{Broken, Buffers, Ring};
use crate::host::sync::Signal;
use crate::host::{log, platform};
use crate::net::stack::{FRAME, Frame, Link};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// The device has a link address (`VIRTIO_NET_F_MAC`).
const MAC: u64 = 1 << 5;
/// A device before version 1 takes header and frame in one buffer (`VIRTIO_F_ANY_LAYOUT`).
const ANY_LAYOUT: u64 = 1 << 27;
const RECEIVE: u16 = 0;
const SEND: u16 = 1;
/// The size of the queues: that of all these devices, and uhyve's can't be changed.
const QUEUE: usize = 256;
/// Frames in each direction that the device may have. Each has a buffer of its own.
const FRAMES: usize = 64;
/// Bytes of the longest frame that uhyve passes on whole: its buffer (`RX_FRAME_CAPACITY` in 0.10) has no room for the
/// Ethernet header, and what it cuts off is lost. Peers send shorter ones where they're told.
pub(super) const UHYVE_FRAME: usize = 1500;
/// Bytes of `virtio_net_hdr` before version 1, and since.
const LEGACY_HEADER: usize = 10;
const HEADER: usize = 12;

/// Is raised when the card has received or sent something.
pub static ARRIVAL: Signal = Signal::new();

pub(super) struct Card {
    device: Device,
    mac: [u8; 6],
    header: usize,
    receive: Ring<QUEUE>,
    send: Ring<QUEUE>,
    /// For frames to be sent.
    free: Vec<Box<[u8]>>,
    /// Buffers for frames to be sent that exist.
    made: usize,
    broken: bool,
    /// Bytes of the longest frame that the device passes on.
    pub(super) longest: usize,
}

impl Card {
    pub(super) fn new(mut device: Device) -> Result<Card, Broken> {
        let features = device.begin(MAC | ANY_LAYOUT)?;
        let mut mac = [0; 6];
        if features & MAC != 0 {
            device.config(0, &mut mac)?;
        }
        if features & MAC == 0 || mac[0] & 1 != 0 {
            // An address of our own choice: unicast, and administered locally (IEEE 802, 8.4).
            platform::random(&mut mac);
            mac[0] = mac[0] & !1 | 2;
        }
        let header = if features & VERSION_1 != 0 { HEADER } else { LEGACY_HEADER };
        let (mut receive, mut send): (Ring<QUEUE>, Ring<QUEUE>) = (device.ring(RECEIVE)?, device.ring(SEND)?);
        device.finish(|| ARRIVAL.raise())?;
        // What was sent is looked at when there is something to send.
        send.set_interrupts(false);
        for _ in 0..FRAMES {
            let writes = Some(vec![0; header + FRAME].into());
            receive.add(Buffers { reads: None, writes }).map_err(|_| Broken)?;
        }
        device.notify(RECEIVE, &mut receive);
        Ok(Card { device, mac, header, receive, send, free: Vec::new(), made: 0, broken: false, longest: FRAME })
    }

    /// What can't be made good: the network is silent from now on.
    fn break_down(&mut self) {
        if !self.broken {
            self.broken = true;
            log::warning("the virtio-net device says what can't be, and is not used any more");
        }
    }

    /// Takes back the buffers of frames that were sent.
    fn reclaim(&mut self) {
        loop {
            match self.send.take() {
                Ok(Some((Buffers { reads: Some((buffer, _)), .. }, _))) => self.free.push(buffer),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(Broken) => return self.break_down(),
            }
        }
    }
}

impl Link for Card {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self) -> Option<Frame> {
        if self.broken {
            return None;
        }
        match self.receive.take() {
            Ok(Some((Buffers { writes: Some(buffer), .. }, length))) => {
                // A length without a frame makes an empty one, which the stack drops.
                Frame::within(buffer, self.header, length.max(self.header))
            }
            Ok(_) => None,
            Err(Broken) => {
                self.break_down();
                None
            }
        }
    }

    fn longest(&self) -> usize {
        self.longest
    }

    fn recycle(&mut self, frame: Frame) {
        let buffers = Buffers { reads: None, writes: Some(frame.into_buffer()) };
        // There is room: the frame has come out of the queue.
        let _ = self.receive.add(buffers);
    }

    fn can_send(&mut self) -> bool {
        if self.free.is_empty() {
            self.reclaim();
        }
        // A card that is broken takes all and sends nothing.
        !self.free.is_empty() || self.made < FRAMES || self.broken
    }

    fn prepare(&mut self, length: usize) -> Frame {
        let buffer = self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            vec![0; self.header + FRAME].into()
        });
        let length = length.min(FRAME);
        // It fits: each buffer is as long as header and longest frame.
        Frame::within(buffer, self.header, self.header + length).unwrap_or_else(|| Frame::new(length))
    }

    fn send(&mut self, frame: Frame) {
        let end = frame.end();
        let reads = Some((frame.into_buffer(), 0..end));
        if self.broken {
            return;
        }
        // There is room: there are fewer buffers than the queue takes.
        let _ = self.send.add(Buffers { reads, writes: None });
    }

    fn acknowledge(&mut self) {
        // While there is work, further interrupts tell nothing new.
        self.receive.set_interrupts(false);
        self.device.acknowledge();
    }

    fn flush(&mut self) -> bool {
        if self.broken {
            return false;
        }
        self.device.notify(SEND, &mut self.send);
        self.device.notify(RECEIVE, &mut self.receive);
        self.receive.set_interrupts(true);
        self.receive.has_used()
    }
}

#[cfg(test)]
mod tests;
