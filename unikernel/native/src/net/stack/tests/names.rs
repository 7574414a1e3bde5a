//! Names, and servers that know them or not.

use super::neighbour::{ADDRESS, Datagram, Neighbour, neighbour};
use super::*;

/// A name server that knows `known.test` (RFC 1035): 192.0.2.1 and 2001:db8::1, and no other name.
fn name_server(asked: Datagram) -> Option<Datagram> {
    if asked.to != ADDRESS || asked.to_port != 53 {
        return None;
    }
    let question = &asked.payload[12..];
    let end = question.iter().position(|byte| *byte == 0)? + 5;
    let kind = question[end - 3];
    let known = question.starts_with(b"\x05known\x04test\0");
    let address: &[u8] = match (known, kind) {
        (true, 1) => &[192, 0, 2, 1],
        (true, 28) => &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        _ => &[],
    };
    let answers = !address.is_empty();
    // An answer, and either no error or "no such name".
    let mut payload = [&asked.payload[..2], &[0x81, if answers { 0x80 } else { 0x83 }]].concat();
    payload.extend([0, 1, 0, answers.into(), 0, 0, 0, 0]);
    payload.extend(&question[..end]);
    if answers {
        payload.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, address.len() as u8]);
        payload.extend(address);
    }
    Some(Datagram { to: [10, 0, 0, 1].into(), from_port: 53, to_port: asked.from_port, payload })
}

fn machine(script: fn(Datagram) -> Option<Datagram>) -> (Host, Neighbour) {
    let (end, other) = Cable::new();
    let settings = Settings { name_servers: vec![ADDRESS.into()], ..fixed("10.0.0.1/24") };
    let there = neighbour(other, script, None);
    (host(end, &settings, SIZES), there)
}

#[test]
fn a_name_has_addresses_of_both_families() {
    let (machine, _there) = machine(name_server);
    run(async {
        let known: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(machine.resolve("known.test").await, Ok(known.into()));
        assert_eq!(machine.resolve("known.test.").await, Ok(known.into()));
    });
}

#[test]
fn a_name_that_nobody_knows_is_said_so() {
    let (machine, _there) = machine(name_server);
    run(async {
        for name in ["unknown.test", "", ".", "a..b", &"long".repeat(20), &"a.".repeat(200)] {
            assert_eq!(machine.resolve(name).await, Err(NetError::NoSuchName(name.into())), "{name}");
        }
    });
}

#[test]
fn literals_and_localhost_are_not_asked_for() {
    let (machine, _there) = machine(|_| panic!("nobody was to be asked"));
    run(async {
        assert_eq!(machine.resolve("10.1.2.3").await, Ok(vec![[10, 1, 2, 3].into()]));
        assert_eq!(machine.resolve("localhost").await.unwrap().len(), 2);
        let none = machine.resolve("host.localhost").await;
        assert_eq!(none, Err(NetError::NoSuchName("host.localhost".into())), "there is no router");
    });
}

#[test]
fn a_name_server_that_is_silent_is_given_up() {
    let (machine, _there) = machine(|_| None);
    block_on(async {
        let silent = timeout(Duration::from_secs(30), machine.resolve("known.test")).await.expect("it takes too long");
        assert_eq!(silent, Err(NetError::NoNameServer("known.test".into())));
    });
}

#[test]
fn questions_are_taken_back_when_nobody_waits_for_them() {
    let (machine, _there) = machine(|_| None);
    run(async {
        for _ in 0..100 {
            assert!(timeout(Duration::from_millis(1), machine.resolve("known.test")).await.is_err());
        }
    });
}
