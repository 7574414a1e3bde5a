//! The access log: the cases of tests/capabilities/test_http_access.py.

use alloc::string::{String, ToString};
use core::time::Duration;

use proptest::prelude::*;

use crate::capabilities::http::access::{AccessRecord, json, plain};
use crate::capabilities::text::is_printable;

fn record(path: &str, handler: Option<&str>) -> AccessRecord {
    AccessRecord {
        client: "127.0.0.1".into(),
        method: "GET".into(),
        path: path.into(),
        status: 200,
        bytes: 5,
        time: Duration::from_micros(1_250),
        handler: handler.map(Into::into),
    }
}

#[test]
fn a_plain_line_has_seven_fields() {
    assert_eq!(plain(&record("/a", Some("handle_a"))), "127.0.0.1 GET /a 200 5 0.001250 handle_a");
    let nobody = AccessRecord {
        client: "::1".into(),
        method: "-".into(),
        path: "-".into(),
        status: 400,
        bytes: 12,
        time: Duration::ZERO,
        handler: None,
    };
    assert_eq!(plain(&nobody), "::1 - - 400 12 0.000000 -");
    let slow = AccessRecord { time: Duration::from_nanos(61_999_999_500), ..nobody };
    assert_eq!(plain(&slow), "::1 - - 400 12 62.000000 -");
}

#[test]
fn a_json_line_has_the_names_of_the_record() {
    assert_eq!(
        json(&record("/a", Some("handle_a"))),
        r#"{"client": "127.0.0.1", "method": "GET", "path": "/a", "status": 200, "bytes": 5, "seconds": 0.001250, "handler": "handle_a"}"#
    );
    assert!(json(&record("/a", None)).ends_with(r#""handler": null}"#));
}

#[test]
fn a_long_path_is_cut() {
    let line = plain(&record(&("/".to_string() + &"a".repeat(10_000)), None));
    assert!(line.contains(&(" /".to_string() + &"a".repeat(999) + "… ")));
}

proptest! {
    #[test]
    fn no_path_and_no_name_makes_a_second_line(path: String, handler: String) {
        let record = record(&path, Some(&handler));
        prop_assert!(plain(&record).chars().all(is_printable));
        let line = json(&record);
        prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(read["path"].as_str(), Some(&*path));
        prop_assert_eq!(read["handler"].as_str(), Some(&*handler));
    }
}
