//! Tells the neighbours which link address an address of ours has, before anyone asks: a gratuitous ARP (RFC 5227, 2.3)
//! or an unsolicited neighbour advertisement (RFC 4861, 7.2.6). A network that knows us already loses no connection.

use super::link::Link;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    IPV6_LINK_LOCAL_ALL_NODES, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv4Address, Ipv6Address, Ipv6Packet,
    Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

/// The link address of the multicast group of all nodes (RFC 2464, 7).
const ALL_NODES: EthernetAddress = EthernetAddress([0x33, 0x33, 0, 0, 0, 1]);
/// The hop limit that says that a packet has passed no router (RFC 4861, 7.1.2).
const NEIGHBOUR: u8 = 255;

/// Sends the announcement, where the link has room for it.
pub(super) fn announce(link: &mut dyn Link, mac: EthernetAddress, address: IpAddress) {
    if !link.can_send() {
        return;
    }
    match address {
        IpAddress::Ipv4(address) => announce_ipv4(link, mac, address),
        IpAddress::Ipv6(address) => announce_ipv6(link, mac, address),
    }
}

fn announce_ipv4(link: &mut dyn Link, mac: EthernetAddress, address: Ipv4Address) {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: address,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    };
    send(link, mac, EthernetAddress::BROADCAST, EthernetProtocol::Arp, arp.buffer_len(), |payload| {
        arp.emit(&mut ArpPacket::new_unchecked(payload));
    });
}

fn announce_ipv6(link: &mut dyn Link, mac: EthernetAddress, address: Ipv6Address) {
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: address,
        lladdr: Some(mac.into()),
    });
    let ip = Ipv6Repr {
        src_addr: address,
        dst_addr: IPV6_LINK_LOCAL_ALL_NODES,
        next_header: IpProtocol::Icmpv6,
        payload_len: advertisement.buffer_len(),
        hop_limit: NEIGHBOUR,
    };
    send(link, mac, ALL_NODES, EthernetProtocol::Ipv6, ip.buffer_len() + ip.payload_len, |payload| {
        let mut packet = Ipv6Packet::new_unchecked(payload);
        ip.emit(&mut packet);
        let mut message = Icmpv6Packet::new_unchecked(packet.payload_mut());
        advertisement.emit(&ip.src_addr, &ip.dst_addr, &mut message, &ChecksumCapabilities::default());
    });
}

fn send(
    link: &mut dyn Link,
    from: EthernetAddress,
    to: EthernetAddress,
    ethertype: EthernetProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    let mut frame = link.prepare(EthernetFrame::<&[u8]>::buffer_len(length));
    let mut ethernet = EthernetFrame::new_unchecked(frame.bytes_mut());
    EthernetRepr { src_addr: from, dst_addr: to, ethertype }.emit(&mut ethernet);
    fill(ethernet.payload_mut());
    link.send(frame);
}
