//! The machine's own network.

use super::{NetError, names};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

/// A TCP connection. Dropping it ends it at once, unless `finish` has been called.
pub struct TcpStream(Infallible);

impl TcpStream {
    /// Connects within the time of `limit`.
    pub async fn connect(_to: SocketAddr, _limit: Duration) -> Result<TcpStream, NetError> {
        Err(NetError::NoNetwork)
    }

    /// Waits for bytes and puts them at the start of `into`; gives how many, which is 0 when the peer has finished.
    pub async fn read(&self, _into: &mut [u8]) -> Result<usize, NetError> {
        match self.0 {}
    }

    /// Waits until the send buffer has room, and gives how many of the first bytes it took: 0 only for no bytes at all.
    pub async fn write(&self, _bytes: &[u8]) -> Result<usize, NetError> {
        match self.0 {}
    }

    /// Returns when all the bytes are in the send buffer, for which it may have to wait.
    pub async fn write_all(&self, _bytes: &[u8]) -> Result<(), NetError> {
        match self.0 {}
    }

    /// Says that nothing more will be sent, and waits some seconds until the peer has taken what was.
    pub async fn finish(&self) {
        match self.0 {}
    }

    /// Ends the connection at once, in both directions.
    pub fn abort(&self) {
        match self.0 {}
    }

    /// The address and port at the other end.
    pub fn peer(&self) -> SocketAddr {
        match self.0 {}
    }
}

/// Takes connections on one port of all addresses. Dropping it stops that; connections that were accepted stay.
pub struct TcpListener(Infallible);

impl TcpListener {
    /// Listens on a port; 0 means any that is free.
    pub fn bind(_port: u16) -> Result<TcpListener, NetError> {
        Err(NetError::NoNetwork)
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        match self.0 {}
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Result<TcpStream, NetError> {
        match self.0 {}
    }
}

/// The addresses of a name, the preferred one first.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>, NetError> {
    names::known(name).ok_or_else(|| NetError::NoNameServer(name.to_string()))
}
