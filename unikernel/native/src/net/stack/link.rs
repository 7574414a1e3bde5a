//! What carries frames: a virtio device, or in tests a queue in memory.

use super::filter;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// Bytes of an Ethernet frame at most, its header of 14 bytes included and without its checksum.
pub const FRAME: usize = 1514;

/// An Ethernet frame in a buffer, which may have room for a device's own header before it.
pub struct Frame {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Frame {
    /// A frame in the whole of a new buffer.
    pub fn new(length: usize) -> Frame {
        Frame { buffer: vec![0; length].into(), start: 0, end: length }
    }

    /// The frame that lies in a buffer at `start..end`. None where the buffer is not so long.
    pub fn within(buffer: Box<[u8]>, start: usize, end: usize) -> Option<Frame> {
        (start <= end && end <= buffer.len()).then_some(Frame { buffer, start, end })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Where the frame ends in its buffer.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The whole buffer, for its next use.
    pub fn into_buffer(self) -> Box<[u8]> {
        self.buffer
    }
}

/// Sends and receives Ethernet frames. Nothing of this waits.
pub trait Link: Send {
    /// The link's own address.
    fn mac(&self) -> [u8; 6];

    /// Bytes of the longest frame that the link passes on.
    fn longest(&self) -> usize {
        FRAME
    }

    /// The next frame that has arrived.
    fn receive(&mut self) -> Option<Frame>;

    /// Gives a received frame's buffer back, for the next one.
    fn recycle(&mut self, frame: Frame);

    /// Whether there is room to send a frame.
    fn can_send(&mut self) -> bool;

    /// A frame of `length` bytes to fill and `send`, while `can_send`; `length` is `FRAME` at most.
    fn prepare(&mut self, length: usize) -> Frame;

    /// Sends a frame, at the latest with the next `flush`.
    fn send(&mut self, frame: Frame);

    /// Is called when the link has told of an arrival, before anything is received.
    fn acknowledge(&mut self) {}

    /// Hands over what was sent and recycled, and asks to be told of the next arrival. Gives true where there is one
    /// already.
    fn flush(&mut self) -> bool;
}

/// A link as smoltcp wants it.
pub(super) struct Device {
    pub(super) link: Box<dyn Link>,
    /// The frame that was worked on last.
    spent: Option<Frame>,
    /// Ports whose listeners have no room for one more connection: what asks for one is dropped, and asks again later.
    pub(super) full: Vec<u16>,
}

/// Frames that are looked at in search of one that is wanted.
const LOOK: usize = 64;

impl Device {
    pub(super) fn new(link: Box<dyn Link>) -> Device {
        Device { link, spent: None, full: Vec::new() }
    }

    /// See `Link::flush`.
    pub(super) fn flush(&mut self) -> bool {
        self.recycle();
        self.link.flush()
    }

    fn recycle(&mut self) {
        if let Some(frame) = self.spent.take() {
            self.link.recycle(frame);
        }
    }
}

impl phy::Device for Device {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        self.recycle();
        // An answer may be sent while the frame is worked on.
        if !self.link.can_send() {
            return None;
        }
        for _ in 0..LOOK {
            let frame = self.link.receive()?;
            if filter::wanted(frame.bytes(), &self.full) {
                return Some((Received { frame, spent: &mut self.spent }, Sending(&mut *self.link)));
            }
            self.link.recycle(frame);
        }
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        self.link.can_send().then_some(Sending(&mut *self.link))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.link.longest();
        capabilities
    }
}

pub(super) struct Received<'a> {
    frame: Frame,
    spent: &'a mut Option<Frame>,
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        let result = work(self.frame.bytes());
        *self.spent = Some(self.frame);
        result
    }
}

pub(super) struct Sending<'a>(&'a mut dyn Link);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = self.0.prepare(length);
        let result = fill(frame.bytes_mut());
        self.0.send(frame);
        result
    }
}
