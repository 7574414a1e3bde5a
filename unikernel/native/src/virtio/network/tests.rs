use super::{Card, RECEIVE, SEND};
use crate::net::stack::{FRAME, Link};
use crate::virtio::device::Device;
use crate::virtio::liar::Liar;
use alloc::vec::Vec;
use proptest::prelude::*;

const HEADER: usize = 12;
const MAC: [u8; 6] = [2, 3, 4, 5, 6, 7];

fn card() -> (Liar, Card) {
    let device = Liar::new(&MAC);
    let card = Card::new(Device::new(device.transport())).unwrap();
    (device, card)
}

fn arrives(frame: &[u8]) -> Vec<u8> {
    [&[0; HEADER], frame].concat()
}

#[test]
fn frames_come_and_go() {
    let (device, mut card) = card();
    assert_eq!(card.mac(), MAC);
    device.answers(RECEIVE, &arrives(b"what arrives")).unwrap();
    let frame = card.receive().unwrap();
    assert_eq!(frame.bytes(), b"what arrives");
    card.recycle(frame);
    assert!(card.can_send());
    let mut frame = card.prepare(4);
    frame.bytes_mut().copy_from_slice(b"goes");
    card.send(frame);
    assert_eq!(device.answers(SEND, &[]).unwrap()[HEADER..], *b"goes");
}

#[test]
fn an_address_that_no_card_can_have_is_replaced() {
    let device = Liar::new(&[0xff; 6]);
    let card = Card::new(Device::new(device.transport())).unwrap();
    assert_eq!(card.mac()[0] & 3, 2);
}

#[test]
fn what_is_shorter_than_a_header_is_an_empty_frame() {
    let (device, mut card) = card();
    device.answers(RECEIVE, &[1, 2, 3]).unwrap();
    assert!(card.receive().unwrap().bytes().is_empty());
}

#[test]
fn a_card_that_lies_is_silent_and_takes_all() {
    for queue in [RECEIVE, SEND] {
        let (device, mut card) = card();
        device.says_used(queue, 1000, 0);
        while !card.broken {
            assert!(card.receive().is_none() && card.can_send());
            let frame = card.prepare(100);
            card.send(frame);
        }
        device.answers(RECEIVE, &arrives(b"more"));
        assert!(card.receive().is_none() && card.can_send() && !card.flush());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Answer(u16, Vec<u8>),
    Used(u16, u32, u32),
    Index(u16, u16),
    Receive,
    Recycle,
    Send(usize),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u16..2, prop::collection::vec(any::<u8>(), 0..1600)).prop_map(|(queue, bytes)| Step::Answer(queue, bytes)),
        1 => (0u16..2, prop_oneof![0u32..70, any::<u32>()], prop_oneof![0u32..1700, any::<u32>()])
            .prop_map(|(queue, id, length)| Step::Used(queue, id, length)),
        1 => (0u16..2, any::<u16>()).prop_map(|(queue, index)| Step::Index(queue, index)),
        4 => Just(Step::Receive),
        3 => Just(Step::Recycle),
        4 => (0usize..2000).prop_map(Step::Send),
        2 => Just(Step::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_a_device_says_frames_are_no_longer_than_they_can_be(steps in prop::collection::vec(step(), 0..100)) {
        let (device, mut card) = card();
        let mut kept = Vec::new();
        for step in steps {
            match step {
                Step::Answer(queue, bytes) => drop(device.answers(queue, &bytes)),
                Step::Used(queue, id, length) => device.says_used(queue, id, length),
                Step::Index(queue, index) => device.says_index(queue, index),
                Step::Receive => kept.extend(card.receive()),
                Step::Recycle => kept.pop().into_iter().for_each(|frame| card.recycle(frame)),
                Step::Send(length) if card.can_send() => {
                    let frame = card.prepare(length);
                    prop_assert!(frame.bytes().len() <= FRAME);
                    card.send(frame);
                }
                Step::Send(_) => {}
                Step::Flush => drop(card.flush()),
            }
            prop_assert!(kept.iter().all(|frame| frame.bytes().len() <= FRAME));
        }
    }
}
