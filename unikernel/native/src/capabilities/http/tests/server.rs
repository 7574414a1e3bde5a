//! The server over real connections, where a handler's answer at once makes the difference, and what the machine bounds
//! besides the limits that docs/http.md has.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use std::net::Shutdown;

use proptest::prelude::*;

use super::serving::{Serving, read_all, until};
use crate::capabilities::http::settings::Settings;
use crate::host::executor::{self, block_on};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn short() -> Settings {
    Settings { linger: Duration::from_millis(50), grace: Duration::from_millis(50), ..Settings::default() }
}

fn statuses(answer: &str) -> Vec<String> {
    answer.split("HTTP/1.1 ").skip(1).map(|text| text[..3].to_string()).collect()
}

#[test]
fn all_requests_of_a_client_that_says_no_more_are_answered() {
    block_on(async {
        let serving = Serving::new(short());
        for count in [1, 16, 30, 100] {
            // `finish` would throw the answers away that come meanwhile.
            let client = std::net::TcpStream::connect(("127.0.0.1", serving.server.port())).unwrap();
            std::io::Write::write_all(&mut &client, GET.repeat(count).as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let reading = std::thread::spawn(move || {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut &client, &mut text).unwrap();
                text
            });
            until(|| reading.is_finished()).await;
            assert_eq!(statuses(&reading.join().unwrap()), alloc::vec!["200"; count]);
        }
    });
}

#[test]
fn a_client_that_leaves_ends_its_handler() {
    block_on(async {
        let serving = Serving::new(short());
        let stream = serving.connect().await;
        stream.write_all(b"GET /wait?secret HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        executor::sleep(Duration::from_millis(50)).await;
        assert_eq!(*serving.application.dropped.lock(), 0);
        stream.abort();
        until(|| *serving.application.dropped.lock() == 1).await;
        assert_eq!(serving.lines(1).await, ["127.0.0.1 GET /wait 499 0 0.000000 wait"]);
    });
}

#[test]
fn stop_ends_the_handlers_that_are_left_when_its_time_is_over() {
    block_on(async {
        let serving = Serving::new(Settings { drain_timeout: Duration::from_millis(100), ..short() });
        let stream = serving.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let idle = serving.connect().await;
        executor::sleep(Duration::from_millis(50)).await;
        let stopping = executor::spawn({
            let server = serving.server.clone();
            async move { server.stop().await }
        });
        assert_eq!(read_all(&idle).await, "");
        assert_eq!(*serving.application.dropped.lock(), 0);
        stopping.await;
        assert_eq!(*serving.application.dropped.lock(), 1);
        serving.server.stop().await; // again
    });
}

#[test]
fn what_finds_no_room_is_told_to_come_back() {
    block_on(async {
        let serving = Serving::new(Settings { max_received: 16 * 1024, ..short() });
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".to_string();
        let answer = serving.ask((head + &"a".repeat(100_000)).as_bytes()).await;
        assert_eq!(statuses(&answer), ["503"]);
        assert!(answer.contains("\r\nRetry-After: 1\r\n"));
        let many =
            "GET / HTTP/1.1\r\nHost: a\r\n".to_string() + &("X: ".to_string() + &"a".repeat(5000) + "\r\n").repeat(5);
        assert_eq!(statuses(&serving.ask(many.as_bytes()).await), ["503"]);
        // And there is as much room as before.
        let last = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 8000\r\n\r\n".to_string();
        assert_eq!(statuses(&serving.ask((last + &"a".repeat(8000)).as_bytes()).await), ["200"]);
    });
}

#[test]
fn more_connections_than_there_may_be_are_closed_with_one_line_in_the_log() {
    block_on(async {
        let serving = Serving::new(Settings { max_connections: 2, ..short() });
        let kept = [serving.connect().await, serving.connect().await];
        executor::sleep(Duration::from_millis(50)).await;
        for _ in 0..3 {
            let refused = serving.connect().await;
            assert_eq!(read_all(&refused).await, "");
        }
        assert_eq!(serving.lines(1).await, ["2 connections are open: others are closed"]);
        drop(kept);
        executor::sleep(Duration::from_millis(50)).await;
        let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(statuses(&serving.ask(text.as_bytes()).await), ["200"]);
    });
}

#[test]
fn what_may_be_an_unknown_method_is_waited_for_and_nothing_else() {
    block_on(async {
        let serving = Serving::new(short());
        assert_eq!(statuses(&serving.ask(b"garbage").await), ["400"]);
        let stream = serving.connect().await;
        for piece in ["BRE", "W", " / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            executor::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(statuses(&read_all(&stream).await), ["501"]);
    });
}

/// Pieces of which requests, and what is none, are put together.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(alloc::vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n",
        "Host: a\r\n",
        "Content-Length: 2\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "0\r\n",
        "ab",
        "\n",
        "HEAD /nowhere HTTP/1.0\r\n\r\n",
    ]);
    let any = prop::collection::vec(any::<u8>(), 0..8);
    prop::collection::vec(prop_oneof![9 => piece.prop_map(|text: &str| text.as_bytes().to_vec()), 1 => any], 1..8)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever comes in whichever packets: nothing but whole answers comes back, and the server works on.
    #[test]
    fn arbitrary_bytes_get_answers_and_do_no_harm(bytes in pieces(), places in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        block_on(async {
            let serving = Serving::new(Settings { idle_timeout: Duration::from_millis(300), body_timeout: Duration::from_millis(100), ..short() });
            let stream = serving.connect().await;
            let mut ends: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let mut start = 0;
            for end in ends {
                if stream.write_all(&bytes[start..end]).await.is_err() {
                    break; // it was refused, and has gone
                }
                executor::sleep(Duration::from_millis(1)).await;
                start = end;
            }
            let answer = read_all(&stream).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
            let good = serving.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            assert_eq!(statuses(&good), ["200"]);
            for line in &*serving.application.lines.lock() {
                assert!(!line.contains('\n'), "{line}");
            }
        });
    }
}
