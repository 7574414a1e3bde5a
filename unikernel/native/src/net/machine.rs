//! The machine's own network: one stack, over the first virtio-net device.

use super::stack::{Link, Sizes, Stack};
use super::{NetError, Settings, names};
use crate::host::executor::spawn;
use crate::host::sync::{Mutex, Signal};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

pub use super::stack::{TcpListener, TcpStream};

static STACK: Mutex<Option<Arc<Stack>>> = Mutex::new(None);

fn stack() -> Result<Arc<Stack>, NetError> {
    STACK.lock().clone().ok_or(NetError::NoNetwork)
}

/// Brings the network up on a link whose interrupts raise `arrival`, in a machine with so many bytes of `memory`.
///
/// It returns at once; `ready` waits for an address.
pub fn start(link: Box<dyn Link>, arrival: &'static Signal, settings: &Settings, memory: u64) {
    let stack = Stack::new(link, settings, Sizes::of_memory(memory));
    *STACK.lock() = Some(stack.clone());
    spawn(async move { stack.run(|| arrival.wait()).await }).detach();
}

/// Waits until the machine has an address; fails where none can be had, or there is no device.
pub async fn ready() -> Result<(), NetError> {
    stack()?.ready().await
}

/// The machine's addresses that others can reach it by, as far as they are known now.
pub fn addresses() -> Vec<IpAddr> {
    stack().map(|stack| stack.addresses()).unwrap_or_default()
}

impl TcpStream {
    /// Connects within the time of `limit`.
    pub async fn connect(to: SocketAddr, limit: Duration) -> Result<TcpStream, NetError> {
        stack()?.connect(to, limit).await
    }
}

impl TcpListener {
    /// Listens on a port; 0 means any that is free.
    pub fn bind(port: u16) -> Result<TcpListener, NetError> {
        stack()?.listen(port)
    }
}

/// The addresses of a name, the preferred one first. See `Stack::resolve`.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>, NetError> {
    match stack() {
        Ok(stack) => stack.resolve(name).await,
        Err(_) => names::known(name).ok_or_else(|| NetError::NoNameServer(name.to_string())),
    }
}
