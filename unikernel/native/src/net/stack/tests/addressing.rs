//! Where addresses come from, and that the neighbours hear of them.

use super::neighbour::{ADDRESS, Datagram, neighbour};
use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};

const LEASED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

/// A DHCP server that gives `address` away (RFC 2131).
fn dhcp_server(address: Ipv4Addr) -> impl FnMut(Datagram) -> Option<Datagram> + Send + 'static {
    move |asked| {
        if asked.to_port != 67 {
            return None;
        }
        let question = DhcpPacket::new_checked(&asked.payload[..]).ok()?;
        let question = DhcpRepr::parse(&question).ok()?;
        let message_type = match question.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => DhcpMessageType::Ack,
            _ => return None,
        };
        let answer = DhcpRepr {
            message_type,
            your_ip: address,
            server_ip: ADDRESS,
            server_identifier: Some(ADDRESS),
            router: Some(ADDRESS),
            subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            lease_duration: Some(3600),
            dns_servers: Some([ADDRESS].into_iter().collect()),
            requested_ip: None,
            client_identifier: None,
            parameter_request_list: None,
            max_size: None,
            ..question
        };
        let mut payload = vec![0; answer.buffer_len()];
        answer.emit(&mut DhcpPacket::new_unchecked(&mut payload[..])).ok()?;
        Some(Datagram { to: Ipv4Addr::BROADCAST, from_port: 67, to_port: 68, payload })
    }
}

/// A router advertisement (RFC 4861, 4.2) of a prefix, which is valid for an hour.
fn advertisement(prefix: Ipv6Addr, length: u8) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(1800u16.to_be_bytes());
    message.extend([0; 8]);
    message.extend([3, 4, length, 0xc0]);
    message.extend(3600u32.to_be_bytes());
    message.extend(3600u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    message
}

#[test]
fn dhcp_gives_an_address_a_router_and_name_servers() {
    let (end, other) = Cable::new();
    let there = neighbour(other, dhcp_server(LEASED), None);
    let machine = host(end, &Settings { advertisements: false, ..Settings::default() }, SIZES);
    run(async {
        machine.ready().await.unwrap();
        assert_eq!(machine.addresses(), [IpAddr::from(LEASED)]);
        assert_eq!(machine.host(), Some(ADDRESS.into()));
        assert_eq!(machine.resolve("host.localhost").await, Ok(vec![ADDRESS.into()]));
        sleep(Duration::from_millis(50)).await;
        assert_eq!(there.heard.lock().unwrap().arp, [LEASED]);
    });
}

#[test]
fn dhcp_that_gives_away_what_nobody_can_have_gives_nothing() {
    for address in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::LOCALHOST] {
        let (end, other) = Cable::new();
        let _there = neighbour(other, dhcp_server(address), None);
        let machine = host(end, &Settings { advertisements: false, ..Settings::default() }, SIZES);
        run(async {
            assert!(timeout(Duration::from_millis(300), machine.ready()).await.is_err());
            assert!(machine.addresses().is_empty());
        });
    }
}

#[test]
fn dhcp_without_an_answer_fails_in_ten_seconds_and_may_answer_later() {
    let (end, other) = Cable::new();
    let machine = host(end, &Settings { advertisements: false, ..Settings::default() }, SIZES);
    block_on(async {
        let began = crate::host::platform::now();
        let failed = timeout(Duration::from_secs(30), machine.ready()).await.expect("it takes too long");
        assert_eq!(failed, Err(NetError::NoAddress(10)));
        assert!(crate::host::platform::now() - began >= Duration::from_secs(9));
        assert!(matches!(machine.connect(server(80), SOON).await, Err(NetError::NoAddress(10))));
        let _there = neighbour(other, dhcp_server(LEASED), None);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(machine.ready().await, Ok(()));
    });
}

#[test]
fn a_router_gives_an_address_and_a_route() {
    let (end, other) = Cable::new();
    let prefix = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0);
    let there = neighbour(other, |_| None, Some(advertisement(prefix, 64)));
    let machine = host(end, &Settings { dhcp: false, ..Settings::default() }, SIZES);
    run(async {
        machine.ready().await.unwrap();
        let own = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0xff, 0xfe00, 1);
        assert_eq!(machine.addresses(), [IpAddr::from(own)]);
        assert_eq!(machine.host(), Some("fe80::9".parse().unwrap()));
        sleep(Duration::from_millis(50)).await;
        let heard = there.heard.lock().unwrap();
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
        assert!(heard.solicited);
        assert_eq!(heard.advertised, [link_local, own]);
    });
}

#[test]
fn a_router_that_advertises_what_is_no_prefix_gives_nothing() {
    let lies =
        [("ff00::", 64), ("::", 64), ("fec0::", 255), ("fec0::", 129), ("fec0::", 63), ("fec0::", 0), ("fe80::", 64)];
    for (prefix, length) in lies {
        let (end, other) = Cable::new();
        let _there = neighbour(other, |_| None, Some(advertisement(prefix.parse().unwrap(), length)));
        let machine = host(end, &Settings { dhcp: false, ..Settings::default() }, SIZES);
        run(async {
            assert!(timeout(Duration::from_millis(100), machine.ready()).await.is_err(), "{prefix}/{length}");
            assert!(machine.addresses().is_empty());
        });
    }
}

#[test]
fn fixed_addresses_are_announced_in_both_families() {
    let (end, other) = Cable::new();
    let there = neighbour(other, |_| None, None);
    let mut settings = fixed("10.0.0.1/24");
    settings.addresses.push(("fec0::1".parse().unwrap(), 64));
    let _machine = host(end, &settings, SIZES);
    run(async {
        sleep(Duration::from_millis(50)).await;
        let heard = there.heard.lock().unwrap();
        assert_eq!(heard.arp, [Ipv4Addr::new(10, 0, 0, 1)]);
        assert!(heard.advertised.contains(&"fec0::1".parse().unwrap()));
    });
}

#[test]
fn ipv6_connects() {
    let (one, other) = Cable::new();
    let (client, listening) = (host(one, &fixed("fec0::1/64"), SIZES), host(other, &fixed("fec0::2/64"), SIZES));
    run(async {
        let listener = listening.listen(80).unwrap();
        let to = SocketAddr::new("fec0::2".parse().unwrap(), 80);
        let here = client.connect(to, SOON).await.unwrap();
        let there = listener.accept().await.unwrap();
        assert_eq!(there.peer().ip(), "fec0::1".parse::<IpAddr>().unwrap());
        here.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 10];
        assert_eq!(there.read(&mut bytes).await, Ok(5));
        assert!(matches!(client.connect(server(80), SOON).await, Err(NetError::Unreachable)));
    });
}
