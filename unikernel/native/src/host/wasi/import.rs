//! How functions are linked: as those of the bindings are.

use alloc::boxed::Box;
use core::pin::Pin;

use wasmtime::{Caller, Linker, Result};

use super::super::guest::Data;
use super::MODULE;
use super::call::{Answer, Call, answered};
use crate::bindings::canonical_abi::{self as abi, Passed};

/// The most parameters that a function has.
const MOST: usize = 9;

/// What a guest passes; zeros follow the last one.
pub type Args = [u64; MOST];

/// The same, where all parameters have 32 bits.
pub fn words(args: Args) -> [u32; MOST] {
    args.map(|value| value as u32)
}

pub type Pending<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What answers a call.
pub enum Function {
    /// At once.
    Now(fn(&mut Call<'_>, Args) -> Answer),
    /// In its own time: it begins its `Call` itself.
    Later(for<'a> fn(&'a mut Caller<'_, Data>, Args) -> Pending<'a>),
}

/// A function that guests import.
pub struct Import {
    pub name: &'static str,
    /// A letter for each parameter: `i` of 32 bits, `I` of 64 bits.
    pub params: &'static str,
    pub function: Function,
}

pub const fn now(name: &'static str, params: &'static str, function: fn(&mut Call<'_>, Args) -> Answer) -> Import {
    Import { name, params, function: Function::Now(function) }
}

pub const fn later(
    name: &'static str,
    params: &'static str,
    function: for<'a> fn(&'a mut Caller<'_, Data>, Args) -> Pending<'a>,
) -> Import {
    Import { name, params, function: Function::Later(function) }
}

/// The one function that doesn't return.
const EXIT: &str = "proc_exit";

impl Import {
    pub fn link(&'static self, linker: &mut Linker<Data>) -> Result<()> {
        let types = (self.params, if self.name == EXIT { "" } else { "i" });
        match self.function {
            Function::Now(function) => abi::link_now(linker, MODULE, self.name, types, move |mut caller, passed| {
                let answer = function(&mut Call::begin(&mut caller, self.name)?, self.args(&passed));
                passed.answer(answered(answer)?)
            }),
            Function::Later(function) => abi::link(linker, MODULE, self.name, types, move |mut caller, passed| {
                Box::new(async move {
                    let answer = function(&mut caller, self.args(&passed)).await;
                    passed.answer(answered(answer)?)
                })
            }),
        }
    }

    fn args(&self, passed: &Passed<'_>) -> Args {
        let mut args = [0; MOST];
        for (number, (arg, letter)) in args.iter_mut().zip(self.params.bytes()).enumerate() {
            *arg = if letter == b'I' { passed.u64(number) } else { passed.u32(number).into() };
        }
        args
    }
}
