//! The heads of requests: where they end, and what they say.
//!
//! A head is read line by line as it comes, so that a malformed one is refused as soon as it is seen to be malformed,
//! and so that the way in which it is cut into packets makes no difference. Lines end with CR LF and nothing else, no
//! line is folded, and whatever two servers could read in two ways is refused (RFC 9112).

use alloc::vec::Vec;
use core::ops::Range;

use super::meaning::{Framing, Meaning, meaning};
use super::target::is_target;

/// The longest request target, and the longest header with its name, in bytes.
pub const MAX_LINE: usize = 8190;

/// The most headers of a request.
pub const MAX_HEADERS: usize = 128;

/// The longest line of a header: name and value, and the colon and the space between them.
const MAX_HEADER_LINE: usize = MAX_LINE + 2;

/// The longest method in bytes. There is none of that length; one that isn't known is answered as such.
const MAX_METHOD: usize = 1000;

/// What a request is answered with that can't be understood. Its connection is closed, as nobody knows where the next
/// request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    BadRequest,
    TargetTooLong,
    HeaderTooLong,
    UnknownVersion,
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// Request line and headers as they came.
    bytes: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<Field>,
    /// Whether it is HTTP/1.1, and not 1.0.
    pub is_http_11: bool,
    pub meaning: Meaning,
}

/// The places of a header's name and value.
#[derive(Debug)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

impl Head {
    /// A token of RFC 9110.
    pub fn method(&self) -> &str {
        core::str::from_utf8(&self.bytes[self.method.clone()]).unwrap_or_default()
    }

    /// As it was sent: not empty, and without spaces and control characters.
    pub fn target(&self) -> &[u8] {
        &self.bytes[self.target.clone()]
    }

    /// Names as they were sent, and values without the spaces around them.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        fields_of(&self.bytes, &self.fields)
    }

    /// The value of the first header of that name, in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    pub fn framing(&self) -> Framing {
        self.meaning.framing
    }
}

fn fields_of<'a>(bytes: &'a [u8], fields: &'a [Field]) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> {
    fields.iter().map(|field| {
        let name = core::str::from_utf8(&bytes[field.name.clone()]).unwrap_or_default();
        (name, &bytes[field.value.clone()])
    })
}

/// How far a head has come.
#[derive(Debug)]
pub enum Progress {
    /// The bytes so far may be the beginning of one.
    More,
    /// It is complete, and takes so many bytes.
    Complete(Head, usize),
    Malformed(Malformed),
    /// The machine has no memory for it.
    NoRoom,
}

/// Reads one head.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the head begins, behind empty lines. Places in `fields` and in `request_line` are counted from there.
    start: usize,
    /// Where the line begins that isn't complete.
    line: usize,
    /// Up to where there is no end of a line.
    seen: usize,
    request_line: Option<RequestLine>,
    fields: Vec<Field>,
}

impl HeadReader {
    /// Looks at all that came since the request before: the bytes of the last call, and what follows them.
    pub fn read(&mut self, bytes: &[u8]) -> Progress {
        while let Some(at) = bytes[self.seen..].iter().position(|&byte| byte == b'\n') {
            let line = self.line..self.seen + at;
            self.seen = line.end + 1;
            self.line = self.seen;
            match self.take_line(bytes, line) {
                Err(malformed) => return Progress::Malformed(malformed),
                Ok(false) => {}
                Ok(true) => return self.complete(bytes),
            }
        }
        self.seen = bytes.len();
        match self.check_beginning(&bytes[self.line..]) {
            Err(malformed) => Progress::Malformed(malformed),
            Ok(()) => Progress::More,
        }
    }

    /// Forgets empty lines before the request, which need not be kept; gives how many bytes they take.
    pub fn forget_empty_lines(&mut self) -> usize {
        let count = core::mem::take(&mut self.start);
        self.line -= count;
        self.seen -= count;
        count
    }

    /// Whether more has come than empty lines.
    pub fn has_begun(&self) -> bool {
        self.seen > self.start
    }

    /// Takes the bytes of a line, without its LF. Says whether it is the last one.
    fn take_line(&mut self, bytes: &[u8], line: Range<usize>) -> Result<bool, Malformed> {
        self.check_beginning(&bytes[line.clone()])?;
        if self.request_line.is_none() && line.is_empty() {
            self.start = self.line; // the LF of an empty line is enough before a request, where nothing depends on it
            return Ok(false);
        }
        let end = line.end.checked_sub(1).filter(|&at| at >= line.start && bytes[at] == b'\r');
        let content = line.start..end.ok_or(Malformed::BadRequest)?;
        if self.request_line.is_none() {
            if content.is_empty() {
                self.start = self.line; // RFC 9112 section 2.2 has empty lines before a request ignored
            } else {
                self.request_line = Some(RequestLine::parse(&bytes[content.clone()], content.start - self.start)?);
            }
            return Ok(false);
        }
        if content.is_empty() {
            return Ok(true);
        }
        self.take_field(bytes, line.start..line.end + 1)?;
        Ok(false)
    }

    /// Takes the line of a header, with its CR LF.
    fn take_field(&mut self, bytes: &[u8], line: Range<usize>) -> Result<(), Malformed> {
        if line.len() - 2 > MAX_HEADER_LINE {
            return Err(Malformed::HeaderTooLong);
        }
        if self.fields.len() == MAX_HEADERS {
            return Err(Malformed::BadRequest);
        }
        let (name, value) = parse_field(&bytes[line.clone()]).ok_or(Malformed::BadRequest)?;
        let base = line.start - self.start;
        let moved = |range: Range<usize>| base + range.start..base + range.end;
        self.fields.push(Field { name: moved(name), value: moved(value) });
        Ok(())
    }

    /// Refuses what can't become a line, whatever follows.
    fn check_beginning(&self, line: &[u8]) -> Result<(), Malformed> {
        match self.request_line {
            None if line.is_empty() || line == b"\r" => Ok(()),
            None => check_request_line(line),
            Some(_) if line.len() > MAX_HEADER_LINE + 1 => Err(Malformed::HeaderTooLong),
            Some(_) => Ok(()),
        }
    }

    fn complete(&mut self, bytes: &[u8]) -> Progress {
        let Some(line) = self.request_line.take() else { return Progress::Malformed(Malformed::BadRequest) };
        let fields = core::mem::take(&mut self.fields);
        let came = &bytes[self.start..self.seen];
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(came.len()).is_err() {
            return Progress::NoRoom;
        }
        bytes.extend_from_slice(came);
        match meaning(line.is_http_11, fields_of(&bytes, &fields)) {
            Err(malformed) => Progress::Malformed(malformed),
            Ok(meaning) => {
                let RequestLine { method, target, is_http_11 } = line;
                Progress::Complete(Head { bytes, method, target, fields, is_http_11, meaning }, self.seen)
            }
        }
    }
}

/// The places of a header's name and value, without the spaces around it, in a line with its CR LF.
pub fn parse_field(line: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let mut fields = [httparse::EMPTY_HEADER];
    // It asks for more, as there is no empty line behind.
    if !matches!(httparse::parse_headers(line, &mut fields), Ok(httparse::Status::Partial)) {
        return None;
    }
    let [field] = fields;
    let name = 0..field.name.len();
    let after = name.end + 1;
    if name.is_empty() || line.get(name.end) != Some(&b':') {
        return None;
    }
    let spaces = line[after..].iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    let start = (after + spaces).min(line.len().saturating_sub(2));
    let value = line[start..line.len() - 2].trim_ascii_end();
    Some((name, start..start + value.len()))
}

#[derive(Debug)]
struct RequestLine {
    method: Range<usize>,
    target: Range<usize>,
    is_http_11: bool,
}

impl RequestLine {
    /// Parses a line without its CR LF, which begins at `base`.
    fn parse(line: &[u8], base: usize) -> Result<RequestLine, Malformed> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (method, target, version) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(method), Some(target), Some(version), None) => (method, target, version),
            (Some(_), Some([b'/', ..]), None, None) => return Err(Malformed::UnknownVersion), // HTTP/0.9 has no version
            _ => return Err(Malformed::BadRequest),
        };
        let is_http_11 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(Malformed::UnknownVersion);
            }
            _ => return Err(Malformed::BadRequest),
        };
        // A tunnel has the form of RFC 9112 section 3.2.3. None is made, so it is of no interest.
        if method != b"CONNECT" && !is_target(method, target) {
            return Err(Malformed::BadRequest);
        }
        let target = base + method.len() + 1..base + method.len() + 1 + target.len();
        Ok(RequestLine { method: base..base + method.len(), target, is_http_11 })
    }
}

/// Refuses what can't be the beginning of a request line, or all of it without its LF.
fn check_request_line(line: &[u8]) -> Result<(), Malformed> {
    let end = line.iter().position(|&byte| byte == b' ');
    let method = &line[..end.unwrap_or(line.len())];
    // The end of the line may be there already, where there should be a space.
    let ends_here = end.is_none() && method.last() == Some(&b'\r');
    if ends_here || method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(|&byte| is_token_byte(byte)) {
        return Err(Malformed::BadRequest);
    }
    let Some(end) = end else { return Ok(()) };
    let rest = &line[end + 1..];
    let end = rest.iter().position(|&byte| byte == b' ');
    let rest = if end.is_none() { rest.strip_suffix(b"\r").unwrap_or(rest) } else { rest };
    let target = &rest[..end.unwrap_or(rest.len())];
    if target.len() > MAX_LINE {
        return Err(Malformed::TargetTooLong);
    }
    if (end.is_some() && target.is_empty()) || target.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(Malformed::BadRequest);
    }
    let Some(end) = end else { return Ok(()) };
    let fits = rest[end + 1..].iter().zip(b"HTTP/#.#\r").all(|(byte, expected)| match expected {
        b'#' => byte.is_ascii_digit(),
        _ => byte == expected,
    });
    if fits && rest.len() - end - 1 <= b"HTTP/#.#\r".len() { Ok(()) } else { Err(Malformed::BadRequest) }
}

/// Whether the byte may be part of a token: RFC 9110 section 5.6.2.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
