use std::string::ToString;

use serde_json::{Value, json};

use super::*;

/// The vectors that the Python side is held to as well.
fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../control_vectors.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The bytes of a line, which the vectors have in one of three forms.
fn line_of(vector: &Value) -> Vec<u8> {
    if let Some(line) = vector["line"].as_str() {
        return line.as_bytes().to_vec();
    }
    if let Some(bytes) = vector["bytes"].as_str() {
        return (0..bytes.len()).step_by(2).map(|at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap()).collect();
    }
    let parts = vector["parts"].as_array().unwrap();
    let texts = parts.iter().map(|part| part[0].as_str().unwrap().repeat(part[1].as_u64().unwrap() as usize));
    texts.collect::<String>().into_bytes()
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

/// A message as the vectors have it, with numbers that are times as floats.
fn meaning(message: &Message) -> (&'static str, Value) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
    match message {
        Message::Signal(number) => ("signal", json!(number)),
        Message::Ping(number) => ("ping", json!(number)),
        Message::Resume(resume) => ("resume", json!({"time": nanoseconds(resume.time), "seed": hex(&resume.seed)})),
        Message::Boot(boot) => {
            let options = &boot.options;
            let access_log = options.access_log.map(|format| match format {
                AccessLog::Plain => "plain",
                AccessLog::Json => "json",
            });
            let mut all = json!({
                "max_memory": options.max_memory, "max_body": options.max_body,
                "request_timeout": seconds(options.request_timeout), "max_concurrent": options.max_concurrent,
                "drain_timeout": seconds(options.drain_timeout), "max_module": options.max_module,
                "compile_timeout": seconds(options.compile_timeout), "compile_memory": options.compile_memory,
                "access_log": access_log, "verbose": options.verbose,
            });
            all.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            let volumes = boot.volumes.iter().map(|volume| {
                json!({"tag": volume.tag, "path": volume.path, "writable": volume.writable})
            });
            let network = boot.network.as_ref().map(|network| {
                json!({
                    "address": network.address, "gateway": network.gateway.to_string(),
                    "nameserver": network.nameserver.to_string(), "host": network.host.to_string(),
                })
            });
            let env: BTreeMap<_, _> = boot.env.iter().cloned().collect();
            let boot = json!({
                "env": env, "args": boot.args, "values": boot.values, "volumes": volumes.collect::<Vec<_>>(),
                "network": network, "time": nanoseconds(boot.time), "seed": hex(&boot.seed), "options": all,
                "channel": boot.channel,
            });
            ("boot", boot)
        }
    }
}

/// Times are the same number with a fraction and without.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(name, value)| other.get(name).is_some_and(|it| same(value, it)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

#[test]
fn the_launchers_messages_mean_what_the_vectors_say() {
    let vectors = vectors();
    let accepted = vectors["launcher"]["accepted"].as_array().unwrap();
    assert!(!accepted.is_empty());
    for vector in accepted {
        let line = line_of(vector);
        let message = from_launcher(&line).unwrap_or_else(|error| panic!("{error:?}: {vector}"));
        let (kind, value) = meaning(&message);
        assert_eq!(kind, vector["kind"]);
        assert!(same(&value, &vector["value"]), "{value} is not {}", vector["value"]);
    }
}

#[test]
fn what_the_vectors_refuse_is_refused() {
    let vectors = vectors();
    let refused = vectors["launcher"]["refused"].as_array().unwrap();
    assert!(!refused.is_empty());
    for vector in refused {
        assert!(from_launcher(&line_of(vector)).is_err(), "accepted: {}", vector["why"]);
    }
}

#[test]
fn what_the_machine_says_is_what_the_vectors_have() {
    let errors = ["one", "zwei: \u{e4}\u{2603}", "three: \u{e4}\u{2603} \"quoted\""].map(String::from);
    let half = Duration::from_millis(500);
    let said = [
        (Said::Hello { at: half }, None),
        (Said::Phase(Phase::Imported), Some(half / 2)),
        (Said::Phase(Phase::Loaded), Some(half * 4)),
        (Said::Phase(Phase::Entered), None),
        (Said::Serving { address: "127.0.0.1:3000", port: 3000 }, Some(half * 3)),
        (Said::Pong(9_007_199_254_740_991), None),
        (Said::Errors(&errors), None),
        (Said::Exit(255), Some(Duration::new(9_999_999_999, 500_000_000))),
    ];
    let vectors = vectors();
    let accepted: Vec<Value> = vectors["guest"]["accepted"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|vector| serde_json::from_slice(&line_of(vector)).ok())
        .collect();
    for (said, at) in said {
        let line = encode(&said, at).unwrap();
        let (line, end) = line.split_at(line.len() - 1);
        assert_eq!(end, "\n");
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(accepted.iter().any(|known| same(known, &value)), "{line} is in no vector");
    }
}

#[test]
fn a_message_past_the_limit_is_not_sent() {
    assert!(encode(&Said::Errors(&["x".repeat(LIMIT)]), None).is_err());
}

#[test]
fn lines_are_cut_wherever_they_arrive() {
    let mut lines = Lines::default();
    assert_eq!(lines.feed(b"on"), Ok(Vec::new()));
    assert_eq!(lines.feed(b"e\ntwo\nth"), Ok([b"one".to_vec(), b"two".to_vec()].into()));
    assert_eq!(lines.feed(b"ree\n"), Ok([b"three".to_vec()].into()));
}

#[test]
fn a_line_past_the_limit_is_refused_and_not_kept() {
    let mut lines = Lines::default();
    let piece = [b'x'; LIMIT / 4];
    for _ in 0..3 {
        assert_eq!(lines.feed(&piece), Ok(Vec::new()));
    }
    assert!(lines.feed(&piece).is_err());
    assert!(lines.0.is_empty());
}
