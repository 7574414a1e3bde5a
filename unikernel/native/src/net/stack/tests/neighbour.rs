//! A machine of few words on the cable: it answers ARP, and datagrams as a test wants.

use super::cable::End;
use super::{Task, spawn};
use core::net::Ipv4Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const OTHER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);

/// A datagram to the neighbour, or from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Datagram {
    pub to: Ipv4Addr,
    pub from_port: u16,
    pub to_port: u16,
    pub payload: Vec<u8>,
}

/// What was said on the cable by the machine under test.
#[derive(Default)]
pub struct Heard {
    /// Addresses that were announced by ARP, and by neighbour advertisements.
    pub arp: Vec<Ipv4Addr>,
    pub advertised: Vec<core::net::Ipv6Addr>,
    /// Whether routers were asked for.
    pub solicited: bool,
}

pub struct Neighbour {
    pub heard: Arc<Mutex<Heard>>,
    _task: Task<()>,
}

/// Answers each datagram by `script`, and a question for routers by `advertisement`: an ICMPv6 message.
pub fn neighbour(
    end: End,
    mut script: impl FnMut(Datagram) -> Option<Datagram> + Send + 'static,
    advertisement: Option<Vec<u8>>,
) -> Neighbour {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let hearing = heard.clone();
    let task = spawn(async move {
        let arrivals = end.arrivals();
        loop {
            while let Some(frame) = end.take() {
                if let Some(answer) = answers(&frame, &hearing, &mut script, &advertisement) {
                    end.put(answer);
                }
            }
            arrivals.wait().await;
        }
    });
    Neighbour { heard, _task: task }
}

fn answers(
    frame: &[u8],
    heard: &Mutex<Heard>,
    script: &mut impl FnMut(Datagram) -> Option<Datagram>,
    advertisement: &Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Arp => arp(ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok()?, heard),
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            if packet.next_header() != IpProtocol::Udp {
                return None;
            }
            let udp = UdpPacket::new_checked(packet.payload()).ok()?;
            let (from_port, to_port, payload) = (udp.src_port(), udp.dst_port(), udp.payload().to_vec());
            script(Datagram { to: packet.dst_addr(), from_port, to_port, payload }).map(datagram)
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            let (from, to) = (packet.src_addr(), packet.dst_addr());
            match Icmpv6Repr::parse(&from, &to, &message, &ChecksumCapabilities::default()).ok()? {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { target_addr, .. }) => {
                    heard.lock().unwrap().advertised.push(target_addr);
                    None
                }
                Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { .. }) => {
                    heard.lock().unwrap().solicited = true;
                    advertisement.clone().map(router)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn arp(question: ArpRepr, heard: &Mutex<Heard>) -> Option<Vec<u8>> {
    let ArpRepr::EthernetIpv4 { source_protocol_addr, target_protocol_addr, source_hardware_addr, .. } = question
    else {
        return None;
    };
    if source_protocol_addr == target_protocol_addr {
        heard.lock().unwrap().arp.push(target_protocol_addr);
        return None;
    }
    let answer = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: MAC,
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    Some(ethernet(EthernetProtocol::Arp, answer.buffer_len(), |payload| {
        answer.emit(&mut ArpPacket::new_unchecked(payload));
    }))
}

fn ethernet(kind: EthernetProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; 14 + length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr { src_addr: MAC, dst_addr: OTHER, ethertype: kind }.emit(&mut frame);
    fill(frame.payload_mut());
    bytes
}

fn datagram(said: Datagram) -> Vec<u8> {
    let udp = UdpRepr { src_port: said.from_port, dst_port: said.to_port };
    let length = 8 + said.payload.len();
    let ip = Ipv4Repr {
        src_addr: ADDRESS,
        dst_addr: said.to,
        next_header: IpProtocol::Udp,
        payload_len: length,
        hop_limit: 64,
    };
    let checksums = ChecksumCapabilities::default();
    ethernet(EthernetProtocol::Ipv4, ip.buffer_len() + length, |bytes| {
        let mut packet = Ipv4Packet::new_unchecked(bytes);
        ip.emit(&mut packet, &checksums);
        let mut inner = UdpPacket::new_unchecked(packet.payload_mut());
        let (from, to) = (ADDRESS.into(), said.to.into());
        let payload = &said.payload;
        udp.emit(&mut inner, &from, &to, payload.len(), |into| into.copy_from_slice(payload), &checksums);
    })
}

/// A router's message to all nodes; its checksum is filled in.
fn router(message: Vec<u8>) -> Vec<u8> {
    let from = core::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    let ip = Ipv6Repr {
        src_addr: from,
        dst_addr: IPV6_LINK_LOCAL_ALL_NODES,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.len(),
        hop_limit: 255,
    };
    ethernet(EthernetProtocol::Ipv6, ip.buffer_len() + message.len(), |bytes| {
        let mut packet = Ipv6Packet::new_unchecked(bytes);
        ip.emit(&mut packet);
        packet.payload_mut().copy_from_slice(&message);
        let mut inner = Icmpv6Packet::new_unchecked(packet.payload_mut());
        inner.fill_checksum(&from, &IPV6_LINK_LOCAL_ALL_NODES);
    })
}
