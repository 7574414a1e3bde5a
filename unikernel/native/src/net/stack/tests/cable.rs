//! A cable in memory, with as much room for frames as a device has.

use crate::net::stack::bell::Bell;
use crate::net::stack::{Frame, Link};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// Frames that are on their way to one end.
#[derive(Default)]
struct Wire {
    frames: Mutex<VecDeque<Vec<u8>>>,
    bell: Bell,
}

/// Frames that may be under way at a time.
const ROOM: usize = 64;

pub struct Cable;

impl Cable {
    /// The two ends.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> (End, End) {
        let wires = [Arc::new(Wire::default()), Arc::new(Wire::default())];
        let end = |mac, incoming: usize| End {
            mac: [2, 0, 0, 0, 0, mac],
            incoming: wires[incoming].clone(),
            outgoing: wires[1 - incoming].clone(),
        };
        (end(1, 0), end(2, 1))
    }
}

pub struct End {
    mac: [u8; 6],
    incoming: Arc<Wire>,
    outgoing: Arc<Wire>,
}

/// Waits for frames.
#[derive(Clone)]
pub struct Arrivals(Arc<Wire>);

impl Arrivals {
    pub fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let wire = self.0.clone();
        async move { wire.bell.wait().await }
    }
}

impl End {
    pub fn arrivals(&self) -> Arrivals {
        Arrivals(self.incoming.clone())
    }

    /// A stranger's hand on the cable, at the same end.
    pub fn stranger(&self) -> Stranger {
        Stranger(self.outgoing.clone())
    }

    pub fn put(&self, frame: Vec<u8>) {
        self.stranger().put(frame);
    }

    /// What has arrived.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.incoming.frames.lock().unwrap().pop_front()
    }
}

/// Whoever else is on the network.
pub struct Stranger(Arc<Wire>);

impl Stranger {
    /// Puts a frame onto the cable, whatever it is.
    pub fn put(&self, frame: Vec<u8>) {
        self.0.frames.lock().unwrap().push_back(frame);
        self.0.bell.ring();
    }
}

impl Link for End {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn receive(&mut self) -> Option<Frame> {
        let bytes = self.take()?;
        // The sender may have waited for room.
        self.outgoing.bell.ring();
        let length = bytes.len();
        Frame::within(bytes.into(), 0, length)
    }

    fn recycle(&mut self, _: Frame) {}

    fn can_send(&mut self) -> bool {
        self.outgoing.frames.lock().unwrap().len() < ROOM
    }

    fn prepare(&mut self, length: usize) -> Frame {
        Frame::new(length)
    }

    fn send(&mut self, frame: Frame) {
        self.put(frame.bytes().to_vec());
    }

    fn flush(&mut self) -> bool {
        !self.incoming.frames.lock().unwrap().is_empty()
    }
}
