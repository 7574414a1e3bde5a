//! The bodies of requests: their bytes, out of what comes over a connection.

use alloc::vec::Vec;

use super::head::{MAX_LINE, is_token_byte, parse_field};
use super::meaning::Framing;

/// How many bytes the sizes, extensions and trailers of the chunks of a body may take.
const MAX_FRAMING: u64 = 64 * 1024;

/// And how many besides that for each byte of the body: chunks of a single byte take five.
const FRAMING_PER_BYTE: u64 = 8;

/// Why a body is not read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Its framing is broken, or out of proportion to it.
    Broken,
    /// It is longer than the server allows.
    TooLarge,
    /// The machine has no memory for it.
    NoRoom,
}

/// The body of a request while it comes.
#[derive(Debug)]
pub struct Body {
    pub bytes: Vec<u8>,
    most: u64,
    left: Left,
}

/// What is to come.
#[derive(Debug)]
enum Left {
    Bytes(u64),
    Chunks(Chunks),
}

impl Body {
    /// A body of `most` bytes at most. `TooLarge` where the head says that it has more.
    pub fn new(framing: Framing, most: u64) -> Result<Body, BodyError> {
        let left = match framing {
            Framing::Length(length) if length > most => return Err(BodyError::TooLarge),
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked | Framing::Encoded => Left::Chunks(Chunks::default()),
        };
        Ok(Body { bytes: Vec::new(), most, left })
    }

    /// Whether all of it has come.
    pub fn is_whole(&self) -> bool {
        match &self.left {
            Left::Bytes(left) => *left == 0,
            Left::Chunks(chunks) => matches!(chunks.next, Next::Nothing),
        }
    }

    /// Takes what of the bytes belongs to the body; gives how many.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        match &mut self.left {
            Left::Bytes(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                extend(&mut self.bytes, &bytes[..count], self.most)?;
                *left -= count as u64;
                Ok(count)
            }
            Left::Chunks(chunks) => chunks.take(bytes, &mut self.bytes, self.most),
        }
    }
}

fn extend(body: &mut Vec<u8>, bytes: &[u8], most: u64) -> Result<(), BodyError> {
    if (body.len() + bytes.len()) as u64 > most {
        return Err(BodyError::TooLarge);
    }
    body.try_reserve(bytes.len()).map_err(|_| BodyError::NoRoom)?;
    body.extend_from_slice(bytes);
    Ok(())
}

/// A body in chunks: RFC 9112 section 7.1.
#[derive(Debug, Default)]
struct Chunks {
    next: Next,
    /// How many bytes were taken that are not the body's.
    framing: u64,
    /// The line of a trailer.
    line: Vec<u8>,
}

/// What the next byte is part of.
#[derive(Debug)]
enum Next {
    /// The size of a chunk, so many so far; `None` before its first digit.
    Size(Option<u64>),
    /// What may follow the size.
    Extension(u64, Extension),
    /// The LF behind the size.
    EndOfSize(u64),
    /// The bytes of a chunk, so many of them.
    Data(u64),
    /// The CR and the LF behind them.
    EndOfData,
    EndOfDataLine,
    /// A trailer, or the end.
    Trailer,
    Nothing,
}

impl Default for Next {
    fn default() -> Self {
        Next::Size(None)
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8], body: &mut Vec<u8>, most: u64) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < bytes.len() && !matches!(self.next, Next::Nothing) {
            if let Next::Data(left) = self.next {
                let count = (bytes.len() - at).min(usize::try_from(left).unwrap_or(usize::MAX));
                extend(body, &bytes[at..at + count], most)?;
                at += count;
                let left = left - count as u64;
                self.next = if left > 0 { Next::Data(left) } else { Next::EndOfData };
                continue;
            }
            self.next = self.framing_byte(bytes[at])?;
            at += 1;
            self.framing += 1;
            if self.framing > MAX_FRAMING + FRAMING_PER_BYTE * body.len() as u64 {
                return Err(BodyError::Broken);
            }
        }
        Ok(at)
    }

    fn framing_byte(&mut self, byte: u8) -> Result<Next, BodyError> {
        let next = match (&self.next, byte) {
            (Next::Size(Some(size)), b'\r') => Next::EndOfSize(*size),
            (Next::Size(Some(size)), b';') => Next::Extension(*size, Extension::NameBegins),
            (Next::Size(size), _) => {
                let digit = char::from(byte).to_digit(16).ok_or(BodyError::Broken)?;
                let larger = size.unwrap_or(0).checked_mul(16).ok_or(BodyError::Broken)?;
                Next::Size(Some(larger + u64::from(digit)))
            }
            (Next::Extension(size, extension), b'\r') if extension.may_end() => Next::EndOfSize(*size),
            (Next::Extension(size, extension), _) => Next::Extension(*size, extension.next(byte)?),
            (Next::EndOfSize(0), b'\n') => Next::Trailer,
            (Next::EndOfSize(size), b'\n') => Next::Data(*size),
            (Next::EndOfData, b'\r') => Next::EndOfDataLine,
            (Next::EndOfDataLine, b'\n') => Next::Size(None),
            (Next::Trailer, b'\n') => self.end_of_trailer()?,
            (Next::Trailer, _) if self.line.len() <= MAX_LINE + 2 => {
                self.line.push(byte);
                Next::Trailer
            }
            _ => return Err(BodyError::Broken),
        };
        Ok(next)
    }

    /// The line of a trailer is complete, or the empty one behind the last. Trailers are checked, and forgotten.
    fn end_of_trailer(&mut self) -> Result<Next, BodyError> {
        if self.line == b"\r" {
            return Ok(Next::Nothing);
        }
        self.line.push(b'\n');
        if !self.line.ends_with(b"\r\n") {
            return Err(BodyError::Broken);
        }
        let (name, _) = parse_field(&self.line).ok_or(BodyError::Broken)?;
        // RFC 9110 section 6.5.1 has none of them in a trailer.
        let frames = |framing: &[u8]| self.line[name.clone()].eq_ignore_ascii_case(framing);
        if frames(b"content-length") || frames(b"transfer-encoding") {
            return Err(BodyError::Broken);
        }
        self.line.clear();
        Ok(Next::Trailer)
    }
}

/// What comes next of the extensions of a chunk, `;name=value;name="value"`: RFC 9112 section 7.1.1. They are checked,
/// and of no interest.
#[derive(Clone, Copy, Debug)]
enum Extension {
    NameBegins,
    Name,
    ValueBegins,
    Value,
    Quoted,
    /// The byte behind a backslash in quotes.
    Escaped,
    EndOfQuoted,
}

impl Extension {
    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Value | Extension::EndOfQuoted)
    }

    fn next(self, byte: u8) -> Result<Extension, BodyError> {
        let next = match (self, byte) {
            (Extension::NameBegins | Extension::Name, _) if is_token_byte(byte) => Extension::Name,
            (Extension::ValueBegins | Extension::Value, _) if is_token_byte(byte) => Extension::Value,
            (Extension::Name, b'=') => Extension::ValueBegins,
            (Extension::ValueBegins, b'"') => Extension::Quoted,
            (Extension::Name | Extension::Value | Extension::EndOfQuoted, b';') => Extension::NameBegins,
            (Extension::Quoted, b'"') => Extension::EndOfQuoted,
            (Extension::Quoted, b'\\') => Extension::Escaped,
            (Extension::Quoted | Extension::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Extension::Quoted,
            _ => return Err(BodyError::Broken),
        };
        Ok(next)
    }
}
