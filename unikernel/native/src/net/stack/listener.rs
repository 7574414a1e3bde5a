//! Listening on a port.
//!
//! smoltcp has no queue of connections to accept: a listening socket becomes the connection. So there is one to spare
//! at all times, and a new one takes its place before the next frame is looked at. A burst of connections finds a socket
//! each, and buffers exist for connections alone, and for the spare one.

use super::state::State;
use super::{Stack, TcpStream};
use crate::net::NetError;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

/// Connections that may wait to be accepted, those included whose peer has not answered yet.
const BACKLOG: usize = 256;
/// How long a peer that asked for a connection has to answer our answer.
const HANDSHAKE: Duration = Duration::from_secs(5);
const FIRST_EPHEMERAL: u16 = 49152;

/// A port that is listened on.
pub(super) struct Listening {
    port: u16,
    /// In the state LISTEN; none where there is no room for one.
    spare: Option<SocketHandle>,
    /// Whose peers have not answered yet.
    handshakes: Vec<SocketHandle>,
    /// That can be accepted, the oldest first.
    ready: VecDeque<SocketHandle>,
}

impl State {
    fn listen(&mut self, port: u16) -> Result<u16, NetError> {
        let in_use = |port| self.listening.iter().any(|listening| listening.port == port);
        let port = match port {
            0 => (FIRST_EPHEMERAL..=u16::MAX).find(|port| !in_use(*port)).ok_or(NetError::PortInUse(0))?,
            port if in_use(port) => return Err(NetError::PortInUse(port)),
            port => port,
        };
        self.listening.push(Listening { port, spare: None, handshakes: Vec::new(), ready: VecDeque::new() });
        self.refill();
        Ok(port)
    }

    /// Ends the connections that nobody will accept.
    fn stop_listening(&mut self, port: u16) {
        let Some(index) = self.listening.iter().position(|listening| listening.port == port) else {
            return;
        };
        let stopped = self.listening.swap_remove(index);
        for socket in stopped.handshakes.into_iter().chain(stopped.ready).chain(stopped.spare) {
            self.tcp(socket).abort();
            self.linger(socket);
        }
        self.refill();
    }

    /// Sees to it that each listener has its spare socket.
    pub(super) fn refill(&mut self) {
        let mut lacking = false;
        for index in 0..self.listening.len() {
            let listening = &mut self.listening[index];
            if let Some(spare) = listening.spare {
                let socket: &tcp::Socket = self.sockets.get(spare);
                if socket.state() == tcp::State::Listen {
                    continue;
                }
                listening.spare = None;
                listening.handshakes.push(spare);
            }
            let waiting = listening.handshakes.len() + listening.ready.len();
            let port = listening.port;
            let spare = if waiting < BACKLOG { self.open() } else { None };
            match spare {
                Some(spare) => {
                    let socket = self.tcp(spare);
                    socket.set_timeout(Some(HANDSHAKE.into()));
                    // It can't fail: the socket is new, and the port is not 0.
                    let _ = socket.listen(port);
                    self.listening[index].spare = Some(spare);
                }
                None => lacking = true,
            }
        }
        if lacking || !self.device.full.is_empty() {
            self.device.full.clear();
            let full = self.listening.iter().filter(|listening| listening.spare.is_none());
            self.device.full.extend(full.map(|listening| listening.port));
        }
    }

    /// Makes the connections that are complete ready to be accepted.
    pub(super) fn welcome(&mut self) {
        for index in 0..self.listening.len() {
            let mut place = 0;
            while let Some(handshake) = self.listening[index].handshakes.get(place).copied() {
                match self.tcp(handshake).state() {
                    tcp::State::SynReceived => place += 1,
                    tcp::State::Established | tcp::State::CloseWait => {
                        let listening = &mut self.listening[index];
                        listening.handshakes.swap_remove(place);
                        listening.ready.push_back(handshake);
                        self.events += 1;
                    }
                    // A peer that takes its wish back puts the socket into LISTEN again.
                    _ => {
                        self.listening[index].handshakes.swap_remove(place);
                        self.tcp(handshake).abort();
                        self.linger(handshake);
                    }
                }
            }
        }
    }

    fn accept(&mut self, port: u16) -> Option<SocketHandle> {
        let listening = self.listening.iter_mut().find(|listening| listening.port == port)?;
        listening.ready.pop_front()
    }
}

/// Takes connections on one port of all addresses. Dropping it stops that; connections that were accepted stay.
pub struct TcpListener {
    stack: Arc<Stack>,
    port: u16,
}

impl Stack {
    /// Listens on a port; 0 means any that is free.
    pub fn listen(self: &Arc<Stack>, port: u16) -> Result<TcpListener, NetError> {
        let port = self.state.lock().listen(port)?;
        Ok(TcpListener { stack: self.clone(), port })
    }
}

impl TcpListener {
    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Result<TcpStream, NetError> {
        loop {
            let changed = self.stack.changed.notified();
            let accepted = {
                let mut state = self.stack.state.lock();
                let accepted = state.accept(self.port);
                if accepted.is_some() && !state.device.full.is_empty() {
                    state.refill();
                }
                accepted
            };
            if let Some(socket) = accepted {
                return Ok(TcpStream::accepted(self.stack.clone(), socket));
            }
            changed.await;
        }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.stack.state.lock().stop_listening(self.port);
        self.stack.bell.ring();
    }
}
