//! What whoever runs the machine is told when a capability refuses or fails: one line for a cause, not for a call.
//!
//! An application may swallow its errors, and its user would be left with nothing. What is told holds no secret.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};

use crate::capabilities::text::printable;
use crate::host::log;
use crate::host::sync::Mutex;

/// How many causes are told that are about the same thing: a guest that opens a new name each time must not fill the
/// log, nor silence what is told of the outage of a server.
pub const LIMIT: usize = 100;

/// How many causes are told in all.
pub const TOTAL_LIMIT: usize = 1000;

/// How many characters of a cause are told.
pub const TEXT_LIMIT: usize = 1000;

static TOLD: Mutex<Told> = Mutex::new(Told::new());

/// Tells a cause as a warning, unless the same was told before.
pub fn tell(cause: &str) {
    let line = TOLD.lock().note(cause);
    if let Some(line) = line {
        log::warning(&line);
    }
}

struct Told {
    causes: BTreeSet<String>,
    /// How many were told by what they are about, which is their first word; and in all.
    numbers: BTreeMap<String, usize>,
    total: usize,
}

impl Told {
    const fn new() -> Told {
        Told { causes: BTreeSet::new(), numbers: BTreeMap::new(), total: 0 }
    }

    /// The line to tell, if any.
    fn note(&mut self, cause: &str) -> Option<String> {
        let cause = printable(cause, TEXT_LIMIT);
        if self.causes.contains(&cause) || self.total > TOTAL_LIMIT {
            return None;
        }
        // A cause begins with what it is about: the slightfile's path where that refuses something, else the service
        // or the resource type. None of them is of a guest's choosing.
        let subject = cause.split(' ').next().unwrap_or_default().to_string();
        let more = format!("{subject} there are more warnings of this kind, which are left out");
        let number = self.numbers.entry(subject).or_default();
        if *number > LIMIT {
            return None;
        }
        let is_last = *number == LIMIT || self.total == TOTAL_LIMIT;
        *number += 1;
        self.total += 1;
        if is_last {
            return Some(more);
        }
        self.causes.insert(cause.clone());
        Some(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let mut told = Told::new();
        assert_eq!(told.note("redis 127.0.0.1:1: it is away").as_deref(), Some("redis 127.0.0.1:1: it is away"));
        assert_eq!(told.note("redis 127.0.0.1:1: it is away"), None);
        assert_eq!(told.note("redis 127.0.0.1:2: it is away").as_deref(), Some("redis 127.0.0.1:2: it is away"));
    }

    #[test]
    fn many_causes_about_one_thing_silence_nothing_else() {
        let mut told = Told::new();
        let lines = (0..1000).filter_map(|number| told.note(&format!("app.toml: no store {number}"))).count();
        assert_eq!(lines, LIMIT + 1);
        assert_eq!(told.note("redis it is away").as_deref(), Some("redis it is away"));
    }

    #[test]
    fn causes_about_many_things_come_to_an_end() {
        let mut told = Told::new();
        let lines = (0..10_000).filter_map(|number| told.note(&format!("{number} is away"))).count();
        assert_eq!(lines, TOTAL_LIMIT + 1);
    }

    #[test]
    fn a_cause_is_one_short_line() {
        let line = Told::new().note(&format!("redis a\nb{}", "x".repeat(5000))).unwrap();
        assert!(line.starts_with("redis a\\nb"));
        assert_eq!(line.chars().count(), TEXT_LIMIT + 1 + 1);
    }
}
