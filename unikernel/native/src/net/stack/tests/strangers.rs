//! Strangers on the same network send whatever they like: nothing fails, and others are served as before.
//!
//! Frames are made so that much of them is right, their lengths and checksums above all: what is wrong at first sight is
//! thrown away before anything looks at it.

use super::cable::Stranger;
use super::*;
use crate::host::executor::yield_now;
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;

const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 66);
const PORT: u16 = 80;

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The Internet checksum (RFC 1071) of the parts on end, each of even length but for the last.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Puts the checksum into what IP carries, where the protocol has one there.
fn signed(protocol: u8, addresses: &[u8], mut payload: Vec<u8>) -> Vec<u8> {
    let place = match protocol {
        ICMP | ICMPV6 => 2,
        TCP => 16,
        UDP => 6,
        _ => return payload,
    };
    if payload.len() < place + 2 {
        return payload;
    }
    if protocol == UDP {
        let length = payload.len() as u16;
        payload[4..6].copy_from_slice(&length.to_be_bytes());
    }
    payload[place..place + 2].fill(0);
    let length = (payload.len() as u32).to_be_bytes();
    let pseudo_header = [addresses, &length, &[0, 0, 0, protocol]].concat();
    let sum = if protocol == ICMP { checksum(&[&payload]) } else { checksum(&[&pseudo_header, &payload]) };
    payload[place..place + 2].copy_from_slice(&sum);
    payload
}

fn ethernet(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &[2, 0, 0, 0, 0, 66], &kind.to_be_bytes(), payload].concat()
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Vec<u8> {
    let addresses = [from.octets(), to.octets()].concat();
    let payload = signed(protocol, &addresses, payload);
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut header = [&[0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0], &addresses[..]].concat();
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    ethernet(SERVER_MAC, IPV4, &[header, payload].concat())
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, payload: Vec<u8>) -> Vec<u8> {
    let addresses = [from.octets(), to.octets()].concat();
    let payload = signed(protocol, &addresses, payload);
    let length = (payload.len() as u16).to_be_bytes();
    // Neighbour discovery takes packets of this network alone, which have the greatest hop limit (RFC 4861, 6.1.2).
    let header = [&[0x60, 0, 0, 0, length[0], length[1], protocol, 255], &addresses[..]].concat();
    ethernet(SERVER_MAC, IPV6, &[header, payload].concat())
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// A segment for a port that is listened on, or for another one.
fn tcp() -> impl Strategy<Value = Vec<u8>> {
    let port = prop_oneof![4 => Just(PORT), 1 => any::<u16>()];
    let words = prop_oneof![2 => Just(5_u8), 2 => Just(10), 1 => any::<u8>()];
    (1..9_u16, port, any::<u32>(), any::<u32>(), words, any::<u8>(), any::<u16>(), bytes(60)).prop_map(
        |(from, to, number, acknowledged, words, flags, window, rest)| {
            let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
            let numbers = [number.to_be_bytes(), acknowledged.to_be_bytes()].concat();
            let window = window.to_be_bytes();
            [&ports[..], &numbers, &[words << 4, flags], &window, &[0, 0, 0, 0], &rest].concat()
        },
    )
}

/// A datagram of a name server, of a DHCP server, or of anybody.
fn udp() -> impl Strategy<Value = Vec<u8>> {
    let ports = prop_oneof![Just([53, 49152]), Just([67, 68]), any::<[u16; 2]>()];
    let dhcp = (any::<[u8; 4]>(), bytes(80)).prop_map(|(id, options)| {
        let mut message = [&[2, 1, 6, 0], &id[..], &[0; 228], &[0x63, 0x82, 0x53, 0x63], &options].concat();
        message[28..34].copy_from_slice(&SERVER_MAC);
        message
    });
    let content = prop_oneof![bytes(80), dhcp];
    (ports, content).prop_map(|([from, to], content)| {
        [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0, 0, 0, 0], &content].concat()
    })
}

/// A message of neighbour discovery (RFC 4861) with options, or any other of ICMPv6.
fn icmpv6() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![4 => 133..138_u8, 1 => any::<u8>()];
    let option = prop_oneof![
        (1..6_u8, 0..5_u8, bytes(40)).prop_map(|(kind, length, rest)| [&[kind, length], &rest[..]].concat()),
        any::<[u8; 30]>().prop_map(|prefix| [&[3, 4], &prefix[..]].concat()),
        any::<[u8; 6]>().prop_map(|mac| [&[1, 1], &mac[..]].concat()),
    ];
    let options = prop::collection::vec(option, 0..4).prop_map(|options| options.concat());
    let body = prop_oneof![Just(4_usize), Just(12), Just(20), Just(36)];
    (kind, any::<[u8; 36]>(), body, options)
        .prop_map(|(kind, body, length, options)| [&[kind, 0, 0, 0], &body[..length], &options].concat())
}

fn address() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        Just("fe80::42".parse().unwrap()),
        Just("fe80::ff:fe00:2".parse().unwrap()),
        Just("ff02::1".parse().unwrap()),
        Just("ff02::1:ff00:2".parse().unwrap()),
        Just(Ipv6Addr::UNSPECIFIED),
        any::<[u8; 16]>().prop_map(Ipv6Addr::from),
    ]
}

fn ipv4_payload() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        tcp().prop_map(|payload| (TCP, payload)),
        udp().prop_map(|payload| (UDP, payload)),
        bytes(60).prop_map(|payload| (ICMP, payload)),
        (any::<u8>(), bytes(60)),
    ]
}

fn ipv6_payload() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        3 => icmpv6().prop_map(|payload| (ICMPV6, payload)),
        1 => tcp().prop_map(|payload| (TCP, payload)),
        1 => udp().prop_map(|payload| (UDP, payload)),
        1 => (any::<u8>(), bytes(60)),
    ]
}

/// Addresses of this network and of no other machine, as whoever lies about those can keep them from being served.
fn arp() -> impl Strategy<Value = Vec<u8>> {
    (0..4_u8, any::<[u8; 6]>(), bytes(20)).prop_map(|(operation, mac, rest)| {
        let head = [0, 1, 8, 0, 6, 4, 0, operation];
        ethernet([0xff; 6], ARP, &[&head[..], &mac, &STRANGER.octets(), &[0; 6], &SERVER.octets(), &rest].concat())
    })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let sender = prop_oneof![4 => Just(STRANGER), 1 => any::<[u8; 4]>().prop_map(Ipv4Addr::from)];
    let receiver = prop_oneof![4 => Just(SERVER), 1 => Just(Ipv4Addr::BROADCAST)];
    prop_oneof![
        3 => (sender, receiver, ipv4_payload())
            .prop_map(|(from, to, (protocol, payload))| ipv4(from, to, protocol, payload)),
        3 => (address(), address(), ipv6_payload())
            .prop_map(|(from, to, (protocol, payload))| ipv6(from, to, protocol, payload)),
        1 => arp(),
        1 => bytes(80),
        1 => (any::<u16>(), bytes(80)).prop_map(|(kind, rest)| ethernet(SERVER_MAC, kind, &rest)),
    ]
}

/// Frames, and how many bytes are missing at their ends.
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let cut = (frame(), prop_oneof![6 => Just(0), 1 => 0..60_usize]).prop_map(|(mut frame, missing)| {
        frame.truncate(frame.len().saturating_sub(missing));
        frame
    });
    prop::collection::vec(cut, 1..30)
}

async fn receive_all(stranger: &Stranger, frames: Vec<Vec<u8>>) {
    for frame in frames {
        stranger.put(frame);
        yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_server_among_strangers_serves_its_client(frames in frames()) {
        let (one, other) = Cable::new();
        let stranger = one.stranger();
        let client = host(one, &fixed("10.0.0.1/24"), SIZES);
        let server_host = host(other, &fixed("10.0.0.2/24"), SIZES);
        run(async {
            let listener = server_host.listen(PORT).unwrap();
            receive_all(&stranger, frames).await;
            let here = client.connect(server(PORT), SOON).await.unwrap();
            // Those strangers that were let in come first.
            let there = loop {
                let there = listener.accept().await.unwrap();
                if there.peer().ip() == IpAddr::from([10, 0, 0, 1]) {
                    break there;
                }
            };
            here.write_all(b"question").await.unwrap();
            let mut question = [0; 8];
            let mut length = 0;
            while length < question.len() {
                length += there.read(&mut question[length..]).await.unwrap();
            }
            assert_eq!(&question, b"question");
        });
    }

    #[test]
    fn a_machine_that_asks_for_an_address_survives_any_answer(frames in frames()) {
        let (one, other) = Cable::new();
        let stranger = one.stranger();
        let machine = host(other, &Settings::default(), SIZES);
        run(async {
            receive_all(&stranger, frames).await;
            for _ in 0..10 {
                yield_now().await;
            }
            let _ = machine.addresses();
        });
    }
}
