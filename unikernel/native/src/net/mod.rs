//! The network: addresses, names, TCP streams.
//!
//! There are two implementations of one interface: `system` over the sockets of an operating system, for tests and
//! fuzzing, and the machine's own over smoltcp and a virtio-net device.

mod error;
mod names;
#[cfg(feature = "std")]
mod system;
#[cfg(not(feature = "std"))]
mod own;

pub use error::NetError;
#[cfg(not(feature = "std"))]
pub use own::{TcpListener, TcpStream, resolve};
#[cfg(feature = "std")]
pub use system::{TcpListener, TcpStream, resolve};
