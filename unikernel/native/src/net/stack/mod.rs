//! TCP/IP over a link that carries Ethernet frames: smoltcp, in a task that moves packets whenever there are some.
//!
//! In reading order: `link` carries frames and `filter` keeps some out; `state` is what the lock protects, and `state.poll`
//! moves packets; `listener` and `stream` are what programs use; `addresses` sets up the interface, `announce` tells
//! the neighbours, `resolver` asks for names; `sizes` says how much memory all this may take.

mod addresses;
mod announce;
pub mod bell;
mod filter;
mod link;
mod listener;
mod resolver;
mod sizes;
mod state;
mod stream;
#[cfg(all(test, feature = "std"))]
mod tests;

use super::{NetError, Settings};
use crate::host::executor::{sleep_until, timeout, yield_now};
use crate::host::platform;
use crate::host::sync::{Mutex, Notify};
use addresses::Readiness;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bell::Bell;
use core::net::IpAddr;
use core::pin::pin;
use core::time::Duration;
use futures_util::future::{Either, pending, select};
pub use link::{FRAME, Frame, Link};
pub use listener::TcpListener;
pub use sizes::Sizes;
use state::{Next, State};
pub use stream::TcpStream;

/// A machine's network: one interface, and the sockets on it.
pub struct Stack {
    state: Mutex<State>,
    /// Is rung when something was written, ended or begun, so that packets have to go out.
    bell: Bell,
    /// Tells of connections that can be accepted, and of a readiness that has changed.
    changed: Notify,
    host: Option<IpAddr>,
}

impl Stack {
    /// Sets up an interface on the link. `run` brings it to life.
    pub fn new(link: Box<dyn Link>, settings: &Settings, sizes: Sizes) -> Arc<Stack> {
        let state = Mutex::new(State::new(link, settings, sizes));
        Arc::new(Stack { state, bell: Bell::default(), changed: Notify::new(), host: settings.host })
    }

    /// Moves packets, for ever. `arrival` ends when the link may have received something.
    pub async fn run<A: Future<Output = ()>>(&self, mut arrival: impl FnMut() -> A) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let before = state.events;
                let next = state.poll(platform::now());
                let changed = state.events != before;
                drop(state);
                if changed {
                    self.changed.notify();
                }
                next
            };
            let moment = async {
                match next {
                    Next::Now => yield_now().await,
                    Next::At(moment) => sleep_until(moment).await,
                    Next::Event => pending().await,
                }
            };
            let (bell, arrival, moment) = (pin!(self.bell.wait()), pin!(arrival()), pin!(moment));
            let others = select(bell, moment);
            if let Either::Left(_) = select(arrival, others).await {
                self.state.lock().device.link.acknowledge();
                // Whatever arrives, others have their turn.
                yield_now().await;
            }
        }
    }

    /// Waits until the machine has an address; fails where none can be had.
    pub async fn ready(&self) -> Result<(), NetError> {
        loop {
            let changed = self.changed.notified();
            match self.state.lock().readiness() {
                Readiness::Ready => return Ok(()),
                Readiness::Failed(error) => return Err(error),
                Readiness::Waiting => {}
            }
            changed.await;
        }
    }

    /// The machine's addresses that others can reach it by, as far as they are known now.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.state.lock().addresses()
    }

    /// The machine that runs this one: as the settings say, or else the default router.
    pub fn host(&self) -> Option<IpAddr> {
        self.host.or_else(|| self.state.lock().router())
    }

    /// Fails with `TimedOut` after `limit`.
    async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
        timeout(limit, work).await.unwrap_or(Err(NetError::TimedOut))
    }
}
