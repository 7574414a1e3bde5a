use super::{CHUNK, CONTROL_RECEIVE, CONTROL_SEND, State, receive_queue, send_queue};
use crate::virtio::console::protocol::{HEADER, NAME, PORTS, READY};
use crate::virtio::device::Device;
use crate::virtio::liar::Liar;
use alloc::vec::Vec;
use proptest::prelude::*;

const PORT_ADD: u16 = 1;
const PORT_OPEN: u16 = 6;

/// A device that says it has so many ports.
fn device(ports: u32) -> Liar {
    Liar::new(&[&[0; 4], &ports.to_le_bytes()[..]].concat())
}

fn console(device: &Liar) -> State {
    State::new(Device::new(device.transport())).unwrap()
}

fn message(port: u32, event: u16, value: u16) -> [u8; HEADER] {
    let mut message = [0; HEADER];
    message[..4].copy_from_slice(&port.to_le_bytes());
    message[4..6].copy_from_slice(&event.to_le_bytes());
    message[6..].copy_from_slice(&value.to_le_bytes());
    message
}

/// A console whose port 1 was asked for, and is open at both ends.
fn open() -> (Liar, State) {
    let device = device(2);
    let mut console = console(&device);
    for event in [PORT_ADD, PORT_OPEN] {
        device.answers(CONTROL_RECEIVE, &message(1, event, 1)).unwrap();
    }
    console.attend();
    console.lend(1);
    (device, console)
}

#[test]
fn a_device_has_buffers_for_what_ports_receive_that_were_asked_for() {
    let (device, _console) = open();
    assert!(device.answers(receive_queue(0), b"hello").is_none());
    assert!(device.answers(receive_queue(1), b"hello").is_some());
}

#[test]
fn what_a_device_sends_is_read_and_what_is_written_it_gets() {
    let (device, mut console) = open();
    assert_eq!(device.answers(CONTROL_SEND, &[]).unwrap(), READY);
    let mut into = [0; 3];
    assert_eq!(console.read(1, &mut into), None);
    device.answers(receive_queue(1), b"hello").unwrap();
    assert_eq!((console.read(1, &mut into), into), (Some(3), *b"hel"));
    assert_eq!((console.read(1, &mut into), &into[..2]), (Some(2), &b"lo"[..]));
    assert_eq!(console.write(1, b"answer"), Some(6));
    assert!(!console.sent(1));
    assert_eq!(device.answers(send_queue(1), &[]).unwrap(), b"answer");
    assert!(console.sent(1));
}

#[test]
fn what_follows_an_empty_buffer_is_read_without_another_interrupt() {
    let (device, mut console) = open();
    device.answers(receive_queue(1), b"").unwrap();
    device.answers(receive_queue(1), b"hello").unwrap();
    assert_eq!(console.read(1, &mut [0; 8]), Some(5));
}

#[test]
fn a_lie_ends_all_ports() {
    for queue in [CONTROL_RECEIVE, receive_queue(1), send_queue(1)] {
        let (device, mut console) = open();
        assert!(!console.ended(1));
        device.says_used(queue, 1000, 0);
        console.attend();
        console.read(1, &mut [0; 8]);
        console.write(1, b"answer");
        assert!(console.ended(1));
        assert_eq!(console.read(1, &mut [0; 8]), Some(0));
        assert_eq!(console.write(1, b"answer"), Some(6));
        assert!(console.sent(1));
    }
}

#[test]
fn a_device_without_ports_configuration_or_queues_is_none() {
    let without = |change: fn(&Liar)| {
        let device = device(2);
        change(&device);
        State::new(Device::new(device.transport())).is_err()
    };
    assert!(!without(|_| {}));
    assert!(without(|device| device.state().features = 1 << 32));
    assert!(without(|device| device.state().config.truncate(7)));
    assert!(without(|device| device.state().largest = 0));
}

#[derive(Clone, Debug)]
enum Step {
    Answer(u16, Vec<u8>),
    Used(u16, u32, u32),
    Index(u16, u16),
    Scribble(u16, u16, u16),
    Attend,
    Read(usize, usize),
    Write(usize, usize),
    Sent(usize),
}

/// A message about ports, most of which is well formed.
fn control() -> impl Strategy<Value = Vec<u8>> {
    let header = (prop_oneof![0u32..4, any::<u32>()], 0u16..9, 0u16..3);
    (header, prop::collection::vec(any::<u8>(), 0..NAME + 20), 0usize..10).prop_map(
        |((port, event, value), name, cut)| {
            let mut message = [&message(port, event, value)[..], &name].concat();
            message.truncate(message.len().saturating_sub(cut));
            message
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let queue = || 0u16..10;
    let port = || 0..PORTS + 2;
    prop_oneof![
        6 => control().prop_map(|message| Step::Answer(CONTROL_RECEIVE, message)),
        6 => (queue(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(queue, bytes)| Step::Answer(queue, bytes)),
        1 => (queue(), prop_oneof![0u32..40, any::<u32>()], prop_oneof![0u32..200, any::<u32>()])
            .prop_map(|(queue, id, length)| Step::Used(queue, id, length)),
        1 => (queue(), any::<u16>()).prop_map(|(queue, index)| Step::Index(queue, index)),
        1 => (queue(), any::<u16>(), any::<u16>()).prop_map(|(queue, at, value)| Step::Scribble(queue, at, value)),
        4 => Just(Step::Attend),
        4 => (port(), 0usize..200).prop_map(|(port, length)| Step::Read(port, length)),
        4 => (port(), 0usize..2 * CHUNK).prop_map(|(port, length)| Step::Write(port, length)),
        2 => port().prop_map(Step::Sent),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_a_device_says_ports_read_and_write_no_more_than_they_are_to(
        ports in prop_oneof![0u32..4, any::<u32>()],
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let device = device(ports);
        let mut console = console(&device);
        (0..PORTS + 2).for_each(|port| console.lend(port));
        for step in steps {
            match step {
                Step::Answer(queue, bytes) => drop(device.answers(queue, &bytes)),
                Step::Used(queue, id, length) => device.says_used(queue, id, length),
                Step::Index(queue, index) => device.says_index(queue, index),
                Step::Scribble(queue, at, value) => device.scribbles(queue, at, value),
                Step::Attend => console.attend(),
                Step::Read(port, length) => {
                    let read = console.read(port, &mut vec![0; length]);
                    prop_assert!(read.is_none_or(|read| read <= length));
                }
                Step::Write(port, length) => {
                    let written = console.write(port, &vec![0; length]);
                    prop_assert!(written.is_none_or(|written| written <= length));
                }
                Step::Sent(port) => drop(console.sent(port)),
            }
        }
    }
}
