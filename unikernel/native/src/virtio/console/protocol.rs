//! The messages by which a console device and its driver agree on ports (Virtio 1.2, section 5.3.6.2).

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of a message before the name that may follow.
pub const HEADER: usize = 8;
/// Bytes of a port's name at most.
pub const NAME: usize = 100;
/// Ports that are looked at; further ones are not answered, and stay closed.
pub const PORTS: usize = 8;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_REMOVE: u16 = 2;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// The driver's first message: it is ready for ports.
pub const READY: [u8; HEADER] = message(0, DEVICE_READY, 1);

const fn message(port: u32, event: u16, value: u16) -> [u8; HEADER] {
    let ([a, b, c, d], [e, f], [g, h]) = (port.to_le_bytes(), event.to_le_bytes(), value.to_le_bytes());
    [a, b, c, d, e, f, g, h]
}

/// What is known of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Whether the device has it.
    pub exists: bool,
    pub name: Option<String>,
    /// Whether somebody has it open at the other end.
    pub open: bool,
    /// Whether somebody had it open and has closed it.
    pub ended: bool,
}

/// What is known of all ports, by their number.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Directory {
    ports: [Port; PORTS],
}

impl Directory {
    pub fn port(&self, number: usize) -> Option<&Port> {
        self.ports.get(number)
    }

    /// The number of the port with a name.
    pub fn number(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.exists && port.name.as_deref() == Some(name))
    }

    /// Takes a message of the device, whatever it holds. Gives the answers to send.
    pub fn take(&mut self, message_bytes: &[u8]) -> Vec<[u8; HEADER]> {
        let Some((header, rest)) = message_bytes.split_first_chunk::<HEADER>() else { return Vec::new() };
        let [a, b, c, d, e, f, g, h] = *header;
        let number = u32::from_le_bytes([a, b, c, d]);
        let (event, value) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
        let Some(port) = usize::try_from(number).ok().and_then(|index| self.ports.get_mut(index)) else {
            return Vec::new();
        };
        match event {
            PORT_ADD if !port.exists => {
                *port = Port { exists: true, ..Port::default() };
                // Ready for what the device wants to say of it, and open at our end.
                [message(number, PORT_READY, 1), message(number, PORT_OPEN, 1)].into()
            }
            PORT_REMOVE => {
                *port = Port { ended: true, ..Port::default() };
                Vec::new()
            }
            PORT_OPEN if port.exists => {
                port.ended |= port.open && value == 0;
                port.open = value != 0;
                Vec::new()
            }
            PORT_NAME if port.exists => {
                // Some devices end it with a null byte.
                let name = rest.strip_suffix(&[0]).unwrap_or(rest);
                port.name = core::str::from_utf8(name).ok().filter(|name| name.len() <= NAME).map(String::from);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &[u8]) -> Vec<u8> {
        [&message(1, PORT_NAME, 1)[..], name].concat()
    }

    #[test]
    fn a_port_is_answered_and_gets_its_name() {
        let mut directory = Directory::default();
        let answers = directory.take(&message(1, PORT_ADD, 1));
        assert_eq!(answers, [message(1, PORT_READY, 1), message(1, PORT_OPEN, 1)]);
        assert!(directory.take(&named(b"slight.control\0")).is_empty());
        assert_eq!(directory.number("slight.control"), Some(1));
        assert_eq!(directory.number("slight.stdin"), None);
    }

    #[test]
    fn a_port_ends_when_the_other_side_closes_it() {
        let mut directory = Directory::default();
        directory.take(&message(1, PORT_ADD, 1));
        assert!(!directory.port(1).unwrap().ended);
        directory.take(&message(1, PORT_OPEN, 0));
        assert!(!directory.port(1).unwrap().ended, "nobody had it open");
        directory.take(&message(1, PORT_OPEN, 1));
        directory.take(&message(1, PORT_OPEN, 0));
        assert!(directory.port(1).unwrap().ended);
    }

    #[test]
    fn a_port_that_is_removed_has_ended() {
        let mut directory = Directory::default();
        directory.take(&message(1, PORT_ADD, 1));
        directory.take(&named(b"slight.stdin"));
        directory.take(&message(1, PORT_REMOVE, 0));
        assert!(directory.port(1).unwrap().ended);
        assert_eq!(directory.number("slight.stdin"), None);
    }

    #[test]
    fn messages_of_ports_that_are_not_there_change_nothing() {
        let mut directory = Directory::default();
        directory.take(&named(b"slight.control"));
        directory.take(&message(1, PORT_OPEN, 1));
        for number in [PORTS as u32, u32::MAX] {
            assert!(directory.take(&message(number, PORT_ADD, 1)).is_empty());
        }
        assert_eq!(directory, Directory::default());
    }

    #[test]
    fn a_name_that_is_no_text_or_too_long_is_none() {
        let mut directory = Directory::default();
        directory.take(&message(1, PORT_ADD, 1));
        for name in [&[0xff; 4][..], &[b'a'; NAME + 1]] {
            directory.take(&named(name));
            assert_eq!(directory.port(1).unwrap().name, None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(
            messages in prop::collection::vec((any::<u8>(), 0u16..9, 0u16..3, prop::collection::vec(any::<u8>(), 0..120)), 0..60),
            cut in 0usize..12,
        ) {
            let mut directory = Directory::default();
            for (number, event, value, name) in messages {
                let bytes = [&message(number.into(), event, value)[..], &name].concat();
                let answers = directory.take(&bytes[..bytes.len().saturating_sub(cut)]);
                prop_assert!(answers.len() <= 2);
            }
        }
    }
}
