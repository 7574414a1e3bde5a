//! CORS: the cases of tests/capabilities/test_http_cors.py.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::capabilities::http::cors::{ConfigError, Cors};

const EVERYTHING: [&str; 4] = [
    "Access-Control-Allow-Origin: *",
    "Access-Control-Allow-Methods: *",
    "Access-Control-Allow-Headers: *",
    "Access-Control-Expose-Headers: *",
];

/// `ALLOW_ORIGIN` is the key `CORS_ALLOW_ORIGIN`.
fn from(configs: &[(&str, &str)]) -> Result<Cors, ConfigError> {
    let keys: Vec<String> = configs.iter().map(|(key, _)| "CORS_".to_string() + key).collect();
    Cors::from_configs(keys.iter().map(String::as_str).zip(configs.iter().map(|(_, value)| *value)))
}

fn lines(origin: Option<&str>, configs: &[(&str, &str)]) -> Vec<String> {
    let cors = from(configs).unwrap();
    let text = cors.lines(origin.map(str::as_bytes));
    assert!(text.is_empty() || text.ends_with("\r\n"));
    text.split_terminator("\r\n").map(String::from).collect()
}

#[test]
fn everything_is_allowed_by_default() {
    for origin in [None, Some("https://a.example"), Some("*")] {
        assert_eq!(lines(origin, &[]), EVERYTHING);
        assert_eq!(lines(origin, &[("ALLOW_ORIGIN", " * ")]), EVERYTHING);
    }
    assert_eq!(Cors::default().lines(None), lines(None, &[]).join("\r\n") + "\r\n");
    assert!(!Cors::default().is_off());
}

#[test]
fn switched_off_it_adds_nothing() {
    assert_eq!(lines(Some("https://b.example"), &[("ALLOW_ORIGIN", "none")]), [""; 0]);
    assert!(from(&[("ALLOW_ORIGIN", "none")]).unwrap().is_off());
}

#[test]
fn a_listed_origin_is_echoed_and_others_get_nothing() {
    let configs = [("ALLOW_ORIGIN", "https://a.example , http://localhost:3000")];
    let with = |origin: &str| {
        [&[&*("Access-Control-Allow-Origin: ".to_string() + origin)][..], &EVERYTHING[1..], &["Vary: Origin"]]
            .concat()
            .join("\n")
    };
    assert_eq!(lines(Some("http://localhost:3000"), &configs).join("\n"), with("http://localhost:3000"));
    assert_eq!(lines(Some("https://a.example"), &configs).join("\n"), with("https://a.example"));
    for origin in ["https://a.example.evil.example", "http://a.example", "null", "https://a.example:444", "*"] {
        assert_eq!(lines(Some(origin), &configs), ["Vary: Origin"], "{origin}");
    }
    assert_eq!(lines(None, &configs), ["Vary: Origin"]);
}

#[test]
fn an_origin_is_compared_as_browsers_write_it() {
    for (text, origin) in [
        ("HTTPS://A.Example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://[::1]", "http://[::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
    ] {
        let first = &lines(Some(origin), &[("ALLOW_ORIGIN", text)])[0];
        assert_eq!(*first, "Access-Control-Allow-Origin: ".to_string() + origin);
    }
}

#[test]
fn lists_of_names_and_the_age_are_passed_on() {
    let configs =
        [("ALLOW_METHODS", "GET,PUT"), ("ALLOW_HEADERS", "X-A , x-b"), ("EXPOSE_HEADERS", ""), ("MAX_AGE", "600")];
    assert_eq!(
        lines(None, &configs),
        [
            "Access-Control-Allow-Origin: *",
            "Access-Control-Allow-Methods: GET, PUT",
            "Access-Control-Allow-Headers: X-A, x-b",
            "Access-Control-Max-Age: 600",
        ]
    );
}

#[test]
fn credentials_come_with_an_origin_and_names_alone() {
    let configs = [("ALLOW_ORIGIN", "https://a.example"), ("ALLOW_CREDENTIALS", "true")];
    assert_eq!(
        lines(Some("https://a.example"), &configs),
        [
            "Access-Control-Allow-Origin: https://a.example",
            "Access-Control-Allow-Methods: GET, HEAD, PUT, POST, DELETE",
            "Access-Control-Allow-Credentials: true",
            "Vary: Origin",
        ]
    );
    assert_eq!(lines(None, &[("ALLOW_CREDENTIALS", "false")]), EVERYTHING);
}

#[test]
fn a_value_that_makes_no_sense_is_an_error_that_names_its_key() {
    for (key, value) in [
        ("ALLOW_ORIGIN", ""),
        ("ALLOW_ORIGIN", "null"),
        ("ALLOW_ORIGIN", "a.example"),
        ("ALLOW_ORIGIN", "https://a.example/"),
        ("ALLOW_ORIGIN", "https://*.example"),
        ("ALLOW_ORIGIN", "https://a.example,"),
        ("ALLOW_ORIGIN", "*, https://a.example"),
        ("ALLOW_ORIGIN", "none, https://a.example"),
        ("ALLOW_ORIGIN", "https://a.example:port"),
        ("ALLOW_ORIGIN", "https://user@a.example"),
        ("ALLOW_ORIGIN", "https://a.exa\nmple"),
        ("ALLOW_ORIGIN", "https://a.example?b"),
        ("ALLOW_ORIGIN", "https://ä.example"),
        ("ALLOW_METHODS", "GET PUT"),
        ("ALLOW_METHODS", "GET,"),
        ("ALLOW_HEADERS", "X-A\r\nX-Forged: 1"),
        ("EXPOSE_HEADERS", "é"),
        ("MAX_AGE", ""),
        ("MAX_AGE", "-1"),
        ("MAX_AGE", "+1"),
        ("MAX_AGE", "1h"),
        ("MAX_AGE", "١"),
        ("MAX_AGE", "1111111111"),
        ("ALLOW_CREDENTIALS", "yes"),
        ("ALLOW_ORIGINS", "*"),
    ] {
        match from(&[(key, value)]) {
            Err(error) => assert_eq!(error.key, "CORS_".to_string() + key, "{value:?}"),
            Ok(_) => panic!("{key} {value:?}"),
        }
    }
}

#[test]
fn values_that_contradict_each_other_are_an_error() {
    let with_credentials = ("ALLOW_CREDENTIALS", "true");
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[with_credentials], "CORS_ALLOW_CREDENTIALS"),
        (&[("ALLOW_ORIGIN", "*"), with_credentials], "CORS_ALLOW_CREDENTIALS"),
        (&[("ALLOW_ORIGIN", "https://a"), with_credentials, ("ALLOW_HEADERS", "*")], "CORS_ALLOW_HEADERS"),
        (&[("ALLOW_ORIGIN", "none"), ("MAX_AGE", "1")], "CORS_ALLOW_ORIGIN"),
    ];
    for (configs, key) in cases {
        assert_eq!(from(configs).map(|_| ()).map_err(|error| error.key), Err(key.to_string()));
    }
}

#[test]
fn other_keys_of_the_capability_are_left_alone() {
    let cors = Cors::from_configs([("SOMETHING", "else")]).unwrap();
    assert_eq!(cors.lines(None), Cors::default().lines(None));
}
