//! What goes wrong in the network, in words for whoever reads the console.

use alloc::string::String;
use core::fmt;

/// Why a connection or a name can't be had, or is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetError {
    /// The machine has no network device.
    NoNetwork,
    /// Neither a DHCP server nor a router gave an address in so many seconds.
    NoAddress(u64),
    /// The peer answered that nothing listens there.
    Refused,
    /// The peer, or we ourselves by `abort`, ended the connection without finishing it.
    Reset,
    /// No answer within the time that was given.
    TimedOut,
    /// No route leads to the address.
    Unreachable,
    /// Something listens on the port already.
    PortInUse(u16),
    /// As many connections are open as the machine has room for.
    TooMany(usize),
    /// No server of names knows the name.
    NoSuchName(String),
    /// No server of names answers, or there is none to ask; the name that was asked for.
    NoNameServer(String),
    /// Bytes were written after `finish`.
    Finished,
    /// What the operating system says, where there is one.
    System(String),
}

impl fmt::Display for NetError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::NoNetwork => to.write_str("there is no network: give the machine a virtio-net device"),
            NetError::NoAddress(seconds) => write!(
                to,
                "neither a DHCP server nor a router gave an address in {seconds} seconds: \
                 give one with ip=ADDRESS::ROUTER:MASK"
            ),
            NetError::Refused => to.write_str("the connection was refused"),
            NetError::Reset => to.write_str("the connection was reset"),
            NetError::TimedOut => to.write_str("there was no answer in time"),
            NetError::Unreachable => to.write_str("no route leads to the address"),
            NetError::PortInUse(port) => write!(to, "something listens on port {port} already"),
            NetError::TooMany(most) => write!(to, "{most} connections are open, and there is room for no more"),
            NetError::NoSuchName(name) => write!(to, "there is no address for the name {name:?}"),
            NetError::NoNameServer(name) => {
                write!(to, "no name server answers for the name {name:?}")
            }
            NetError::Finished => to.write_str("the connection was finished before"),
            NetError::System(said) => to.write_str(said),
        }
    }
}

impl core::error::Error for NetError {}
