//! The network: addresses, names, TCP streams.
//!
//! There are two implementations of one interface: `system` over the sockets of an operating system, for tests and
//! fuzzing, and the machine's own, a `stack` over a virtio-net device, which `machine` offers.
#![deny(unsafe_code)]

mod error;
#[cfg(not(feature = "std"))]
mod machine;
mod names;
mod settings;
pub mod stack;
#[cfg(feature = "std")]
mod system;

pub use error::NetError;
#[cfg(not(feature = "std"))]
pub use machine::{TcpListener, TcpStream, addresses, ready, resolve, start};
pub use settings::Settings;
#[cfg(feature = "std")]
pub use system::{TcpListener, TcpStream, resolve};
