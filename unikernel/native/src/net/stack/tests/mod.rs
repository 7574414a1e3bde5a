//! Two stacks, joined by a cable in memory.

mod addressing;
mod cable;
mod connections;
mod names;
mod neighbour;
mod strangers;

use super::{NetError, Settings, Sizes, Stack};
use crate::host::executor::{Task, block_on, sleep, spawn, timeout};
use cable::{Cable, End};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;
use std::vec::Vec;

const SIZES: Sizes = Sizes { receive: 4096, send: 4096, connections: 300 };
const SOON: Duration = Duration::from_secs(20);

/// A stack whose packets move while the tasks of this thread run.
struct Host {
    stack: Arc<Stack>,
    _task: Task<()>,
}

impl core::ops::Deref for Host {
    type Target = Arc<Stack>;
    fn deref(&self) -> &Arc<Stack> {
        &self.stack
    }
}

fn host(end: End, settings: &Settings, sizes: Sizes) -> Host {
    let arrivals = end.arrivals();
    let stack = Stack::new(Box::new(end), settings, sizes);
    let running = stack.clone();
    let task = spawn(async move { running.run(|| arrivals.wait()).await });
    Host { stack, _task: task }
}

fn fixed(address: &str) -> Settings {
    let (address, prefix) = address.split_once('/').unwrap();
    Settings {
        addresses: vec![(address.parse().unwrap(), prefix.parse().unwrap())],
        dhcp: false,
        advertisements: false,
        ..Settings::default()
    }
}

/// A client at 10.0.0.1 and a server at 10.0.0.2.
fn pair() -> (Host, Host) {
    pair_of(SIZES)
}

fn pair_of(sizes: Sizes) -> (Host, Host) {
    let (one, other) = Cable::new();
    (host(one, &fixed("10.0.0.1/24"), sizes), host(other, &fixed("10.0.0.2/24"), sizes))
}

fn server(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, 0, 2]), port)
}

/// Runs a test, which may not take longer than `SOON`.
fn run<T>(test: impl Future<Output = T>) -> T {
    block_on(async { timeout(SOON, test).await.expect("the test takes too long") })
}
