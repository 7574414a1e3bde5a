use super::*;
use alloc::format;
use alloc::vec;
use proptest::prelude::*;

/// What an inbox makes of bytes that come in pieces of the given lengths.
fn received(bytes: &[u8], pieces: &[usize]) -> (Vec<Answer>, Option<Fault>) {
    let mut inbox = Inbox::default();
    let mut answers = Vec::new();
    let mut rest = bytes;
    let mut lengths = pieces.iter().copied().cycle();
    loop {
        match inbox.next() {
            Ok(Some(answer)) => answers.push(answer),
            Err(fault) => return (answers, Some(fault)),
            Ok(None) if rest.is_empty() => return (answers, None),
            Ok(None) => {
                let room = inbox.room().unwrap();
                let length = room.len();
                let piece = lengths.next().unwrap_or(1).clamp(1, length).min(rest.len());
                room[..piece].copy_from_slice(&rest[..piece]);
                rest = &rest[piece..];
                inbox.unused(length - piece);
            }
        }
    }
}

fn whole(bytes: &[u8]) -> (Vec<Answer>, Option<Fault>) {
    received(bytes, &[usize::MAX])
}

fn value(bytes: &[u8]) -> Answer {
    Answer::Value(bytes.to_vec())
}

#[test]
fn answers_of_every_kind_are_understood() {
    let bytes = b"+OK\r\n:-42\r\n$0\r\n\r\n$-1\r\n*-1\r\n-ERR no\r\n$4\r\n\r\n\xff\0\r\n*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$-1\r\n*0\r\n";
    let expected = vec![
        Answer::Status(b"OK".to_vec()),
        Answer::Number(-42),
        value(b""),
        Answer::Nothing,
        Answer::Nothing,
        Answer::Error("ERR no".into()),
        value(b"\r\n\xff\0"),
        Answer::List(vec![value(b"0"), Answer::List(vec![value(b"a"), Answer::Nothing])]),
        Answer::List(vec![]),
    ];
    assert_eq!(whole(bytes), (expected.clone(), None));
    assert_eq!(received(bytes, &[1]), (expected, None));
}

#[test]
fn a_long_value_comes_byte_for_byte_and_leaves_what_follows() {
    let long: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let bytes = [b":1\r\n$3000000\r\n", long.as_slice(), b"\r\n+OK\r\n"].concat();
    let expected = (vec![Answer::Number(1), Answer::Value(long), Answer::Status(b"OK".to_vec())], None);
    assert_eq!(whole(&bytes), expected);
    assert_eq!(received(&bytes, &[1000, 1, 70_000]), expected);
}

#[test]
fn a_value_past_the_limit_is_passed_over() {
    let length = VALUE_LIMIT + 1;
    let mut bytes = format!("${length}\r\n").into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes.extend_from_slice(b"\r\n:1\r\n");
    assert_eq!(whole(&bytes), (vec![Answer::TooLong(length), Answer::Number(1)], None));
}

#[test]
fn a_value_of_a_length_that_is_a_lie_takes_no_memory() {
    let mut inbox = Inbox::default();
    let header = b"$999999999999999\r\nx";
    inbox.room().unwrap()[..header.len()].copy_from_slice(header);
    inbox.unused(CHUNK - header.len());
    assert_eq!(inbox.next(), Ok(None));
    for _ in 0..1000 {
        inbox.room().unwrap();
        assert_eq!(inbox.next(), Ok(None));
    }
    assert!(inbox.buffer.capacity() <= 3 * LONGEST_CHUNK, "{}", inbox.buffer.capacity());
}

#[test]
fn what_is_no_redis_is_found_out() {
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
        b"*x\r\n",
        b"$\r\n",
        b"\r\n",
        b"$-2\r\n",
        b"$+1\r\n",
        b"$1\r\nxyz",
        b"*1\r\n$1\r\nxyz\r\n",
        b":\r\n",
        b":1x\r\n",
        b"$9999999999999999\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        &[b'+'; LINE_LIMIT],
    ] {
        assert_eq!(whole(bytes), (vec![], Some(Fault::NotRedis)), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_list_that_is_too_long_is_refused_before_it_comes() {
    assert_eq!(whole(b"*2\r\n$1\r\n0\r\n*100000000\r\n"), (vec![], Some(Fault::TooLong)));
    assert_eq!(whole(b"*2\r\n$1\r\n0\r\n*1\r\n$70000000\r\n"), (vec![], Some(Fault::TooLong)));
    let many = [b"*2000000\r\n".as_slice(), &b"$40\r\n0123456789012345678901234567890123456789\r\n".repeat(1_000_000)]
        .concat();
    assert_eq!(whole(&many), (vec![], Some(Fault::TooLong)));
}

/// The bytes of an answer, for those that stand for one kind alone.
fn encoded(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Nothing => b"$-1\r\n".to_vec(),
        Answer::Status(text) => [b"+", text.as_slice(), b"\r\n"].concat(),
        Answer::Number(number) => format!(":{number}\r\n").into_bytes(),
        Answer::Value(bytes) => [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
        Answer::Error(text) => format!("-{text}\r\n").into_bytes(),
        Answer::List(parts) => parts
            .iter()
            .fold(format!("*{}\r\n", parts.len()).into_bytes(), |bytes, part| [bytes, encoded(part)].concat()),
        Answer::TooLong(_) | Answer::NoMemory(_) => unreachable!("no server answers so"),
    }
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let leaf = prop_oneof![
        Just(Answer::Nothing),
        any::<i64>().prop_map(Answer::Number),
        "[ -~]{0,20}".prop_map(|text| Answer::Status(text.into_bytes())),
        "[ -~]{0,20}".prop_map(Answer::Error),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(Answer::Value),
    ];
    leaf.prop_recursive(3, 30, 10, |inner| prop::collection::vec(inner, 0..10).prop_map(Answer::List))
}

/// Bytes that look like answers, more or less.
fn almost_answers() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"*".to_vec()),
        Just(b"$".to_vec()),
        Just(b"-1\r\n".to_vec()),
        (0..20_u32).prop_map(|number| format!("{number}\r\n").into_bytes()),
        any_answer().prop_map(|answer| encoded(&answer)),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_a_redis_answers_is_understood_in_any_pieces(
        answers in prop::collection::vec(any_answer(), 0..10),
        pieces in prop::collection::vec(1..50_usize, 1..10),
    ) {
        let bytes: Vec<u8> = answers.iter().flat_map(encoded).collect();
        prop_assert_eq!(received(&bytes, &pieces), (answers, None));
    }

    #[test]
    fn any_bytes_come_to_an_end_and_to_the_same_in_any_pieces(
        bytes in prop_oneof![almost_answers(), prop::collection::vec(any::<u8>(), 0..300)],
        pieces in prop::collection::vec(1..50_usize, 1..10),
    ) {
        prop_assert_eq!(received(&bytes, &pieces), whole(&bytes));
    }
}
