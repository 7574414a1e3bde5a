//! The network of the operating system, where there is one: what tests and fuzzers use in place of the machine's own.

use super::NetError;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use async_io::{Async, Timer};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use futures_util::future::{Either, select};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, ToSocketAddrs};

/// How long `finish` waits for the peer to take what was sent.
const FINISH: Duration = Duration::from_secs(10);

/// A TCP connection. Dropping it ends it at once, unless `finish` has been called.
pub struct TcpStream {
    socket: Async<std::net::TcpStream>,
    peer: SocketAddr,
    finished: AtomicBool,
}

impl TcpStream {
    /// Connects within the time of `limit`.
    pub async fn connect(to: SocketAddr, limit: Duration) -> Result<TcpStream, NetError> {
        let connecting = core::pin::pin!(Async::<std::net::TcpStream>::connect(to));
        match select(connecting, Timer::after(limit)).await {
            Either::Left((socket, _)) => TcpStream::new(socket?, to),
            Either::Right(_) => Err(NetError::TimedOut),
        }
    }

    fn new(socket: Async<std::net::TcpStream>, peer: SocketAddr) -> Result<TcpStream, NetError> {
        socket.get_ref().set_nodelay(true)?;
        Ok(TcpStream { socket, peer, finished: AtomicBool::new(false) })
    }

    /// Waits for bytes and puts them at the start of `into`; gives how many, which is 0 when the peer has finished.
    pub async fn read(&self, into: &mut [u8]) -> Result<usize, NetError> {
        Ok(self.socket.read_with(|mut socket| socket.read(into)).await?)
    }

    /// Waits until the send buffer has room, and gives how many of the first bytes it took: 0 only for no bytes at all.
    pub async fn write(&self, bytes: &[u8]) -> Result<usize, NetError> {
        if self.finished.load(Ordering::Relaxed) {
            return Err(NetError::Finished);
        }
        Ok(self.socket.write_with(|mut socket| socket.write(bytes)).await?)
    }

    /// Returns when all the bytes are in the send buffer, for which it may have to wait.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), NetError> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Says that nothing more will be sent, and waits some seconds until the peer has finished, too.
    ///
    /// What the peer still sends in that time is thrown away.
    pub async fn finish(&self) {
        if self.finished.swap(true, Ordering::Relaxed) || self.socket.get_ref().shutdown(Shutdown::Write).is_err() {
            return;
        }
        let ended = core::pin::pin!(async {
            let mut rest = [0; 512];
            while matches!(self.read(&mut rest).await, Ok(count) if count > 0) {}
        });
        select(ended, Timer::after(FINISH)).await;
    }

    /// Ends the connection at once, in both directions.
    pub fn abort(&self) {
        // It fails where the connection has ended, which is what is wanted.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }

    /// The address and port at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        if !self.finished.load(Ordering::Relaxed) {
            self.abort();
        }
    }
}

/// Takes connections on one port of all addresses. Dropping it stops that; connections that were accepted stay.
pub struct TcpListener {
    sockets: Async<std::net::TcpListener>,
    port: u16,
}

impl TcpListener {
    /// Listens on a port; 0 means any that is free.
    pub fn bind(port: u16) -> Result<TcpListener, NetError> {
        // Linux gives a socket of IPv6 the connections of IPv4 as well.
        let any: [SocketAddr; 2] = [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
        let socket = std::net::TcpListener::bind(&any[..]).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => NetError::PortInUse(port),
            _ => error.into(),
        })?;
        let port = socket.local_addr()?.port();
        Ok(TcpListener { sockets: Async::new(socket)?, port })
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Result<TcpStream, NetError> {
        let (socket, peer) = self.sockets.accept().await?;
        TcpStream::new(socket, SocketAddr::new(peer.ip().to_canonical(), peer.port()))
    }
}

/// The addresses of a name, the preferred one first: an address as text, `localhost`, `host.localhost` (the machine that
/// runs this one), or a name that a server of names is asked for.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>, NetError> {
    if let Some(known) = super::names::known(name) {
        return Ok(known);
    }
    if name.eq_ignore_ascii_case(super::names::HOST) {
        return Ok([Ipv4Addr::LOCALHOST.into()].into());
    }
    let asked = String::from(name);
    let (sender, answer) = futures_channel::oneshot::channel();
    // The C library's resolver blocks.
    std::thread::spawn(move || {
        let addresses = (asked.as_str(), 0).to_socket_addrs();
        let _ = sender.send(addresses.map(|all| all.map(|address| address.ip()).collect::<Vec<_>>()));
    });
    match answer.await {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(NetError::NoSuchName(name.to_string())),
        Err(_) => Err(NetError::NoNameServer(name.to_string())),
    }
}

impl From<io::Error> for NetError {
    fn from(error: io::Error) -> NetError {
        match error.kind() {
            ErrorKind::ConnectionRefused => NetError::Refused,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => NetError::Reset,
            ErrorKind::TimedOut => NetError::TimedOut,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => NetError::Unreachable,
            _ => NetError::System(error.to_string()),
        }
    }
}
