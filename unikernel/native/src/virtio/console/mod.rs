//! Channels to the launcher: the ports of a virtio console that have names (Virtio 1.2, section 5.3).

#[cfg(any(target_os = "none", test))]
mod driver;
pub mod protocol;

#[cfg(target_os = "none")]
pub use driver::{Console, Port};
