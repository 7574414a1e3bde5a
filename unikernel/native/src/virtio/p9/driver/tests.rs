use super::{EXCHANGES, Errno, QUEUE, Volumes};
use crate::virtio::device::Device;
use crate::virtio::liar::Liar;
use alloc::vec::Vec;
use proptest::prelude::*;

fn device(tag: &[u8]) -> Liar {
    Liar::new(&[&(tag.len() as u16).to_le_bytes()[..], tag].concat())
}

fn volumes(device: &Liar) -> Option<Volumes> {
    let mut volumes = Volumes::default();
    volumes.add(Device::new(device.transport())).ok().map(|()| volumes)
}

#[test]
fn a_tag_is_text_and_lies_in_the_configuration() {
    assert_eq!(volumes(&device(b"data")).unwrap().0[0].0, "data");
    assert!(volumes(&device(b"\xff\xff")).is_none());
    let device = device(b"data");
    device.state().config.truncate(5);
    assert!(volumes(&device).is_none());
}

#[test]
fn a_request_gets_its_answer() {
    let device = device(b"data");
    let volumes = volumes(&device).unwrap();
    let mut state = volumes.0[0].1.state.lock();
    let tag = state.ask(&|tag| vec![1, tag as u8], 8).unwrap().unwrap();
    assert_eq!(state.take(tag), Ok(None));
    assert_eq!(device.answers(QUEUE, b"answer").unwrap(), [1, tag as u8]);
    state.attend();
    assert_eq!(state.take(tag), Ok(Some(b"answer".into())));
}

#[test]
fn a_lie_fails_all_requests() {
    let device = device(b"data");
    let volumes = volumes(&device).unwrap();
    let mut state = volumes.0[0].1.state.lock();
    let tag = state.ask(&|_| vec![1], 8).unwrap().unwrap();
    device.says_used(QUEUE, 0, 9);
    state.attend();
    assert_eq!(state.take(tag), Err(Errno::IO));
    assert_eq!(state.ask(&|_| vec![1], 8), Err(Errno::IO));
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, usize),
    Answer(Vec<u8>),
    Used(u32, u32),
    Index(u16),
    Attend,
    Take(usize),
    Abandon(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..50, 1usize..50).prop_map(|(length, room)| Step::Ask(length, room)),
        4 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Step::Answer),
        1 => (prop_oneof![0u32..40, any::<u32>()], prop_oneof![0u32..60, any::<u32>()])
            .prop_map(|(id, length)| Step::Used(id, length)),
        1 => any::<u16>().prop_map(Step::Index),
        4 => Just(Step::Attend),
        4 => (0..EXCHANGES).prop_map(Step::Take),
        1 => (0..EXCHANGES).prop_map(Step::Abandon),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn whatever_a_device_says_an_answer_is_no_longer_than_its_room(steps in prop::collection::vec(step(), 0..80)) {
        let device = device(b"data");
        let volumes = volumes(&device).unwrap();
        let mut state = volumes.0[0].1.state.lock();
        let mut rooms = [0; EXCHANGES];
        for step in steps {
            match step {
                Step::Ask(length, room) => {
                    if let Ok(Some(tag)) = state.ask(&|_| vec![0; length], room) {
                        rooms[tag] = room;
                    }
                }
                Step::Answer(bytes) => drop(device.answers(QUEUE, &bytes)),
                Step::Used(id, length) => device.says_used(QUEUE, id, length),
                Step::Index(index) => device.says_index(QUEUE, index),
                Step::Attend => state.attend(),
                Step::Take(tag) => {
                    if let Ok(Some(answer)) = state.take(tag) {
                        prop_assert!(answer.len() <= rooms[tag]);
                    }
                }
                Step::Abandon(tag) => state.abandon(tag),
            }
        }
    }
}
