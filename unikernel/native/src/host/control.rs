//! The control channel between launcher and machine: JSON, a message a line. unikernel/control.md says what there is;
//! `unikernel/control.py` is the other end.

mod base64;
mod checks;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// The names of the virtio ports.
pub const CONTROL: &str = "slight.control";
pub const STDIN: &str = "slight.stdin";
pub const STDIO: &str = "slight.stdio";
pub const STDERR: &str = "slight.stderr";

/// Bytes in a line, its end included.
pub const LIMIT: usize = 1 << 20;

/// What a launcher says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Message {
    #[serde(deserialize_with = "checks::boxed_object")]
    Boot(Box<Boot>),
    /// SIGINT or SIGTERM, by their numbers.
    #[serde(deserialize_with = "checks::signal")]
    Signal(u8),
    #[serde(deserialize_with = "checks::count")]
    Ping(u64),
    #[serde(deserialize_with = "checks::object")]
    Resume(Resume),
}

/// All that the machine is told, in answer to `hello`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Names and values, in the order that the module sees them in.
    #[serde(deserialize_with = "checks::pairs")]
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
    /// What the slightfile left out, by the names in the manifest.
    #[serde(deserialize_with = "checks::table")]
    pub values: BTreeMap<String, String>,
    #[serde(deserialize_with = "checks::objects")]
    pub volumes: Vec<Volume>,
    #[serde(deserialize_with = "checks::optional_object")]
    pub network: Option<Network>,
    /// Since 1970.
    #[serde(deserialize_with = "checks::nanoseconds")]
    pub time: Duration,
    #[serde(deserialize_with = "checks::seed")]
    pub seed: Vec<u8>,
    #[serde(deserialize_with = "checks::object")]
    pub options: Options,
    pub channel: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    #[serde(deserialize_with = "checks::tag")]
    pub tag: String,
    #[serde(deserialize_with = "checks::path")]
    pub path: String,
    pub writable: bool,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// `10.0.2.15/24`.
    #[serde(deserialize_with = "checks::address")]
    pub address: String,
    #[serde(deserialize_with = "checks::ipv4")]
    pub gateway: Ipv4Addr,
    #[serde(deserialize_with = "checks::ipv4")]
    pub nameserver: Ipv4Addr,
    /// What `host.localhost` stands for.
    #[serde(deserialize_with = "checks::ipv4")]
    pub host: Ipv4Addr,
}

/// The limits, as the command line has them.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Bytes of memory of an instance.
    #[serde(deserialize_with = "checks::optional_count")]
    pub max_memory: Option<u64>,
    /// Bytes of a request's body.
    #[serde(deserialize_with = "checks::optional_count")]
    pub max_body: Option<u64>,
    #[serde(deserialize_with = "checks::optional_time")]
    pub request_timeout: Option<Duration>,
    #[serde(deserialize_with = "checks::optional_count")]
    pub max_concurrent: Option<u64>,
    #[serde(deserialize_with = "checks::optional_time")]
    pub drain_timeout: Option<Duration>,
    // Of the function service, which this flavour hasn't.
    #[serde(deserialize_with = "checks::optional_count")]
    pub max_module: Option<u64>,
    #[serde(deserialize_with = "checks::optional_time")]
    pub compile_timeout: Option<Duration>,
    #[serde(deserialize_with = "checks::optional_count")]
    pub compile_memory: Option<u64>,
    pub access_log: Option<AccessLog>,
    pub verbose: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    Plain,
    Json,
}

/// The machine goes on from a snapshot.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    #[serde(deserialize_with = "checks::nanoseconds")]
    pub time: Duration,
    #[serde(deserialize_with = "checks::seed")]
    pub seed: Vec<u8>,
}

/// What arrived is no message; the text says why, without what was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct ControlError(pub String);

/// What a launcher says in a line.
pub fn from_launcher(line: &[u8]) -> Result<Message, ControlError> {
    if line.len() > LIMIT {
        return Err(too_long());
    }
    // serde bounds how deep it may be nested.
    serde_json::from_slice(line).map_err(|error| {
        let what = if error.is_data() { "is none that is known here" } else { "is not JSON" };
        ControlError(format!("a message {what}, from byte {} on", error.column()))
    })
}

fn too_long() -> ControlError {
    ControlError(format!("a line is longer than {LIMIT} bytes"))
}

/// Cuts what arrives into lines, and keeps no more than `LIMIT` bytes.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are complete now, without their ends. An error where one is past the limit, which is left out.
    pub fn feed(&mut self, received: &[u8]) -> Result<Vec<Vec<u8>>, ControlError> {
        let mut lines = Vec::new();
        let mut error = None;
        let mut parts = received.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.0.len() + part.len() >= LIMIT {
                error = Some(too_long());
                self.0.clear();
                continue;
            }
            self.0.extend_from_slice(part);
            if parts.peek().is_some() {
                lines.push(core::mem::take(&mut self.0));
            }
        }
        error.map_or(Ok(lines), Err)
    }
}

/// What the machine says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Said<'a> {
    Hello { at: f64 },
    Phase(Phase),
    Serving { address: &'a str, port: u16 },
    Pong(u64),
    Errors(&'a [String]),
    Exit(u8),
}

/// For measurements.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Imported,
    Loaded,
    Entered,
}

/// A message as the line that is sent, with the time since boot. An error where it is past the limit.
pub fn encode(said: &Said<'_>, at: Option<Duration>) -> Result<String, ControlError> {
    let failed = |error: serde_json::Error| ControlError(error.to_string());
    let mut line = serde_json::to_string(said).map_err(failed)?;
    if let Some(at) = at {
        line.pop();
        line.push_str(&format!(",\"at\":{}.{:06}}}", at.as_secs(), at.subsec_micros()));
    }
    line.push('\n');
    if line.len() > LIMIT { Err(too_long()) } else { Ok(line) }
}

#[cfg(all(test, feature = "std"))]
mod tests;
