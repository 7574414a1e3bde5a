//! What the headers of a request mean to the server: where its body ends, and what becomes of the connection.

use super::head::Malformed;

/// How the end of a body is known: RFC 9112 section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; none where the request says nothing of a body.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It comes in chunks, and in a form that nobody here undoes: `gzip, chunked`.
    Encoded,
}

/// What a client waits for before it sends the body: RFC 9110 section 10.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    Nothing,
    Continue,
    SomethingElse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub framing: Framing,
    pub expects: Expects,
    /// Whether the client wants the connection to stay open.
    pub keep_alive: bool,
    /// Whether the header Host is one.
    pub host_is_valid: bool,
}

/// Headers that say one thing: two of them could be read in two ways.
const SINGLE: [&str; 10] = [
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "etag",
    "host",
    "max-forwards",
    "server",
    "transfer-encoding",
    "user-agent",
];

/// Looks at all headers of a request. Malformed where the end of the body could be read in two ways, or where it is
/// HTTP/1.1 without a Host.
pub fn meaning<'a>(is_http_11: bool, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Meaning, Malformed> {
    let mut seen = [false; SINGLE.len()];
    let mut length = None;
    let mut encoded = None;
    let mut expects = Expects::Nothing;
    let mut host = None;
    let (mut close, mut keep_alive) = (false, false);
    for (name, value) in fields {
        if let Some(single) = SINGLE.iter().position(|single| name.eq_ignore_ascii_case(single)) {
            if core::mem::replace(&mut seen[single], true) {
                return Err(Malformed::BadRequest);
            }
            match SINGLE[single] {
                "content-length" => length = Some(content_length(value)?),
                "transfer-encoding" => encoded = Some(transfer_encoding(value)?),
                "host" => host = Some(is_host(value)),
                _ => {}
            }
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(|&byte| byte == b',') {
                close |= option.trim_ascii().eq_ignore_ascii_case(b"close");
                keep_alive |= option.trim_ascii().eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case("expect") && expects == Expects::Nothing {
            let is_continue = value.eq_ignore_ascii_case(b"100-continue");
            expects = if is_continue { Expects::Continue } else { Expects::SomethingElse };
        }
    }
    if is_http_11 && host.is_none() {
        return Err(Malformed::BadRequest);
    }
    let framing = match (length, encoded) {
        (Some(_), Some(_)) => return Err(Malformed::BadRequest),
        (Some(length), None) => Framing::Length(length),
        (None, Some(framing)) => framing,
        (None, None) => Framing::Length(0),
    };
    Ok(Meaning {
        framing,
        expects: if is_http_11 { expects } else { Expects::Nothing },
        // RFC 9112 section 6.1 has the connection closed after chunks of HTTP/1.0, which doesn't have them.
        keep_alive: !close && (is_http_11 || (keep_alive && encoded.is_none())),
        host_is_valid: host.unwrap_or(true),
    })
}

/// A number, however many zeros it begins with.
fn content_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::BadRequest);
    }
    let text = core::str::from_utf8(value).map_err(|_| Malformed::BadRequest)?;
    text.parse().map_err(|_| Malformed::BadRequest)
}

/// RFC 9112 section 6.3 has a request refused whose last coding isn't `chunked`, and section 7 one where it is applied
/// twice.
fn transfer_encoding(value: &[u8]) -> Result<Framing, Malformed> {
    let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if !codings.next_back().is_some_and(is_chunked) {
        return Err(Malformed::BadRequest);
    }
    let mut framing = Framing::Chunked;
    for coding in codings {
        if coding.is_empty() || is_chunked(coding) {
            return Err(Malformed::BadRequest);
        }
        framing = Framing::Encoded;
    }
    Ok(framing)
}

/// Whether it is a host and a port as RFC 3986 section 3.2.2 has them: an address in brackets or a name. RFC 9110
/// section 7.2 lets it be empty.
pub fn is_host(text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    if text.len() > 300 {
        return false;
    }
    let (host, port) = match text.iter().rposition(|&byte| byte == b':' || byte == b']') {
        Some(at) if text[at] == b':' => (&text[..at], &text[at + 1..]),
        _ => (text, &b""[..]),
    };
    let is_valid = match host {
        [b'[', inside @ .., b']'] => is_literal_address(inside),
        _ => is_name(host),
    };
    is_valid && port.iter().all(u8::is_ascii_digit)
}

/// An address of version 6, or of a version that is yet to come: `v1.something`.
fn is_literal_address(inside: &[u8]) -> bool {
    match inside {
        [b'v', future @ ..] => match future.iter().position(|&byte| byte == b'.') {
            Some(dot) => {
                let (version, address) = (&future[..dot], &future[dot + 1..]);
                let is_plain = |&byte: &u8| is_name_byte(byte) || byte == b':';
                !version.is_empty()
                    && version.iter().all(u8::is_ascii_hexdigit)
                    && !address.is_empty()
                    && address.iter().all(is_plain)
            }
            None => false,
        },
        _ => !inside.is_empty() && inside.iter().all(|&byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)),
    }
}

fn is_name(mut text: &[u8]) -> bool {
    if text.is_empty() {
        return false;
    }
    loop {
        text = match text {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$&'()*+,;=._~-".contains(&byte)
}
