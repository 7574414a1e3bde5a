//! A command as it goes to Redis: an array of bulk strings of RESP2.

use alloc::format;
use alloc::vec::Vec;

/// The bytes of a command. A long value stays where it is, and is not copied into the rest.
pub struct Command {
    /// Everything, or all that goes before the value.
    pub head: Vec<u8>,
    /// What follows, with a line end behind it.
    pub value: Option<Vec<u8>>,
}

impl Command {
    pub fn new(parts: &[&[u8]]) -> Command {
        Command { head: encoded(parts, parts.len()), value: None }
    }

    /// A command whose last part is a value.
    pub fn with_value(parts: &[&[u8]], value: Vec<u8>) -> Command {
        let mut head = encoded(parts, parts.len() + 1);
        head.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
        Command { head, value: Some(value) }
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.value.as_ref().map_or(0, |value| value.len() + 2)
    }
}

fn encoded(parts: &[&[u8]], count: usize) -> Vec<u8> {
    let mut bytes = format!("*{count}\r\n").into_bytes();
    for part in parts {
        bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
