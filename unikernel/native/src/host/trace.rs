//! Calls of capabilities, shown once they are answered where `--verbose` asks for it, as `slight_py/trace.py` shows them:
//!
//! ```text
//! keyvalue::get("greeting") = 5 bytes  0.3 ms
//! ```
//!
//! What is shown holds no secret: the names of things, sizes, and the texts of errors, which are for the guest.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use super::{log, platform};
use crate::capabilities::text::{ERROR, QUOTED, toml};

static WANTED: AtomicBool = AtomicBool::new(false);

/// Says whether calls are shown from now on.
pub fn want(wanted: bool) {
    WANTED.store(wanted, Ordering::Relaxed);
}

pub fn wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}

/// A value in a call, or what came of one.
pub enum Shown<'a> {
    /// The name of something of the guest's.
    Name(&'a str),
    /// What has nothing else to show: `ok`, or a resource by its type.
    Word(&'a str),
    /// How many bytes there are, or elements.
    Count(usize, &'a str),
    /// An error: the name of its case, and its text.
    Error(&'a str, &'a str),
}

impl Shown<'_> {
    fn text(&self) -> String {
        match self {
            Shown::Name(name) => toml(name, QUOTED),
            Shown::Word(word) => String::from(*word),
            Shown::Count(count, what) => format!("{count} {what}{}", if *count == 1 { "" } else { "s" }),
            Shown::Error(case, text) => format!("{case}({})", toml(text, ERROR)),
        }
    }
}

/// A call under way. One that is dropped was cancelled.
pub struct Call(Option<(String, Duration)>);

impl Call {
    /// Begins with the names of the interface, or the resource, and of the function, and with the arguments.
    pub fn begin(of: &str, function: &str, arguments: &[Shown<'_>]) -> Call {
        Call(wanted().then(|| {
            let mut shown = format!("{of}::{function}(");
            for (number, argument) in arguments.iter().enumerate() {
                shown += if number > 0 { ", " } else { "" };
                shown += &argument.text();
            }
            (shown + ")", platform::now())
        }))
    }

    /// Shows it, with what came of it.
    pub fn end(mut self, outcome: &Shown<'_>) {
        self.show(outcome);
    }

    fn show(&mut self, outcome: &Shown<'_>) {
        if let Some((shown, began)) = self.0.take() {
            let tenths = ((platform::now() - began).as_micros() + 50) / 100;
            log::info(&format!("{shown} = {}  {}.{} ms", outcome.text(), tenths / 10, tenths % 10));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.show(&Shown::Word("cancelled"));
    }
}
