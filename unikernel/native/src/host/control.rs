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

use super::json;

/// The names of the virtio ports.
pub const CONTROL: &str = "slight.control";
pub const STDIN: &str = "slight.stdin";
pub const STDIO: &str = "slight.stdio";
pub const STDERR: &str = "slight.stderr";

/// Bytes in a line, its end included.
pub const LIMIT: usize = 1 << 20;

/// What a launcher says.
#[derive(Debug, PartialEq)]
pub enum Message {
    Boot(Box<Boot>),
    /// SIGINT or SIGTERM, by their numbers.
    Signal(u8),
    Ping(u64),
    Resume(Resume),
}

/// All that the machine is told, in answer to `hello`.
#[derive(Debug, Default, PartialEq)]
pub struct Boot {
    /// Names and values, in the order that the module sees them in.
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
    /// What the slightfile left out, by the names in the manifest.
    pub values: BTreeMap<String, String>,
    pub volumes: Vec<Volume>,
    pub network: Option<Network>,
    /// Since 1970.
    pub time: Duration,
    pub seed: Vec<u8>,
    pub options: Options,
    pub channel: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub tag: String,
    pub path: String,
    pub writable: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Network {
    /// `10.0.2.15/24`.
    pub address: String,
    pub gateway: Ipv4Addr,
    pub nameserver: Ipv4Addr,
    /// What `host.localhost` stands for.
    pub host: Ipv4Addr,
}

/// The limits, as the command line has them.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    /// Bytes of memory of an instance.
    pub max_memory: Option<u64>,
    /// Bytes of a request's body.
    pub max_body: Option<u64>,
    pub request_timeout: Option<Duration>,
    pub max_concurrent: Option<u64>,
    pub drain_timeout: Option<Duration>,
    // Of the function service, which this flavour hasn't.
    pub max_module: Option<u64>,
    pub compile_timeout: Option<Duration>,
    pub compile_memory: Option<u64>,
    pub access_log: Option<AccessLog>,
    pub verbose: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    Plain,
    Json,
}

/// The machine goes on from a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub struct Resume {
    pub time: Duration,
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
    let wrong = |wrong, place| ControlError(format!("a message can't be read: {wrong}{place}"));
    let message = json::read(line).map_err(|(reason, byte)| wrong(reason, format!(", at byte {byte}")))?;
    checks::message(message).map_err(|reason| wrong(reason, String::new()))
}

/// The limits, as `boot` has them under `options`.
pub fn options(text: &str) -> Result<Options, ControlError> {
    let limits = json::read(text.as_bytes()).map_err(|(wrong, _)| wrong);
    let read = limits.and_then(|limits| checks::options(limits.object()?));
    read.map_err(|wrong| ControlError(format!("{wrong}")))
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
#[derive(Debug)]
pub enum Said<'a> {
    /// With the time since boot.
    Hello { at: Duration },
    Phase(Phase),
    Serving { address: &'a str, port: u16 },
    Pong(u64),
    Errors(&'a [String]),
    Exit(u8),
}

/// For measurements.
#[derive(Debug, Clone, Copy)]
pub enum Phase {
    Imported,
    Loaded,
    Entered,
}

/// A message as the line that is sent, with the time since boot. An error where it is past the limit.
pub fn encode(said: &Said<'_>, at: Option<Duration>) -> Result<String, ControlError> {
    let member = match said {
        Said::Hello { at } => format!(r#""hello":{{"at":{}}}"#, seconds(*at)),
        Said::Phase(Phase::Imported) => String::from(r#""phase":"imported""#),
        Said::Phase(Phase::Loaded) => String::from(r#""phase":"loaded""#),
        Said::Phase(Phase::Entered) => String::from(r#""phase":"entered""#),
        Said::Serving { address, port } => format!(r#""serving":{{"address":{},"port":{port}}}"#, quoted(address)?),
        Said::Pong(number) => format!(r#""pong":{number}"#),
        Said::Errors(lines) => {
            let lines = lines.iter().map(|line| quoted(line)).collect::<Result<Vec<_>, _>>()?;
            format!(r#""errors":[{}]"#, lines.join(","))
        }
        Said::Exit(code) => format!(r#""exit":{code}"#),
    };
    let at = at.map_or(String::new(), |at| format!(r#","at":{}"#, seconds(at)));
    let line = format!("{{{member}{at}}}\n");
    if line.len() > LIMIT { Err(too_long()) } else { Ok(line) }
}

fn seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}

fn quoted(text: &str) -> Result<String, ControlError> {
    serde_json::to_string(text).map_err(|error| ControlError(error.to_string()))
}

#[cfg(all(test, feature = "std"))]
mod tests;
