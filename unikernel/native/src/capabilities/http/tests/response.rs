//! Responses: what a guest may set, and what the server adds. The cases are those of
//! tests/capabilities/test_http_server.py.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bindings::http_types::Response;
use crate::capabilities::http::response::{Encoded, Own, TOGETHER, encode, plain};

const OWN: Own<'_> = Own { is_head: false, cors: "A: b\r\n", cors_is_the_guests: false, connection: "", date: "today" };

fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Response { status, headers: Some(headers), body: Some(body.into()) }
}

fn text(response: Response) -> String {
    let Encoded { first, rest, .. } = encode(response, &OWN).unwrap();
    String::from_utf8([first, rest].concat()).unwrap()
}

#[test]
fn a_response_is_the_guests_with_its_length_and_date() {
    let made = text(response(201, &[("X-A", "1"), ("x-b", "zwölf\t!")], b"made"));
    let expected =
        "HTTP/1.1 201 Created\r\nA: b\r\nX-A: 1\r\nx-b: zwölf\t!\r\nContent-Length: 4\r\nDate: today\r\n\r\nmade";
    assert_eq!(made, expected);
    let nothing = text(Response { status: 200, headers: None, body: None });
    assert_eq!(nothing, "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 0\r\nDate: today\r\n\r\n");
}

#[test]
fn a_long_body_is_not_copied_behind_the_head() {
    let body = alloc::vec![b'x'; TOGETHER + 1];
    let encoded = encode(response(200, &[], &body), &OWN).unwrap();
    assert!(encoded.first.ends_with(b"\r\n\r\n"));
    assert_eq!((encoded.rest, encoded.content), (body, TOGETHER + 1));
}

#[test]
fn what_belongs_to_the_connection_is_the_servers() {
    let mine = [
        ("Connection", "keep-alive, X-Hop"),
        ("Keep-Alive", "timeout=1"),
        ("x-hop", "1"),
        ("TE", "trailers"),
        ("Trailer", "x"),
        ("Proxy-Authorization", "secret"),
        ("proxy-connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "99"),
        ("Expect", "100-continue"),
        ("Host", "a"),
        ("Access-Control-Allow-Origin", "https://evil.example"),
        ("X-Mine", "kept"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ];
    assert_eq!(
        text(response(200, &mine, b"abc")),
        "HTTP/1.1 200 OK\r\nA: b\r\nX-Mine: kept\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         Content-Length: 3\r\nDate: today\r\n\r\nabc"
    );
}

#[test]
fn a_guests_own_date_goes_out_once_and_its_cors_headers_where_they_are_its_own() {
    let headers = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("access-control-allow-origin", "https://b.example")];
    let own = Own { cors: "", cors_is_the_guests: true, ..OWN };
    assert_eq!(
        encode(response(200, &headers, b""), &own).unwrap().first,
        b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
          access-control-allow-origin: https://b.example\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn a_header_that_could_forge_another_is_refused() {
    let long = "n".repeat(5000) + "\n";
    for (name, value) in [
        ("x", "a\r\nSet-Cookie: forged=1"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "a\x1bb"),
        ("x", "a\x7f"),
        ("x\r\nforged", "1"),
        ("x\n", "1"),
        ("x y", "1"),
        ("x:", "1"),
        ("é", "1"),
        ("", "1"),
        (&long, "1"),
    ] {
        assert!(encode(response(200, &[(name, value)], b"body"), &OWN).is_err(), "{name:?}: {value:?}");
    }
    let said = encode(response(200, &[("x y", "1")], b""), &OWN).map(|_| ());
    assert_eq!(said, Err("the header name 'x y' is not a token".to_string()));
    let said = encode(response(200, &[("x", "a\nb")], b""), &OWN).map(|_| ());
    assert_eq!(said, Err("the header x holds a control character: 'a\\nb'".to_string()));
}

#[test]
fn only_a_final_status_is_one() {
    for status in [0, 99, 100, 101, 199, 600, 65535] {
        let said = encode(response(status, &[], b""), &OWN).map(|_| ());
        assert_eq!(said, Err(alloc::format!("the status {status} is not one of 200 to 599")));
    }
    for status in [200, 299, 404, 599] {
        assert!(text(response(status, &[], b"x")).starts_with(&alloc::format!("HTTP/1.1 {status} ")));
    }
}

#[test]
fn a_status_without_content_sends_none() {
    for (status, length) in [(204, ""), (304, ""), (205, "Content-Length: 0\r\n")] {
        let sent = text(response(status, &[("content-length", "7")], b"content"));
        let (_, behind) = sent.split_once("A: b\r\n").unwrap();
        assert_eq!(behind, length.to_string() + "Date: today\r\n\r\n");
    }
}

#[test]
fn head_says_how_long_the_content_is_and_sends_none() {
    let own = Own { is_head: true, ..OWN };
    for (body, length) in [(&b"hello"[..], "Content-Length: 5\r\n"), (b"", "")] {
        let encoded = encode(response(200, &[], body), &own).unwrap();
        let expected = "HTTP/1.1 200 OK\r\nA: b\r\n".to_string() + length + "Date: today\r\n\r\n";
        assert_eq!((encoded.first, encoded.rest, encoded.content), (expected.into_bytes(), Vec::new(), 0));
    }
}

#[test]
fn an_answer_of_the_servers_own_says_no_more_than_its_status() {
    assert_eq!(
        text(plain(503, &[("Retry-After", "1")])),
        "HTTP/1.1 503 Service Unavailable\r\nA: b\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n\
         Content-Length: 20\r\nDate: today\r\n\r\nService Unavailable\n"
    );
    assert_eq!(
        text(plain(204, &[("Allow", "GET")])),
        "HTTP/1.1 204 No Content\r\nA: b\r\nAllow: GET\r\nDate: today\r\n\r\n"
    );
}
