//! How a guest ends, in the words of `slight-py run`.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use wasmtime::{Error, Trap};

use crate::bindings::canonical_abi::Fault;

/// A guest ended itself with WASI's `proc_exit`: what the call returns, so that the guest gets no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "the guest exited with code {}", self.0)
    }
}

impl core::error::Error for Exit {}

/// A guest asked for what whoever runs the machine has to put right, such as a port that is taken: what the call returns,
/// so that the guest gets no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake(pub String);

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl core::error::Error for Mistake {}

/// Why a guest was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It ended itself, with a code.
    Exit(u8),
    /// A trap; the text is the reason.
    Trap(String),
    /// It broke a rule of the binary interface or of WASI.
    Fault(String),
    /// It can't be instantiated within the limits, or in this machine.
    Invalid(String),
    /// It asked for what whoever runs the machine has to put right.
    Mistake(String),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        if let Some(exit) = error.downcast_ref::<Exit>() {
            return Ended::Exit(exit.0);
        }
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Ended::Fault(one_line(&fault.to_string()));
        }
        if let Some(mistake) = error.downcast_ref::<Mistake>() {
            return Ended::Mistake(mistake.0.clone());
        }
        Ended::Trap(reason(&error))
    }
}

impl Ended {
    /// What an error of instantiation means: a trap of the start function, or that there is no room.
    pub(super) fn at_start(error: Error) -> Self {
        let ran = error.downcast_ref::<Trap>().is_some() || error.downcast_ref::<wasmtime::WasmBacktrace>().is_some();
        match Ended::from(error) {
            Ended::Trap(reason) if !ran => Ended::Invalid(reason),
            ended => ended,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Ended::Exit(code) => Exit(*code).fmt(formatter),
            Ended::Trap(reason) | Ended::Fault(reason) | Ended::Invalid(reason) | Ended::Mistake(reason) => formatter.write_str(reason),
        }
    }
}

/// What wasmtime's messages have after `Caused by:`, where the backtrace is first.
fn reason(error: &Error) -> String {
    let mut causes = error.chain().skip(1).peekable();
    let Some(first) = causes.next() else {
        return one_line(&error.to_string());
    };
    if causes.peek().is_none() {
        return one_line(&first.to_string());
    }
    let numbered = core::iter::once(first).chain(causes).enumerate().map(|(number, cause)| format!("{number}: {cause}"));
    one_line(&numbered.collect::<alloc::vec::Vec<_>>().join(" "))
}

/// The text with a space for each run of white space.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<alloc::vec::Vec<_>>().join(" ")
}
