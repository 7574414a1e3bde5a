//! Files that the launcher shares: a client of the protocol 9P2000.L (diod's protocol.md, and Plan 9's manual, section 5),
//! which only reads.
//!
//! In reading order: `codec` has the protocol's numbers and texts, `messages` its messages, `client` files and directories
//! over them, and `driver` the device that carries messages. What a server answers is checked: lengths, counts, names.

pub mod client;
mod codec;
#[cfg(any(target_os = "none", test))]
mod driver;
mod messages;
#[cfg(all(test, feature = "std"))]
mod tests;

#[cfg(target_os = "none")]
pub use driver::Volumes;
