//! Arguments, variables, clocks, random numbers.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use wasmtime::{Caller, Linker, Result};

use super::super::executor::yield_now;
use super::super::guest::{Data, Exit};
use super::super::platform;
use super::MODULE;
use super::call::{Answer, Call, answered};
use super::errno::Errno;
use alloc::boxed::Box;

/// Texts as C has them, one after the other.
#[derive(Debug, Default)]
pub struct Texts {
    content: Vec<u8>,
    /// Where each of them begins.
    starts: Vec<u32>,
}

impl Texts {
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a String>) -> Self {
        let mut all = Texts::default();
        for text in texts {
            all.starts.push(all.content.len() as u32);
            all.content.extend_from_slice(text.as_bytes());
            all.content.push(0);
        }
        all
    }
}

pub const REALTIME: u32 = 0;
pub const MONOTONIC: u32 = 1;
const CLOCKS: u32 = 4;

/// Random bytes that are made in one go.
const RANDOM: usize = 64 << 10;

/// Exit codes that a guest may give: those above are a shell's own.
const EXIT_CODES: u32 = 126;

const SIGNALS: u32 = 31;

pub fn add_to_linker(linker: &mut Linker<Data>) -> Result<()> {
    linker.func_wrap(MODULE, "args_get", |mut caller: Caller<'_, Data>, pointers: u32, content: u32| {
        let mut call = Call::begin(&mut caller, "args_get")?;
        let context = call.wasi.context.clone();
        put_texts(&mut call, &context.args, pointers, content)
    })?;
    linker.func_wrap(MODULE, "args_sizes_get", |mut caller: Caller<'_, Data>, count: u32, size: u32| {
        let mut call = Call::begin(&mut caller, "args_sizes_get")?;
        let context = call.wasi.context.clone();
        put_sizes(&mut call, &context.args, count, size)
    })?;
    linker.func_wrap(MODULE, "environ_get", |mut caller: Caller<'_, Data>, pointers: u32, content: u32| {
        let mut call = Call::begin(&mut caller, "environ_get")?;
        let context = call.wasi.context.clone();
        put_texts(&mut call, &context.env, pointers, content)
    })?;
    linker.func_wrap(MODULE, "environ_sizes_get", |mut caller: Caller<'_, Data>, count: u32, size: u32| {
        let mut call = Call::begin(&mut caller, "environ_sizes_get")?;
        let context = call.wasi.context.clone();
        put_sizes(&mut call, &context.env, count, size)
    })?;
    linker.func_wrap(MODULE, "clock_res_get", |mut caller: Caller<'_, Data>, clock: u32, at: u32| {
        let mut call = Call::begin(&mut caller, "clock_res_get")?;
        answered(clock_resolution(&mut call, clock, at))
    })?;
    linker.func_wrap(MODULE, "clock_time_get", |mut caller: Caller<'_, Data>, clock: u32, _: u64, at: u32| {
        let mut call = Call::begin(&mut caller, "clock_time_get")?;
        answered(clock_time(&mut call, clock, at))
    })?;
    linker.func_wrap_async(MODULE, "random_get", |mut caller: Caller<'_, Data>, (at, size): (u32, u32)| {
        Box::new(async move {
            Call::begin(&mut caller, "random_get")?;
            random(&mut caller, at, size).await
        })
    })?;
    linker.func_wrap(MODULE, "sched_yield", |mut caller: Caller<'_, Data>| {
        // Guests have their turns anyway.
        Call::begin(&mut caller, "sched_yield").map(|_| 0_u32)
    })?;
    linker.func_wrap(MODULE, "proc_exit", |mut caller: Caller<'_, Data>, code: u32| -> Result<()> {
        crate::bindings::canonical_abi::enter(&mut caller, "proc_exit")?;
        match code {
            code if code < EXIT_CODES => Err(Exit(code as u8).into()),
            _ => Err(wasmtime::Error::msg("exit with invalid exit status outside of [0..126)")),
        }
    })?;
    linker.func_wrap(MODULE, "proc_raise", |mut caller: Caller<'_, Data>, signal: u32| {
        let call = Call::begin(&mut caller, "proc_raise")?;
        call.case("signal", signal, SIGNALS)?;
        Result::Ok(u32::from(Errno::NOTSUP.0))
    })?;
    Ok(())
}

fn put_texts(call: &mut Call<'_>, texts: &Texts, pointers: u32, content: u32) -> Result<u32> {
    let align = if texts.starts.is_empty() { 1 } else { 4 };
    call.check("pointers", pointers, 4 * texts.starts.len() as u64, align)?;
    call.check("buf", content, texts.content.len() as u64, 1)?;
    for (number, start) in texts.starts.iter().enumerate() {
        call.put_u32("pointers", pointers + 4 * number as u32, content + start)?;
    }
    call.bytes("buf", content, texts.content.len() as u64, 1)?.copy_from_slice(&texts.content);
    Ok(0)
}

fn put_sizes(call: &mut Call<'_>, texts: &Texts, count: u32, size: u32) -> Result<u32> {
    call.check("count", count, 4, 4)?;
    call.check("size", size, 4, 4)?;
    call.put_u32("count", count, texts.starts.len() as u32)?;
    call.put_u32("size", size, texts.content.len() as u32)?;
    Ok(0)
}

/// The processor's time is not the guest's alone, and not told.
fn check_clock(call: &Call<'_>, clock: u32) -> Answer {
    call.case("id", clock, CLOCKS)?;
    if clock > MONOTONIC { Err(Errno::BADF.into()) } else { Ok(()) }
}

fn clock_resolution(call: &mut Call<'_>, clock: u32, at: u32) -> Answer {
    check_clock(call, clock)?;
    Ok(call.put_u64("resolution", at, 1)?)
}

fn clock_time(call: &mut Call<'_>, clock: u32, at: u32) -> Answer {
    check_clock(call, clock)?;
    let time = time_of(clock, call.wasi.started);
    Ok(call.put_u64("time", at, nanoseconds(time))?)
}

/// What a clock shows. The guest's own begins with it: it isn't told for how long the machine has been running.
pub fn time_of(clock: u32, started: Duration) -> Duration {
    if clock == REALTIME { platform::wall() } else { platform::now().saturating_sub(started) }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

async fn random(caller: &mut Caller<'_, Data>, at: u32, size: u32) -> Result<u32> {
    Call::resume(caller, "random_get")?.check("buf", at, size.into(), 1)?;
    let mut done = 0;
    while done < size {
        if done > 0 {
            yield_now().await;
        }
        let piece = (size - done).min(RANDOM as u32);
        let mut call = Call::resume(caller, "random_get")?;
        platform::random(call.bytes("buf", at + done, piece.into(), 1)?);
        done += piece;
    }
    Ok(0)
}
