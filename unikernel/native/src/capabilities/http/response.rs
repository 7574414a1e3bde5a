//! Responses as they are sent.
//!
//! A guest is not trusted with the framing of its response: what it may set is checked, what the server sets is not its
//! to set, and nothing that it writes can end a header line.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::bindings::http_types::Response;
use crate::capabilities::text::repr;

use super::head::is_token_byte;
use super::status::phrase;

/// What becomes of a header that a guest sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kept,
    Dropped,
    Connection,
    Cors,
    Date,
    Invalid,
}

/// The server's own headers, and what a guest copies from its request. RFC 9110 section 7.6.1 has the connection's.
const NOT_THE_GUESTS: [&str; 8] =
    ["content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"];

/// A body up to this many bytes goes out in one piece with its head.
pub const TOGETHER: usize = 16 * 1024;

/// A response ready to be sent: its head, and up to TOGETHER bytes of content, are the first piece.
#[derive(Debug)]
pub struct Encoded {
    pub status: u16,
    pub first: Vec<u8>,
    pub rest: Vec<u8>,
    /// How many bytes of content there are in both.
    pub content: usize,
}

/// What the server adds to a response.
pub struct Own<'a> {
    /// Of the request: `HEAD` has no content.
    pub is_head: bool,
    /// Header lines about CORS, each with its CR LF.
    pub cors: &'a str,
    /// Whether a guest's own headers about CORS go out.
    pub cors_is_the_guests: bool,
    /// The header line about the connection.
    pub connection: &'a str,
    /// The value of the header Date.
    pub date: &'a str,
}

/// Puts a response together. With an error, which is for the log, it can't be sent.
pub fn encode(response: Response, own: &Own<'_>) -> Result<Encoded, String> {
    let Response { status, headers, body } = response;
    if !(200..=599).contains(&status) {
        return Err(format!("the status {status} is not one of 200 to 599"));
    }
    let body = body.unwrap_or_default();
    let headers = headers.unwrap_or_default();
    let has_no_content = own.is_head || matches!(status, 204 | 205 | 304); // RFC 9110 sections 15.3.5, 15.3.6, 15.4.5
    let together = if has_no_content || body.len() > TOGETHER { 0 } else { body.len() };
    let mut head = String::with_capacity(
        256 + own.cors.len()
            + together
            + headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>(),
    );
    let _ = write!(head, "HTTP/1.1 {status} {}\r\n", phrase(status)); // to write to a String can't fail
    head += own.cors;
    head += own.connection;
    let is_dated = push_headers(&mut head, &headers, own)?;
    if let Some(length) = content_length(status, body.len(), own.is_head) {
        let _ = write!(head, "Content-Length: {length}\r\n");
    }
    if !is_dated {
        push_line(&mut head, "Date", own.date);
    }
    head += "\r\n";
    let mut first = head.into_bytes();
    let rest = if has_no_content {
        Vec::new()
    } else if body.len() <= TOGETHER {
        first.extend_from_slice(&body);
        Vec::new()
    } else {
        body
    };
    let content = together + rest.len();
    Ok(Encoded { status, first, rest, content })
}

/// Writes what of a guest's headers goes out. Says whether Date is among them.
fn push_headers(head: &mut String, headers: &[(String, String)], own: &Own<'_>) -> Result<bool, String> {
    let mut is_dated = false;
    let mut dropped: Vec<&str> = Vec::new();
    for (name, value) in headers {
        if kind(name) == Kind::Connection {
            dropped.extend(value.split(',').map(str::trim));
        }
    }
    for (name, value) in headers {
        let kind = kind(name);
        is_dated |= kind == Kind::Date;
        match kind {
            Kind::Invalid => return Err(format!("the header name {} is not a token", repr(name))),
            Kind::Dropped | Kind::Connection => continue,
            Kind::Cors if !own.cors_is_the_guests => continue,
            Kind::Kept | Kind::Cors | Kind::Date => {}
        }
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(format!("the header {name} holds a control character: {}", repr(value)));
        }
        if !dropped.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            push_line(head, name, value);
        }
    }
    Ok(is_dated)
}

fn push_line(head: &mut String, name: &str, value: &str) {
    *head += name;
    *head += ": ";
    *head += value;
    *head += "\r\n";
}

/// The Content-Length to send, if any: RFC 9110 section 8.6.
///
/// The answer to HEAD says how long that to GET is; a guest that left the content away for HEAD didn't tell.
fn content_length(status: u16, length: usize, is_head: bool) -> Option<usize> {
    match status {
        204 | 304 => None,
        205 => Some(0),
        _ if is_head && length == 0 => None,
        _ => Some(length),
    }
}

fn kind(name: &str) -> Kind {
    let begins = |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        Kind::Invalid
    } else if begins("proxy-") || NOT_THE_GUESTS.iter().any(|other| name.eq_ignore_ascii_case(other)) {
        Kind::Dropped
    } else if begins("access-control-") {
        Kind::Cors
    } else if name.eq_ignore_ascii_case("connection") {
        Kind::Connection
    } else if name.eq_ignore_ascii_case("date") {
        Kind::Date
    } else {
        Kind::Kept
    }
}

/// An answer of the server's own, which says no more than its status.
pub fn plain(status: u16, headers: &[(&str, &str)]) -> Response {
    let mut all = Vec::new();
    let mut body = Vec::new();
    if status != 204 {
        all.push(("Content-Type".into(), "text/plain; charset=utf-8".into()));
        body = format!("{}\n", phrase(status)).into_bytes();
    }
    all.extend(headers.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    Response { status, headers: Some(all), body: Some(body) }
}

/// The answer where there is no room: the client is told to come back.
pub fn busy() -> Response {
    plain(503, &[("Retry-After", "1")])
}
