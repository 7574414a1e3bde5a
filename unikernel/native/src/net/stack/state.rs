//! What the stack's lock protects, and how packets move.

use super::addresses::Addresses;
use super::link::{Device, Link};
use super::listener::Listening;
use super::{Settings, Sizes};
use crate::host::{log, platform};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{dns, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

/// Frames that are received before others than the network have their turn.
const BATCH: usize = 64;
/// How long a side that has finished waits for the other one.
const LINGER: Duration = Duration::from_secs(10);
/// How long a connection is remembered after both sides have finished, so that the last acknowledgement goes out and
/// can be sent again. RFC 9293 asks for minutes; who has ended thousands of connections has no memory for that.
const TIME_WAIT: Duration = Duration::from_millis(100);
/// How long a link gets whose send queue is full.
const CONGESTION: Duration = Duration::from_millis(1);
/// How often a silent peer is asked whether it still is there.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// How exact timers are.
const RESOLUTION: Duration = Duration::from_millis(5);
/// How often the console is told that there are too many connections.
const COMPLAINT: Duration = Duration::from_secs(10);

pub(super) struct State {
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) device: Device,
    pub(super) dns: SocketHandle,
    /// That were put to name servers and are not answered.
    pub(super) questions: usize,
    pub(super) addresses: Addresses,
    pub(super) listening: Vec<Listening>,
    /// Connections that no program has any more.
    lingering: Vec<Lingering>,
    sizes: Sizes,
    /// TCP sockets in `sockets`.
    connections: usize,
    complain_from: Duration,
    /// Counts what `Stack::changed` tells of.
    pub(super) events: u64,
}

struct Lingering {
    socket: SocketHandle,
    /// Whether both sides have finished.
    done: bool,
    until: Duration,
}

/// When packets have to be moved next, whatever arrives.
pub(super) enum Next {
    Now,
    /// At a time since boot.
    At(Duration),
    /// When something happens.
    Event,
}

impl State {
    pub(super) fn new(link: Box<dyn Link>, settings: &Settings, sizes: Sizes) -> State {
        let now = instant(platform::now());
        let mac = EthernetAddress(link.mac());
        let mut device = Device::new(link);
        let mut seed = [0; 8];
        platform::random(&mut seed);
        let mut config = Config::new(mac.into());
        config.random_seed = u64::from_le_bytes(seed);
        config.slaac = settings.advertisements;
        let interface = Interface::new(config, &mut device, now);
        let mut sockets = SocketSet::new(Vec::new());
        let dns = sockets.add(dns::Socket::new(&[], Vec::new()));
        let mut state = State {
            interface,
            device,
            dns,
            questions: 0,
            addresses: Addresses::new(settings, &mut sockets, mac),
            sockets,
            listening: Vec::new(),
            lingering: Vec::new(),
            sizes,
            connections: 0,
            complain_from: Duration::ZERO,
            events: 0,
        };
        state.set_up(settings);
        state
    }

    pub(super) fn tcp(&mut self, socket: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(socket)
    }

    /// A new TCP socket with its buffers. None where there are too many, which the console is told.
    pub(super) fn open(&mut self) -> Option<SocketHandle> {
        if self.connections >= self.sizes.connections {
            self.complain();
            return None;
        }
        self.connections += 1;
        let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(self.sizes.receive), buffer(self.sizes.send));
        // Programs write whole messages; the last part of one must not wait for an acknowledgement.
        socket.set_nagle_enabled(false);
        // Before the connection: one that is set up asks at once.
        socket.set_keep_alive(Some(KEEP_ALIVE.into()));
        Some(self.sockets.add(socket))
    }

    /// Connections that there may be.
    pub(super) fn limit(&self) -> usize {
        self.sizes.connections
    }

    fn complain(&mut self) {
        let now = platform::now();
        if now >= self.complain_from {
            self.complain_from = now + COMPLAINT;
            log::warning(&alloc::format!(
                "{} connections are open, and more wait until one ends; with more memory there may be more",
                self.sizes.connections
            ));
        }
    }

    /// Forgets a socket and frees its buffers.
    pub(super) fn discard(&mut self, socket: SocketHandle) {
        self.sockets.remove(socket);
        self.connections -= 1;
    }

    /// Takes a connection over that no program has any more, and ends it in time.
    pub(super) fn linger(&mut self, socket: SocketHandle) {
        self.lingering.push(Lingering { socket, done: false, until: platform::now() + LINGER });
    }

    /// Moves what is there to move, says when there is more, and counts in `events` what programs wait for.
    pub(super) fn poll(&mut self, time: Duration) -> Next {
        let now = instant(time);
        self.interface.poll_maintenance(now);
        self.refill();
        let mut received = 0;
        while received < BATCH {
            match self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets) {
                PollIngressSingleResult::None => break,
                _ => received += 1,
            }
            // Before the next frame: it may ask for one more connection.
            self.refill();
        }
        self.welcome();
        self.configure(time);
        loop {
            match self.interface.poll_egress(now, &mut self.device, &mut self.sockets) {
                PollResult::None => break,
                PollResult::SocketStateChanged => {}
            }
        }
        let end = self.end_lingering(time);
        if self.device.flush() || received == BATCH {
            return Next::Now;
        }
        // What was due has been sent. smoltcp names a moment that has passed all the same when it has given up asking
        // for routers.
        let soonest = time + if self.device.link.can_send() { RESOLUTION } else { CONGESTION };
        let next = self.interface.poll_at(now, &self.sockets);
        let next = next.map(|at| Duration::from_micros(at.total_micros().max(0) as u64).max(soonest));
        let deadlines = [next, end, self.addresses.deadline()];
        match deadlines.into_iter().flatten().min() {
            Some(at) if at <= time => Next::Now,
            Some(at) => Next::At(at),
            None => Next::Event,
        }
    }

    /// Forgets the connections that have ended, and ends those whose time is over. Gives when the next one's is.
    fn end_lingering(&mut self, now: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut index = 0;
        while let Some(lingering) = self.lingering.get_mut(index) {
            let socket: &mut tcp::Socket = self.sockets.get_mut(lingering.socket);
            if socket.state() == tcp::State::TimeWait && !lingering.done {
                lingering.done = true;
                lingering.until = now + TIME_WAIT;
            }
            // A socket that was reset has sent that when it has no peer any more.
            let ended = socket.state() == tcp::State::Closed && socket.remote_endpoint().is_none();
            let late = now >= lingering.until;
            if ended || late && (lingering.done || socket.state() == tcp::State::Closed) {
                let socket = lingering.socket;
                self.lingering.swap_remove(index);
                self.discard(socket);
                continue;
            }
            if late {
                socket.abort();
                lingering.until = now + TIME_WAIT;
            }
            next = Some(next.map_or(lingering.until, |at| at.min(lingering.until)));
            index += 1;
        }
        next
    }
}

/// A time since boot as smoltcp has it.
pub(super) fn instant(since_boot: Duration) -> Instant {
    Instant::from_micros(since_boot.as_micros() as i64)
}
