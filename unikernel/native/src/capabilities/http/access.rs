//! The access log: one record for each request, and two ways to write it as a line that nobody can forge.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::time::Duration;

use crate::capabilities::text::printable;

/// The status in the log of a request whose client left before it was answered (nginx's number).
pub const CLIENT_GONE: u16 = 499;

/// How many characters of a path or a handler's name a line holds.
const SHOWN: usize = 1_000;

/// A request that was answered, or given up. It holds no query, which may carry secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRecord {
    /// The address of the connection's other end.
    pub client: Arc<str>,
    /// `-` where the request couldn't be parsed.
    pub method: String,
    /// As it was sent; `-` where the request couldn't be parsed.
    pub path: String,
    pub status: u16,
    /// How many bytes of content were sent.
    pub bytes: usize,
    /// From the end of the request's head to the end of the response, as far as it was taken for sending.
    pub time: Duration,
    /// The handler by the name that the route gives it, or none where no route was found.
    pub handler: Option<Arc<str>>,
}

/// `CLIENT METHOD PATH STATUS BYTES SECONDS HANDLER`, with `-` for what is missing.
pub fn plain(record: &AccessRecord) -> String {
    let AccessRecord { client, method, path, status, bytes, time, handler } = record;
    let path = printable(path, SHOWN);
    let handler = printable(handler.as_deref().unwrap_or("-"), SHOWN);
    format!("{client} {method} {path} {status} {bytes} {} {handler}", seconds(*time))
}

/// A JSON object in ASCII, with a member for each field.
pub fn json(record: &AccessRecord) -> String {
    let AccessRecord { client, method, path, status, bytes, time, handler } = record;
    let handler = handler.as_deref().map_or("null".into(), json_text);
    format!(
        "{{\"client\": {}, \"method\": {}, \"path\": {}, \"status\": {status}, \"bytes\": {bytes}, \"seconds\": {}, \
         \"handler\": {handler}}}",
        json_text(client),
        json_text(method),
        json_text(path),
        seconds(*time),
    )
}

/// Seconds with six digits behind the point.
fn seconds(time: Duration) -> String {
    let micros = time.saturating_add(Duration::from_nanos(500)).as_micros();
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// A string of JSON (RFC 8259 section 7) in which all is escaped that isn't ASCII.
fn json_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            ' '..='~' => quoted.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(quoted, "\\u{unit:04x}"); // to write to a String can't fail
                }
            }
        }
    }
    quoted.push('"');
    quoted
}
