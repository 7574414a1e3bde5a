//! TCP connections.

use super::Stack;
use super::state::State;
use crate::net::NetError;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

/// How long `finish` waits for the peer to take what was sent.
const FINISH: Duration = Duration::from_secs(10);
/// How long a peer may leave bytes or questions unanswered.
const SILENCE: Duration = Duration::from_secs(60);
/// The ports that outgoing connections come from (RFC 6335).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 49152..=65535;

/// A TCP connection. Dropping it ends it at once, unless `finish` has been called.
pub struct TcpStream {
    stack: Arc<Stack>,
    socket: SocketHandle,
    peer: SocketAddr,
    finished: AtomicBool,
}

impl Stack {
    /// Connects within the time of `limit`. It may begin to run out before the machine has an address.
    pub async fn connect(self: &Arc<Stack>, to: SocketAddr, limit: Duration) -> Result<TcpStream, NetError> {
        if to.ip().is_loopback() {
            // What listens here is the application itself, which has no need of the network for that.
            return Err(NetError::Refused);
        }
        Stack::within(limit, async {
            self.ready().await?;
            let socket = self.state.lock().connect(to)?;
            self.bell.ring();
            let stream = TcpStream::new(self.clone(), socket, to);
            poll_fn(|context| stream.connected(context)).await?;
            Ok(stream)
        })
        .await
    }
}

impl State {
    fn connect(&mut self, to: SocketAddr) -> Result<SocketHandle, NetError> {
        if !self.reaches(to.ip()) {
            return Err(NetError::Unreachable);
        }
        let port = self.ephemeral_port(to).ok_or(NetError::TooMany(self.limit()))?;
        let socket = self.open().ok_or(NetError::TooMany(self.limit()))?;
        self.tcp(socket).set_timeout(Some(SILENCE.into()));
        let context = self.interface.context();
        match self.sockets.get_mut::<tcp::Socket>(socket).connect(context, to, port) {
            Ok(()) => Ok(socket),
            Err(_) => {
                self.discard(socket);
                Err(NetError::Unreachable)
            }
        }
    }

    /// A port from which nothing is connected to `to`.
    fn ephemeral_port(&self, to: SocketAddr) -> Option<u16> {
        let in_use = |port: u16| {
            self.sockets.iter().any(|(_, socket)| match socket {
                smoltcp::socket::Socket::Tcp(socket) => {
                    socket.local_endpoint().is_some_and(|end| end.port == port)
                        && socket.remote_endpoint().is_some_and(|end| SocketAddr::from(end) == to)
                }
                _ => false,
            })
        };
        // From a place that strangers can't guess (RFC 6056).
        let mut random = [0; 2];
        crate::host::platform::random(&mut random);
        let start = usize::from(u16::from_le_bytes(random)) % EPHEMERAL.len();
        EPHEMERAL.cycle().skip(start).take(EPHEMERAL.len()).find(|port| !in_use(*port))
    }
}

impl TcpStream {
    fn new(stack: Arc<Stack>, socket: SocketHandle, peer: SocketAddr) -> TcpStream {
        TcpStream { stack, socket, peer, finished: AtomicBool::new(false) }
    }

    pub(super) fn accepted(stack: Arc<Stack>, socket: SocketHandle) -> TcpStream {
        let peer = {
            let mut state = stack.state.lock();
            let tcp = state.tcp(socket);
            tcp.set_timeout(Some(SILENCE.into()));
            tcp.remote_endpoint()
        };
        // A connection that has been reset meanwhile has no peer any more.
        let peer = peer.map_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), SocketAddr::from);
        TcpStream::new(stack, socket, peer)
    }

    fn connected(&self, context: &mut Context) -> Poll<Result<(), NetError>> {
        let mut state = self.stack.state.lock();
        let tcp = state.tcp(self.socket);
        match tcp.state() {
            tcp::State::SynSent | tcp::State::SynReceived => {
                tcp.register_send_waker(context.waker());
                Poll::Pending
            }
            tcp::State::Closed => Poll::Ready(Err(NetError::Refused)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Waits for bytes and puts them at the start of `into`; gives how many, which is 0 when the peer has finished.
    pub async fn read(&self, into: &mut [u8]) -> Result<usize, NetError> {
        poll_fn(|context| {
            let mut state = self.stack.state.lock();
            let tcp = state.tcp(self.socket);
            let waiting = tcp.recv_queue();
            match tcp.recv_slice(into) {
                Ok(0) if !into.is_empty() => {
                    tcp.register_recv_waker(context.waker());
                    Poll::Pending
                }
                Ok(count) => {
                    // The peer may have stopped for want of room, and must be told of it.
                    if waiting > tcp.recv_capacity() / 2 {
                        self.stack.bell.ring();
                    }
                    Poll::Ready(Ok(count))
                }
                Err(tcp::RecvError::Finished) => Poll::Ready(Ok(0)),
                Err(tcp::RecvError::InvalidState) => Poll::Ready(Err(NetError::Reset)),
            }
        })
        .await
    }

    /// Waits until the send buffer has room, and gives how many of the first bytes it took: 0 only for no bytes at all.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize, NetError> {
        if self.finished.load(Ordering::Relaxed) {
            return Err(NetError::Finished);
        }
        poll_fn(|context| {
            let mut state = self.stack.state.lock();
            let tcp = state.tcp(self.socket);
            match tcp.send_slice(bytes) {
                Ok(0) if !bytes.is_empty() => {
                    tcp.register_send_waker(context.waker());
                    Poll::Pending
                }
                Ok(count) => {
                    self.stack.bell.ring();
                    Poll::Ready(Ok(count))
                }
                Err(tcp::SendError::InvalidState) => Poll::Ready(Err(NetError::Reset)),
            }
        })
        .await
    }

    /// Returns when all the bytes are in the send buffer, for which it may have to wait.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), NetError> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Says that nothing more will be sent, and waits some seconds until the peer has acknowledged all.
    pub async fn finish(&self) {
        if self.finished.swap(true, Ordering::Relaxed) {
            return;
        }
        self.stack.state.lock().tcp(self.socket).close();
        self.stack.bell.ring();
        let acknowledged = poll_fn(|context| {
            let mut state = self.stack.state.lock();
            let tcp = state.tcp(self.socket);
            match tcp.state() {
                tcp::State::FinWait1 | tcp::State::Closing | tcp::State::LastAck => {
                    tcp.register_send_waker(context.waker());
                    Poll::Pending
                }
                _ => Poll::Ready(Ok(())),
            }
        });
        if Stack::within(FINISH, acknowledged).await.is_err() {
            self.abort();
        }
    }

    /// Ends the connection at once, in both directions.
    pub fn abort(&self) {
        self.stack.state.lock().tcp(self.socket).abort();
        self.stack.bell.ring();
    }

    /// The address and port at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut state = self.stack.state.lock();
        if !self.finished.load(Ordering::Relaxed) {
            state.tcp(self.socket).abort();
        }
        state.linger(self.socket);
        drop(state);
        self.stack.bell.ring();
    }
}
