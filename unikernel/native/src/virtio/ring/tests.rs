use super::{Broken, Buffers, Ring};
use crate::virtio::liar::Liar;
use alloc::boxed::Box;
use alloc::vec::Vec;
use proptest::prelude::*;
use std::collections::HashSet;

const SIZE: usize = 8;

fn ring(device: &Liar) -> Ring<SIZE> {
    Ring::new(&mut device.transport(), 0, false).unwrap()
}

fn buffers(reads: usize, writes: usize) -> Buffers {
    let made = |length: usize| -> Option<Box<[u8]>> { (length > 0).then(|| vec![7; length].into()) };
    Buffers { reads: made(reads).map(|buffer| (buffer, 0..reads)), writes: made(writes) }
}

#[test]
fn a_device_that_answers_as_it_should_gets_and_gives_what_is_in_the_buffers() {
    for legacy in [false, true] {
        let device = Liar::new(&[]);
        device.state().legacy = legacy;
        let mut ring = ring(&device);
        for _ in 0..3 * SIZE {
            assert!(ring.add(buffers(2, 4)).is_ok());
            assert_eq!(device.answers(0, b"abc"), Some(vec![7, 7]));
            let (buffers, length) = ring.take().unwrap().unwrap();
            assert_eq!((&buffers.writes.unwrap()[..], length), (&b"abc\x07"[..], 3));
        }
        assert!(ring.take().unwrap().is_none());
    }
}

#[test]
fn a_queue_that_is_too_small_is_none() {
    let device = Liar::new(&[]);
    device.state().largest = SIZE as u32 - 1;
    assert!(matches!(Ring::<SIZE>::new(&mut device.transport(), 0, false), Err(Broken)));
}

#[test]
fn an_exchange_that_there_is_not_breaks_the_ring() {
    for id in [1, SIZE as u32, u32::MAX] {
        let device = Liar::new(&[]);
        let mut ring = ring(&device);
        assert!(ring.add(buffers(0, 4)).is_ok());
        device.says_used(0, id, 0);
        assert!(matches!(ring.take(), Err(Broken)), "{id}");
    }
}

#[test]
fn an_exchange_that_was_given_back_is_not_given_back_again() {
    let device = Liar::new(&[]);
    let mut ring = ring(&device);
    assert!(ring.add(buffers(0, 4)).is_ok());
    device.says_used(0, 0, 1);
    device.says_used(0, 0, 1);
    assert!(ring.take().unwrap().is_some());
    assert!(matches!(ring.take(), Err(Broken)));
}

#[test]
fn more_bytes_than_there_is_room_for_break_the_ring() {
    for (length, fits) in [(4, true), (5, false), (u32::MAX, false)] {
        let device = Liar::new(&[]);
        let mut ring = ring(&device);
        assert!(ring.add(buffers(1, 4)).is_ok());
        device.says_used(0, 0, length);
        assert_eq!(ring.take().is_ok(), fits, "{length}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize, usize),
    Answer(Vec<u8>),
    Used(u32, u32),
    Index(u16),
    Flags(u16),
    Scribble(u16, u16),
    Take,
    Interrupts(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..5, 0usize..5).prop_map(|(reads, writes)| Step::Add(reads, writes)),
        4 => prop::collection::vec(any::<u8>(), 0..6).prop_map(Step::Answer),
        2 => (prop_oneof![0..SIZE as u32 + 2, any::<u32>()], prop_oneof![0u32..6, any::<u32>()])
            .prop_map(|(id, length)| Step::Used(id, length)),
        1 => any::<u16>().prop_map(Step::Index),
        1 => any::<u16>().prop_map(Step::Flags),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(number, value)| Step::Scribble(number, value)),
        4 => Just(Step::Take),
        1 => any::<bool>().prop_map(Step::Interrupts),
    ]
}

/// Where the buffers are, by which they are known.
fn places(buffers: &Buffers) -> (usize, usize) {
    let reads = buffers.reads.as_ref().map_or(0, |(buffer, _)| buffer.as_ptr() as usize);
    (reads, buffers.writes.as_ref().map_or(0, |buffer| buffer.as_ptr() as usize))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_the_device_says_it_gives_back_what_it_got_and_once(
        steps in prop::collection::vec(step(), 0..60),
        legacy: bool,
    ) {
        let device = Liar::new(&[]);
        device.state().legacy = legacy;
        let mut ring = ring(&device);
        let mut lent = HashSet::new();
        for step in steps {
            match step {
                Step::Add(reads, writes) => {
                    let buffers = buffers(reads, writes);
                    let (places, room) = (places(&buffers), ring.has_room(2));
                    match ring.add(buffers) {
                        Ok(()) => prop_assert!(lent.insert(places)),
                        Err(_) => prop_assert!(!room || reads + writes == 0),
                    }
                }
                Step::Answer(bytes) => drop(device.answers(0, &bytes)),
                Step::Used(id, length) => device.says_used(0, id, length),
                Step::Index(index) => device.says_index(0, index),
                Step::Flags(flags) => device.says_flags(0, flags),
                Step::Scribble(number, value) => device.scribbles(0, number, value),
                Step::Interrupts(wanted) => ring.set_interrupts(wanted),
                Step::Take => match ring.take() {
                    Ok(Some((buffers, length))) => {
                        prop_assert!(lent.remove(&places(&buffers)));
                        prop_assert!(length <= buffers.writes.map_or(0, |buffer| buffer.len()));
                    }
                    Ok(None) => prop_assert!(!ring.has_used()),
                    Err(Broken) => return Ok(()),
                },
            }
            ring.take_pending();
        }
    }
}
