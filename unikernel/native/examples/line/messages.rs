//! Messages over standard input and output: lines of JSON, where `"body": N` says that N bytes follow the line.

use std::io::{BufRead, Read, Write, stdin, stdout};

use serde_json::Value;

/// Writes a message. Ends the program where nobody reads any more: the tests are over.
pub fn say(message: &Value, body: &[u8]) {
    let mut out = stdout().lock();
    let mut bytes = message.to_string().into_bytes();
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The next line, and the bytes behind it; none at the end.
pub fn hear() -> Option<(Value, Vec<u8>)> {
    let mut input = stdin().lock();
    let mut line = String::new();
    if input.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let message: Value = serde_json::from_str(&line).expect("a line of JSON");
    let mut body = vec![0; message["body"].as_u64().unwrap_or(0) as usize];
    input.read_exact(&mut body).ok()?;
    Some((message, body))
}

/// Names and values, as a list of lists of two texts.
pub fn pairs(value: &Value) -> Option<Vec<(String, String)>> {
    serde_json::from_value(value.clone()).ok()
}
