//! The network: addresses, names, TCP streams.
