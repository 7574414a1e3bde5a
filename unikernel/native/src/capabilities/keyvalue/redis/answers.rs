//! What Redis answers: RESP2, as <https://redis.io/docs/latest/develop/reference/protocol-spec/> has it.
//!
//! The crate redis-protocol decodes an answer. It sets no bounds, so that an answer is measured before: what it says of
//! lengths, numbers and nesting is believed up to what a Redis may answer to the commands that are sent to it.

use alloc::string::String;
use alloc::vec::Vec;

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;

use crate::capabilities::keyvalue::limits::{LISTING_KEY_BYTES, LISTING_LIMIT, VALUE_LIMIT};
use crate::capabilities::keyvalue::redis::faults::Fault;

/// How long a line may be: a number, a length, a status, an error. In bytes.
const LINE_LIMIT: usize = 16 * 1024;

/// What a list may take, in bytes, where an element takes its length and LISTING_KEY_BYTES. SCAN's are the longest: a
/// listing of keys, of which it is a part, may take no more.
const LIST_LIMIT: usize = LISTING_LIMIT + LINE_LIMIT;

/// How deep lists may lie in lists: a SCAN answers with a list in a list.
const DEPTH: usize = 4;

/// A value from this length on keeps the buffer that it was received in, in bytes.
const LONG: usize = 64 * 1024;

/// How much is read at once, in bytes, where no more is known to come.
const CHUNK: usize = 16 * 1024;

/// How much is read at once at most, in bytes.
const LONGEST_CHUNK: usize = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is no such value.
    Nothing,
    /// `OK`.
    Status(Vec<u8>),
    Number(i64),
    Value(Vec<u8>),
    List(Vec<Answer>),
    Error(String),
    /// A value of so many bytes, which are more than a value may have. They were passed over.
    TooLong(usize),
    /// A value of so many bytes, for which there was no memory. They were passed over.
    NoMemory(usize),
}

/// What was received and not yet taken.
#[derive(Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    /// Where the bytes end that are of answers that were taken.
    taken: usize,
    measured: Measured,
    passing_over: Option<PassingOver>,
    /// How many bytes are known to come.
    missing: usize,
}

/// A value that isn't kept.
struct PassingOver {
    /// In bytes, with the line end.
    left: usize,
    answer: Answer,
}

impl Inbox {
    /// Room for what comes next; `received` says how much of it was used.
    pub fn room(&mut self) -> Result<&mut [u8], Fault> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let length = self.buffer.len();
        let more = self.missing.clamp(CHUNK, LONGEST_CHUNK);
        self.buffer.try_reserve(more).map_err(|_| Fault::NoMemory(length + more))?;
        self.buffer.resize(length + more, 0);
        Ok(&mut self.buffer[length..])
    }

    /// So many of the bytes of `room` are unused.
    pub fn unused(&mut self, bytes: usize) {
        self.buffer.truncate(self.buffer.len().saturating_sub(bytes));
    }

    /// The next answer that has come whole.
    pub fn next(&mut self) -> Result<Option<Answer>, Fault> {
        loop {
            if let Some(passing) = &mut self.passing_over {
                let passed = passing.left.min(self.buffer.len() - self.taken);
                passing.left -= passed;
                self.taken += passed;
                self.missing = passing.left;
                return Ok(self.passing_over.take_if(|passing| passing.left == 0).map(|passing| passing.answer));
            }
            match self.measured.look(&self.buffer[self.taken..])? {
                Extent::Partial { missing } => {
                    self.missing = missing;
                    return Ok(None);
                }
                Extent::Whole(length) => return self.take(length).map(Some),
                Extent::Value { header, length } => {
                    let end = header + length + 2;
                    if length > VALUE_LIMIT {
                        self.pass_over(header, length, Answer::TooLong(length));
                    } else if self.buffer.len() - self.taken >= end {
                        return self.take_value(header, length).map(Some);
                    } else if self.has_room_for(end) {
                        self.missing = end - (self.buffer.len() - self.taken);
                        return Ok(None);
                    } else {
                        self.pass_over(header, length, Answer::NoMemory(length));
                    }
                }
            }
        }
    }

    fn has_room_for(&mut self, bytes: usize) -> bool {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        // What is read at once may be more than what is missing.
        self.buffer.try_reserve_exact((bytes + CHUNK).saturating_sub(self.buffer.len())).is_ok()
    }

    fn pass_over(&mut self, header: usize, length: usize, answer: Answer) {
        self.measured = Measured::default();
        self.passing_over = Some(PassingOver { left: header.saturating_add(length).saturating_add(2), answer });
    }

    /// An answer of so many bytes that is no value.
    fn take(&mut self, length: usize) -> Result<Answer, Fault> {
        self.measured = Measured::default();
        self.missing = 0;
        let bytes = &self.buffer[self.taken..self.taken + length];
        self.taken += length;
        match decode_range(bytes) {
            Ok(Some((frame, used))) if used == length => answer(bytes, frame),
            _ => Err(Fault::NotRedis),
        }
    }

    fn take_value(&mut self, header: usize, length: usize) -> Result<Answer, Fault> {
        self.measured = Measured::default();
        self.missing = 0;
        let start = self.taken + header;
        let end = start + length;
        if self.buffer[end..end + 2] != *b"\r\n" {
            return Err(Fault::NotRedis);
        }
        if length < LONG {
            self.taken = end + 2;
            return Ok(Answer::Value(self.buffer[start..end].to_vec()));
        }
        let rest = self.buffer.split_off(end + 2);
        let mut value = core::mem::replace(&mut self.buffer, rest);
        self.taken = 0;
        value.truncate(end);
        value.drain(..start);
        Ok(Answer::Value(value))
    }
}

/// How far an answer is known.
enum Extent {
    /// At least so many bytes are missing.
    Partial { missing: usize },
    /// It has come whole, and is so long.
    Whole(usize),
    /// It is a value, which has so many bytes behind its header of so many.
    Value { header: usize, length: usize },
}

/// How far an answer was looked at, element by element.
#[derive(Default)]
struct Measured {
    at: usize,
    /// How many elements are missing to the lists that it is in.
    open: Vec<usize>,
    /// What its elements take.
    size: usize,
}

impl Measured {
    fn look(&mut self, bytes: &[u8]) -> Result<Extent, Fault> {
        loop {
            let rest = &bytes[self.at..];
            let line = &rest[..rest.len().min(LINE_LIMIT)];
            let Some(line_end) = line.windows(2).position(|pair| pair == b"\r\n") else {
                return if line.len() == LINE_LIMIT {
                    Err(Fault::NotRedis)
                } else {
                    Ok(Extent::Partial { missing: 1 })
                };
            };
            let header = line_end + 2;
            let mut end = header;
            match line.first() {
                Some(b'+' | b'-' | b':') => self.add(line_end)?,
                Some(b'$') => {
                    if let Some(length) = length(&line[1..line_end])? {
                        if self.open.is_empty() {
                            return Ok(Extent::Value { header, length });
                        }
                        self.add(length)?;
                        end = header + length + 2;
                        if rest.len() < end {
                            return Ok(Extent::Partial { missing: end - rest.len() });
                        }
                        if rest[end - 2..end] != *b"\r\n" {
                            return Err(Fault::NotRedis);
                        }
                    }
                }
                Some(b'*') => {
                    if let Some(number) = length(&line[1..line_end])?.filter(|number| *number > 0) {
                        // Each one takes as much at least, so that a lie is found before anything comes.
                        if number > LIST_LIMIT / LISTING_KEY_BYTES {
                            return Err(Fault::TooLong);
                        }
                        if self.open.len() == DEPTH {
                            return Err(Fault::NotRedis);
                        }
                        self.at += header;
                        self.open.push(number);
                        continue;
                    }
                }
                _ => return Err(Fault::NotRedis),
            }
            self.at += end;
            if self.has_ended() {
                return Ok(Extent::Whole(self.at));
            }
        }
    }

    fn add(&mut self, bytes: usize) -> Result<(), Fault> {
        self.size = self.size.saturating_add(bytes).saturating_add(LISTING_KEY_BYTES);
        if self.size > LIST_LIMIT { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// Whether the element that ended was the last one.
    fn has_ended(&mut self) -> bool {
        while let Some(missing) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// A length or a number of elements; -1 stands for no value at all.
fn length(digits: &[u8]) -> Result<Option<usize>, Fault> {
    if digits == b"-1" {
        return Ok(None);
    }
    let text = core::str::from_utf8(digits).map_err(|_| Fault::NotRedis)?;
    let is_number = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_digit);
    let number = text.parse().ok().filter(|_| is_number);
    number.map(Some).ok_or(Fault::NotRedis)
}

/// An answer of its bytes, whose nesting is bounded.
fn answer(bytes: &[u8], frame: RangeFrame) -> Result<Answer, Fault> {
    let part = |(start, end): (usize, usize)| bytes.get(start..end).ok_or(Fault::NotRedis);
    Ok(match frame {
        RangeFrame::Null => Answer::Nothing,
        RangeFrame::Integer(number) => Answer::Number(number),
        RangeFrame::SimpleString(range) => Answer::Status(part(range)?.to_vec()),
        RangeFrame::BulkString(range) => Answer::Value(part(range)?.to_vec()),
        RangeFrame::Error(range) => Answer::Error(String::from_utf8_lossy(part(range)?).into_owned()),
        RangeFrame::Array(frames) => {
            Answer::List(frames.into_iter().map(|element| answer(bytes, element)).collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
