//! Which frames the stack gets to see. It must never fail for what a stranger sends.

use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

const ROUTER_ADVERTISEMENT: u8 = 134;
/// Bytes of a router advertisement before its options (RFC 4861, 4.2).
const ADVERTISEMENT_HEADER: usize = 16;
const PREFIX_INFORMATION: u8 = 3;
const PREFIX_INFORMATION_LENGTH: usize = 32;

/// Whether the stack is to work on the frame. `full` are ports that take no new connections for now.
pub(super) fn wanted(frame: &[u8], full: &[u16]) -> bool {
    let Ok(frame) = EthernetFrame::new_checked(frame) else {
        return false;
    };
    match frame.ethertype() {
        EthernetProtocol::Arp => true,
        EthernetProtocol::Ipv4 => {
            let Ok(packet) = Ipv4Packet::new_checked(frame.payload()) else {
                return false;
            };
            packet.next_header() != IpProtocol::Tcp || !opens_one_of(packet.payload(), full)
        }
        EthernetProtocol::Ipv6 => {
            let Ok(packet) = Ipv6Packet::new_checked(frame.payload()) else {
                return false;
            };
            match packet.next_header() {
                IpProtocol::Tcp => !opens_one_of(packet.payload(), full),
                IpProtocol::Udp => true,
                IpProtocol::Icmpv6 => packet.payload().first() != Some(&ROUTER_ADVERTISEMENT) || sane(packet.payload()),
                // Extension headers, which nothing here needs.
                _ => false,
            }
        }
        _ => false,
    }
}

/// Whether a TCP segment asks for a connection to one of the ports.
fn opens_one_of(segment: &[u8], ports: &[u16]) -> bool {
    if ports.is_empty() {
        return false;
    }
    match TcpPacket::new_checked(segment) {
        Ok(segment) => segment.syn() && !segment.ack() && ports.contains(&segment.dst_port()),
        Err(_) => false,
    }
}

/// Whether the prefixes of a router advertisement can be those of addresses. smoltcp takes some that can't, and then
/// panics: those longer than an address, and those of multicast.
fn sane(advertisement: &[u8]) -> bool {
    let mut options = advertisement.get(ADVERTISEMENT_HEADER..).unwrap_or_default();
    while let [kind, length, ..] = *options {
        let length = usize::from(length) * 8;
        if length == 0 || length > options.len() {
            return false;
        }
        let (option, rest) = options.split_at(length);
        options = rest;
        if kind != PREFIX_INFORMATION {
            continue;
        }
        if length != PREFIX_INFORMATION_LENGTH {
            return false;
        }
        // An address is made of 64 bits of prefix and 64 of our own (RFC 4862, 5.5.3).
        let mut prefix = [0; 16];
        prefix.copy_from_slice(&option[16..32]);
        let prefix = core::net::Ipv6Addr::from(prefix);
        if option[2] != 64 || prefix.is_multicast() || prefix.is_unspecified() || prefix.is_loopback() {
            return false;
        }
    }
    true
}
