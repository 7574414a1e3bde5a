//! Heads of requests: which are understood, which are refused, and that packets make no difference. The cases are those
//! of tests/capabilities/test_http_parsing.py and test_http_limits.py.

use alloc::format;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::capabilities::http::head::{Head, HeadReader, Malformed, Progress};
use crate::capabilities::http::meaning::{Expects, Framing};
use crate::capabilities::http::target::{authority, path_and_query};

/// Reads a head from bytes that come in these pieces; gives how many bytes of them belong to it.
fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Result<(Head, usize), Malformed>> {
    let mut reader = HeadReader::default();
    let mut bytes = Vec::new();
    let mut forgotten = 0;
    for piece in pieces {
        bytes.extend_from_slice(piece);
        match reader.read(&bytes) {
            Progress::More => {
                let count = reader.forget_empty_lines();
                bytes.drain(..count);
                forgotten += count;
            }
            Progress::Complete(head, length) => return Some(Ok((head, forgotten + length))),
            Progress::Malformed(malformed) => return Some(Err(malformed)),
            Progress::NoRoom => panic!("no memory"),
        }
    }
    None
}

/// What a head that came at once, and one that came byte by byte, is.
fn read(bytes: &[u8]) -> Option<Result<Head, Malformed>> {
    let whole = read_pieces([bytes]);
    let cut = read_pieces(bytes.chunks(1));
    assert_eq!(format!("{whole:?}"), format!("{cut:?}"), "{}", bytes.escape_ascii());
    whole.map(|read| read.map(|(head, _)| head))
}

fn understood(bytes: &[u8]) -> Head {
    match read(bytes) {
        Some(Ok(head)) => head,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n";

fn with(headers: &str) -> Vec<u8> {
    format!("{GET}{headers}\r\n\r\n").into_bytes()
}

#[test]
fn a_head_is_its_lines_and_nothing_behind_them() {
    let bytes = b"\r\n\n\r\nPUT /a?b HTTP/1.0\r\nX-B:  1 \r\nx-A:\t2\r\nEmpty:\r\n\r\nPUT";
    let (head, length) = read_pieces([&bytes[..]]).unwrap().unwrap();
    assert_eq!(length, bytes.len() - 3);
    assert_eq!((head.method(), head.target(), head.is_http_11), ("PUT", &b"/a?b"[..], false));
    let fields: Vec<_> = head.fields().collect();
    assert_eq!(fields, [("X-B", &b"1"[..]), ("x-A", b"2"), ("Empty", b"")]);
    assert_eq!(head.field("x-b"), Some(&b"1"[..]));
    assert_eq!(head.field("y"), None);
}

#[test]
fn the_beginning_of_a_head_is_waited_for() {
    let bytes = with("X: y");
    for end in 0..bytes.len() {
        assert!(read_pieces([&bytes[..end]]).is_none(), "{end}");
    }
    assert!(read(&bytes).is_some());
}

#[test]
fn what_two_servers_could_read_in_two_ways_is_refused() {
    for headers in [
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -1",
        "Content-Length: 0x3",
        "Content-Length:",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: , chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding:",
        "X: a\r\n folded: b",
        "X: a\r\n\tfolded",
        "X: a\0b",
        "X: a\rb",
        "X: a\r",
        "X: a\x7fb",
        "X: a\nY: b",
        "X y: a",
        ": a",
        "Bad header",
        "\u{e9}: a",
        "Host: a",
        "User-Agent: a\r\nuser-agent: b",
    ] {
        assert!(matches!(read(&with(headers)), Some(Err(Malformed::BadRequest))), "{headers:?}");
    }
}

#[test]
fn a_request_line_has_one_form() {
    for line in [
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        " GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\r\n",
        "GET a\r\n",
        "GET /\rX",
        "GET\r\n",
        "\r\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET /\0 HTTP/1.1\r\n",
        "GET /\t HTTP/1.1\r\n",
        "GET a HTTP/1.1\r\n",
        "GET a:b HTTP/1.1\r\n",
        "GET *a HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n",
        "GET /café HTTP/1.1\r\n",
        "GET http://h#fragment HTTP/1.1\r\n",
        "GET http:// HTTP/1.1\r\n",
        "GET http://a\"b/ HTTP/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        "GET / HTTPS/1.1\r\n",
        "GET / HTTP/1\r\n",
        "GET / HTTP/1.11\r\n",
        "GET / http/1.1\r\n",
        "no request\r\n",
        "\x16\x03\x01\x02",
    ] {
        assert!(matches!(read(line.as_bytes()), Some(Err(Malformed::BadRequest))), "{line:?}");
    }
    assert!(matches!(read(b"GET /\xff\xfe HTTP/1.1\r\n"), Some(Err(Malformed::BadRequest))));
    assert!(matches!(read(b"GET /\r\n"), Some(Err(Malformed::UnknownVersion))));
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "HTTP/0.9"] {
        let line = format!("GET / {version}\r\n");
        assert!(matches!(read(line.as_bytes()), Some(Err(Malformed::UnknownVersion))), "{version}");
    }
}

#[test]
fn http_1_1_needs_a_host() {
    assert!(matches!(read(b"GET / HTTP/1.1\r\n\r\n"), Some(Err(Malformed::BadRequest))));
    assert!(understood(b"GET / HTTP/1.0\r\n\r\n").meaning.host_is_valid);
    for (host, is_valid) in [
        ("", true),
        ("a", true),
        ("a:", true),
        ("[::1]:8080", true),
        ("[v1.a:b]", true),
        ("xn--a.example_1:80", true),
        ("a%20b", true),
        ("a b", false),
        ("a/b", false),
        ("a@b", false),
        ("a:b", false),
        ("a%2", false),
        ("[::1", false),
        ("::1", false),
        ("[]", false),
        ("é", false),
        (&"a".repeat(1000), false),
    ] {
        let head = understood(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(head.meaning.host_is_valid, is_valid, "{host:?}");
    }
}

#[test]
fn long_lines_and_many_headers_are_refused() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1)).into_bytes();
    assert!(matches!(read(&target(8191)), Some(Err(Malformed::TargetTooLong))));
    assert_eq!(understood(&target(8190)).target().len(), 8190);
    // Name and value have 8,190 bytes together, and 8,191.
    understood(&with(&format!("X: {}", "a".repeat(8189))));
    assert!(matches!(read(&with(&format!("X: {}", "a".repeat(8190)))), Some(Err(Malformed::HeaderTooLong))));
    assert!(matches!(read(&with(&format!("{}: x", "a".repeat(9000)))), Some(Err(Malformed::HeaderTooLong))));
    // Host is one of them.
    assert_eq!(understood(&with(&["X: a"; 127].join("\r\n"))).fields().len(), 128);
    assert!(matches!(read(&with(&["X: a"; 128].join("\r\n"))), Some(Err(Malformed::BadRequest))));
    // What never ends is refused as well.
    assert!(matches!(read(&[b'A'; 2000]), Some(Err(Malformed::BadRequest))));
    assert!(matches!(read(&[&b"GET /"[..], &[b'a'; 9000]].concat()), Some(Err(Malformed::TargetTooLong))));
    assert!(matches!(read(&[GET.as_bytes(), &[b'a'; 9000]].concat()), Some(Err(Malformed::HeaderTooLong))));
}

#[test]
fn headers_say_where_the_body_ends_and_what_becomes_of_the_connection() {
    for (headers, framing) in [
        ("X: y", Framing::Length(0)),
        ("Content-Length: 12", Framing::Length(12)),
        (&format!("Content-Length: {}3", "0".repeat(5000)), Framing::Length(3)),
        ("Content-Length: 18446744073709551615", Framing::Length(u64::MAX)),
        ("Transfer-Encoding: Chunked", Framing::Chunked),
        ("Transfer-Encoding: gzip, chunked", Framing::Encoded),
    ] {
        assert_eq!(understood(&with(headers)).framing(), framing, "{headers}");
    }
    for (version, headers, keep_alive) in [
        ("1.1", "X: y", true),
        ("1.1", "Connection: close", false),
        ("1.1", "Connection: X-Hop, CLOSE", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close", false),
        ("1.1", "Connection: closed", true),
        ("1.0", "X: y", false),
        ("1.0", "Connection: Keep-Alive", true),
        ("1.0", "Connection: keep-alive, close", false),
        ("1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked", false),
    ] {
        let head = understood(format!("GET / HTTP/{version}\r\nHost: a\r\n{headers}\r\n\r\n").as_bytes());
        assert_eq!(head.meaning.keep_alive, keep_alive, "{version} {headers}");
    }
    for (version, value, expects) in [
        ("1.1", "100-Continue", Expects::Continue),
        ("1.1", "a-pony", Expects::SomethingElse),
        ("1.0", "100-continue", Expects::Nothing),
        ("1.0", "a-pony", Expects::Nothing),
    ] {
        let head = understood(format!("GET / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\n\r\n").as_bytes());
        assert_eq!(head.meaning.expects, expects, "{version} {value}");
    }
}

#[test]
fn a_target_is_reduced_to_path_and_query() {
    for (target, uri, host) in [
        ("/a?b", "/a?b", None),
        ("http://user@example.org:81/path?q", "/path?q", Some("example.org:81")),
        ("http://other:8080/a/b?c", "/a/b?c", Some("other:8080")),
        ("http://other", "/", Some("other")),
        ("HTTP://other?q=/x", "/?q=/x", Some("other")),
        ("/a#fragment", "/a", None),
        ("/a?b#fragment", "/a?b", None),
        ("//a//b", "//a//b", None),
        ("/a%2Fb%00", "/a%2Fb%00", None),
    ] {
        let head = understood(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(path_and_query(head.target()).as_deref(), Some(uri));
        assert_eq!(authority(head.target()), host);
    }
}

/// Cuts bytes at these places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.push(bytes.len());
    places.sort_unstable();
    let mut start = 0;
    places.into_iter().map(|end| &bytes[core::mem::replace(&mut start, end)..end]).collect()
}

/// Bytes that are nearly a head: pieces of heads with a few bytes changed.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(alloc::vec![
        "GET / HTTP/1.1\r\n",
        "POST http://a/b HTTP/1.0\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "X: y\r\n",
        "\r\n",
        "\r",
        "\n",
        " ",
        ":",
        "GET",
        "HTTP/1.1",
        "a",
        "\0",
        "é",
    ]);
    let any = prop::collection::vec(any::<u8>(), 0..6);
    prop::collection::vec(prop_oneof![8 => piece.prop_map(|text: &str| text.as_bytes().to_vec()), 1 => any], 0..12)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn packets_make_no_difference(
        bytes in prop_oneof![nearly_a_head(), prop::collection::vec(any::<u8>(), 0..200)],
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = read_pieces([&bytes[..]]);
        let pieces = read_pieces(cut(&bytes, &places));
        prop_assert_eq!(format!("{:?}", whole), format!("{:?}", pieces));
        if let Some(Ok((head, length))) = whole {
            prop_assert!(length <= bytes.len());
            prop_assert!(head.fields().all(|(_, value)| !value.iter().any(|byte| b"\r\n\0".contains(byte))));
        }
    }
}
