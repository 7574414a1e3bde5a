//! How functions are linked: all in one way, whatever their parameters, as a copy of it for each kind of signature would be
//! as large as all of the functions.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::pin::Pin;

use wasmtime::{Caller, FuncType, Linker, Result, Val, ValType};

use super::super::guest::Data;
use super::MODULE;
use super::call::{Answer, Call, answered};

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

pub const fn now(
    name: &'static str,
    params: &'static str,
    function: fn(&mut Call<'_>, Args) -> Answer,
) -> Import {
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
        let params = self.params.bytes().map(|letter| if letter == b'I' { ValType::I64 } else { ValType::I32 });
        let results: &[ValType] = if self.name == EXIT { &[] } else { &[ValType::I32] };
        let signature = FuncType::new(linker.engine(), params.collect::<Vec<_>>(), results.iter().cloned());
        match self.function {
            Function::Now(function) => {
                linker.func_new(MODULE, self.name, signature, move |mut caller, params, results| {
                    let answer = function(&mut Call::begin(&mut caller, self.name)?, args(params));
                    put(answer, results)
                })?;
            }
            Function::Later(function) => {
                linker.func_new_async(MODULE, self.name, signature, move |mut caller, params, results| {
                    Box::new(async move {
                        let answer = function(&mut caller, args(params)).await;
                        put(answer, results)
                    })
                })?;
            }
        }
        Ok(())
    }
}

fn args(params: &[Val]) -> Args {
    let mut args = [0; MOST];
    for (arg, param) in args.iter_mut().zip(params) {
        *arg = match param {
            Val::I32(value) => u64::from(*value as u32),
            Val::I64(value) => *value as u64,
            _ => 0, // no function has another one
        };
    }
    args
}

fn put(answer: Answer, results: &mut [Val]) -> Result<()> {
    let number = answered(answer)?;
    if let Some(result) = results.first_mut() {
        *result = Val::I32(number as i32);
    }
    Ok(())
}
