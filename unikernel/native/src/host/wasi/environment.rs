//! Arguments, variables, clocks, random numbers.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use wasmtime::{Caller, Error};

use super::super::executor::yield_now;
use super::super::guest::{Data, Exit};
use super::super::platform;
use super::Context;
use super::call::{Answer, Call, Failure};
use super::errno::Errno;
use super::import::{Args, Import, later, now, words};

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

pub static IMPORTS: [Import; 10] = [
    now("args_get", "ii", |call, args| put_texts(call, |context| &context.args, args)),
    now("args_sizes_get", "ii", |call, args| put_sizes(call, |context| &context.args, args)),
    now("environ_get", "ii", |call, args| put_texts(call, |context| &context.env, args)),
    now("environ_sizes_get", "ii", |call, args| put_sizes(call, |context| &context.env, args)),
    now("clock_res_get", "ii", clock_resolution),
    now("clock_time_get", "iIi", clock_time),
    later("random_get", "ii", |caller, args| Box::pin(random(caller, args))),
    // Guests have their turns anyway.
    now("sched_yield", "", |_, _| Ok(())),
    now("proc_exit", "i", exit),
    now("proc_raise", "i", raise),
];

/// Some of the texts that a guest is given.
type Chosen = fn(&Context) -> &Texts;

fn put_texts(call: &mut Call<'_>, chosen: Chosen, args: Args) -> Answer {
    let [pointers, content, ..] = words(args);
    let context = call.wasi.context.clone();
    let texts = chosen(&context);
    let align = if texts.starts.is_empty() { 1 } else { 4 };
    call.check("pointers", pointers, 4 * texts.starts.len() as u64, align)?;
    call.check("buf", content, texts.content.len() as u64, 1)?;
    for (number, start) in texts.starts.iter().enumerate() {
        call.put_u32("pointers", pointers + 4 * number as u32, content + start)?;
    }
    call.bytes("buf", content, texts.content.len() as u64, 1)?.copy_from_slice(&texts.content);
    Ok(())
}

fn put_sizes(call: &mut Call<'_>, chosen: Chosen, args: Args) -> Answer {
    let [count, size, ..] = words(args);
    let context = call.wasi.context.clone();
    let texts = chosen(&context);
    call.check("count", count, 4, 4)?;
    call.check("size", size, 4, 4)?;
    call.put_u32("count", count, texts.starts.len() as u32)?;
    call.put_u32("size", size, texts.content.len() as u32)?;
    Ok(())
}

/// The processor's time is not the guest's alone, and not told.
fn check_clock(call: &Call<'_>, clock: u32) -> Answer {
    call.case("id", clock, CLOCKS)?;
    if clock > MONOTONIC { Err(Errno::BADF.into()) } else { Ok(()) }
}

fn clock_resolution(call: &mut Call<'_>, args: Args) -> Answer {
    let [clock, at, ..] = words(args);
    check_clock(call, clock)?;
    Ok(call.put_u64("resolution", at, 1)?)
}

fn clock_time(call: &mut Call<'_>, args: Args) -> Answer {
    let [clock, _precision, at, ..] = words(args);
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

async fn random(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    const NAME: &str = "random_get";
    let [at, size, ..] = words(args);
    Call::begin(caller, NAME)?.check("buf", at, size.into(), 1)?;
    let mut done = 0;
    while done < size {
        if done > 0 {
            yield_now().await;
        }
        let piece = (size - done).min(RANDOM as u32);
        platform::random(Call::resume(caller, NAME)?.bytes("buf", at + done, piece.into(), 1)?);
        done += piece;
    }
    Ok(())
}

fn exit(_: &mut Call<'_>, args: Args) -> Answer {
    let [code, ..] = words(args);
    Err(Failure::Ended(match code {
        code if code < EXIT_CODES => Exit(code as u8).into(),
        _ => Error::msg("exit with invalid exit status outside of [0..126)"),
    }))
}

fn raise(call: &mut Call<'_>, args: Args) -> Answer {
    let [signal, ..] = words(args);
    call.case("signal", signal, SIGNALS)?;
    Err(Errno::NOTSUP.into())
}
