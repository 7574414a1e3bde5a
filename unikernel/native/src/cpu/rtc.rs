//! The clock that a PC has in its CMOS memory (Motorola's MC146818), which QEMU sets to UTC.
use core::time::Duration;

use super::port;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

/// Seconds, minutes, hours, day, month and year of the century.
const FIELDS: [u8; 6] = [0, 2, 4, 7, 8, 9];
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const UPDATING: u8 = 0x80;
const BINARY: u8 = 4;
const TWENTY_FOUR_HOURS: u8 = 2;
const AFTERNOON: u8 = 0x80;

/// What is read where there is no device: no clock that runs has all these bits set in its first status.
const NOTHING: u8 = 0xff;

/// How often a time is read until two are the same. An update takes 2 ms, and comes once in a second.
const TRIES: usize = 10_000;

/// The time since 1970 (UTC), to the second. None where there is no such clock, or it has no time.
pub fn read() -> Option<Duration> {
    let mut last = None;
    for _ in 0..TRIES {
        match register(STATUS_A) {
            NOTHING => return None,
            status if status & UPDATING != 0 => continue,
            _ => {}
        }
        let fields = Some(FIELDS.map(register));
        if fields == last {
            return seconds(fields?, register(STATUS_B)).map(Duration::from_secs);
        }
        last = fields;
    }
    None
}

fn register(number: u8) -> u8 {
    // SAFETY: these registers touch no memory.
    unsafe {
        port::write_u8(INDEX, number);
        port::read_u8(DATA)
    }
}

/// The seconds since 1970 of a time in this century.
fn seconds(fields: [u8; 6], status: u8) -> Option<u64> {
    let number = |value: u8| if status & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 15) };
    let afternoon = status & TWENTY_FOUR_HOURS == 0 && fields[2] & AFTERNOON != 0;
    let [second, minute, hour, day, month, year] =
        [fields[0], fields[1], fields[2] & !if afternoon { AFTERNOON } else { 0 }, fields[3], fields[4], fields[5]]
            .map(|field| u64::from(number(field)));
    let hour = match (status & TWENTY_FOUR_HOURS != 0, afternoon) {
        (true, _) => hour,
        (false, afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
    };
    let valid = second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month);
    // Days before a month in a year that begins with March, so that a leap day is the last one.
    let (year, from_march) = if month > 2 { (2000 + year, month - 3) } else { (1999 + year, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (from_march * 153 + 2) / 5 + day - 1;
    const DAYS_TO_1970: u64 = 719_468;
    valid.then(|| (days - DAYS_TO_1970) * 86_400 + hour * 3600 + minute * 60 + second)
}
