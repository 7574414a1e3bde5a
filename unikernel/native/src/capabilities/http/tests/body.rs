//! Bodies of requests: with a length and in chunks, however they are cut.

use alloc::format;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::capabilities::http::body::{Body, BodyError};
use crate::capabilities::http::meaning::Framing;

const MOST: u64 = 1_000_000;

/// Whether the body is whole, what it is, and how many bytes were its.
type Taken = Result<(bool, Vec<u8>, usize), BodyError>;

fn take<'a>(framing: Framing, most: u64, pieces: impl IntoIterator<Item = &'a [u8]>) -> Taken {
    let mut body = Body::new(framing, most)?;
    let mut count = 0;
    for piece in pieces {
        count += body.take(piece)?;
    }
    Ok((body.is_whole(), body.bytes, count))
}

fn chunks(bytes: &[u8]) -> Taken {
    let whole = take(Framing::Chunked, MOST, [bytes]);
    assert_eq!(whole, take(Framing::Chunked, MOST, bytes.chunks(1)), "{}", bytes.escape_ascii());
    whole
}

#[test]
fn a_body_with_a_length_is_so_many_bytes() {
    assert_eq!(take(Framing::Length(3), MOST, [&b"ab"[..], b"cd"]), Ok((true, b"abc".into(), 3)));
    assert_eq!(take(Framing::Length(3), MOST, [&b"ab"[..]]), Ok((false, b"ab".into(), 2)));
    assert_eq!(take(Framing::Length(0), MOST, [&b"ab"[..]]), Ok((true, b"".into(), 0)));
    assert_eq!(take(Framing::Length(11), 10, []), Err(BodyError::TooLarge));
    assert_eq!(take(Framing::Length(10), 10, []), Ok((false, Vec::new(), 0)));
}

#[test]
fn nothing_is_allocated_for_what_a_client_merely_claims() {
    let body = Body::new(Framing::Length(MOST), MOST).unwrap();
    assert_eq!(body.bytes.capacity(), 0);
    let mut body = Body::new(Framing::Chunked, MOST).unwrap();
    assert_eq!(body.take(b"f0000\r\na"), Ok(8));
    assert!(body.bytes.capacity() < 100);
}

#[test]
fn chunks_are_put_together() {
    for (bytes, content) in [
        (&b"0\r\n\r\n"[..], &b""[..]),
        (b"3\r\nabc\r\n4;x=y\r\n\r\n\r\n\r\n0\r\n\r\n", b"abc\r\n\r\n"),
        (b"5\r\nhello\r\n0006;ext=\"1\"\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n", b"hello world"),
        (b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
        (b"1;a=b;c=\"d \\\"\";e\r\na\r\n0;last\r\n\r\n", b"a"),
    ] {
        assert_eq!(chunks(bytes), Ok((true, content.into(), bytes.len())));
        let followed = [bytes, b"GET"].concat();
        assert_eq!(chunks(&followed), Ok((true, content.into(), bytes.len())));
        for end in 0..bytes.len() {
            assert!(chunks(&bytes[..end]).is_ok_and(|(is_whole, _, count)| !is_whole && count == end));
        }
    }
}

#[test]
fn framing_that_is_broken_is_refused() {
    for bytes in [
        &b"zz\r\n"[..],
        b"\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"0x1\r\n",
        b"3\nabc",
        b"3\rabc",
        b"3\r\nabcdef",
        b"3\r\nabc\n",
        b"3\r\nabc\r\r",
        b"3;a\nb",
        b"3;a\rb",
        b"3;\0\r\n",
        b"3;\r\n",
        b"3;;a\r\n",
        b"3; a\r\n",
        b"3;a b\r\n",
        b"3;a=\r\n",
        b"3;a=\"b\r\n",
        b"3;a=\"b\"c\r\n",
        b"3;\x80\r\n",
        b"0\r\nContent-Length: 5\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n",
        b"fffffffffffffffff\r\n",
        b"10000000000000000\r\n",
        b"0\r\nX\r\n",
        b"0\r\n folded\r\n",
        b"0\r\nX : y\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n\n",
    ] {
        assert_eq!(chunks(bytes), Err(BodyError::Broken), "{}", bytes.escape_ascii());
    }
}

#[test]
fn chunks_are_measured() {
    let ten = b"8\r\n01234567\r\n2\r\n89\r\n0\r\n\r\n";
    assert!(take(Framing::Chunked, 10, [&ten[..]]).is_ok_and(|(is_whole, ..)| is_whole));
    assert_eq!(take(Framing::Chunked, 9, [&ten[..]]), Err(BodyError::TooLarge));
    assert_eq!(take(Framing::Chunked, 10, [&b"ffffffffffffffff\r\n01234567890"[..]]), Err(BodyError::TooLarge));
}

#[test]
fn framing_out_of_proportion_to_the_body_is_refused() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(100_000));
    assert_eq!(chunks(long.as_bytes()), Err(BodyError::Broken));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(100)).repeat(1000));
    assert_eq!(chunks(many.as_bytes()), Err(BodyError::Broken));
    let small = format!("{}0\r\n\r\n", "1\r\na\r\n".repeat(20_000));
    assert!(chunks(small.as_bytes()).is_ok_and(|(is_whole, body, _)| is_whole && body.len() == 20_000));
    let zeros = "0".repeat(70_000);
    assert_eq!(chunks(zeros.as_bytes()), Err(BodyError::Broken));
    let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    assert_eq!(chunks(trailers.as_bytes()), Err(BodyError::Broken));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_put_into_chunks_comes_out(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8)) {
        let mut bytes = Vec::new();
        for part in &parts {
            bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(chunks(&bytes), Ok((true, parts.concat(), bytes.len())));
    }

    #[test]
    fn packets_make_no_difference(pieces in prop::collection::vec(
        prop_oneof![
            4 => prop::sample::select(alloc::vec!["1", "a", "0", "\r\n", "\r", "\n", ";x", "0\r\n\r\n", "2\r\nab\r\n", "X: y\r\n"])
                .prop_map(|text: &str| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ],
        0..12,
    )) {
        let _ = chunks(&pieces.concat()); // which compares it with the same bytes one by one
    }
}
