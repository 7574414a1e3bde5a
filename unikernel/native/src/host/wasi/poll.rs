//! Waiting: 48-byte subscriptions in, 32-byte events out.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;

use wasmtime::Caller;

use super::super::executor::sleep;
use super::super::guest::Data;
use super::super::input::Input;
use super::super::output::Output;
use super::call::{Answer, Call, Failure, u32_in, u64_in};
use super::environment::{MONOTONIC, time_of};
use super::errno::Errno;
use super::import::{Args, Import, later, words};
use super::table::Entry;

const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
const CLOCK: u8 = 0;
const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const ABSOLUTE: u16 = 1;

/// Subscriptions in one call.
const MOST: u32 = 4096;

pub static IMPORTS: [Import; 1] = [later("poll_oneoff", "iiii", |caller, args| Box::pin(poll(caller, args)))];

/// What a subscription waits for.
enum Wait {
    For(Duration),
    Input(Arc<Input>),
    Output(Arc<Output>),
}

struct Subscription {
    wait: Wait,
    user_data: u64,
    error: u16,
    kind: u8,
}

/// Waits until the first of the clocks has run out, or one of the descriptors is ready. A file always is, as it is for
/// poll(2).
async fn poll(caller: &mut Caller<'_, Data>, args: Args) -> Answer {
    const NAME: &str = "poll_oneoff";
    let [subscriptions, events, count, at, ..] = words(args);
    let waits = {
        let mut call = Call::begin(caller, NAME)?;
        if !(1..=MOST).contains(&count) {
            return Err(Errno::INVAL.into());
        }
        let size = u64::from(count);
        let listed = call.bytes("subscriptions", subscriptions, size * SUBSCRIPTION as u64, 8)?.to_vec();
        call.check("events", events, size * EVENT as u64, 8)?;
        call.check("events", at, 4, 4)?;
        let waits = listed.chunks_exact(SUBSCRIPTION).map(|bytes| subscribed(&mut call, bytes));
        waits.collect::<Result<Vec<_>, Failure>>()?
    };
    let ready = first(&waits).await;
    let mut call = Call::resume(caller, NAME)?;
    let told = waits.iter().zip(ready).filter(|(_, is_ready)| *is_ready);
    let mut number = 0;
    for (subscription, _) in told {
        let event = call.bytes("events", events + number * EVENT as u32, EVENT as u64, 8)?;
        event.fill(0);
        event[..8].copy_from_slice(&subscription.user_data.to_le_bytes());
        event[8..10].copy_from_slice(&subscription.error.to_le_bytes());
        event[10] = subscription.kind;
        event[16] = u8::from(subscription.kind != CLOCK); // at least one byte
        number += 1;
    }
    Ok(call.put_u32("events", at, number)?)
}

fn subscribed(call: &mut Call<'_>, bytes: &[u8]) -> Result<Subscription, Failure> {
    let (user_data, kind, which) = (u64_in(bytes, 0), bytes[8], u32_in(bytes, 16));
    let (wait, error) = match kind {
        CLOCK if which <= MONOTONIC => {
            let timeout = Duration::from_nanos(u64_in(bytes, 24));
            let absolute = u16::from_le_bytes([bytes[40], bytes[41]]) & ABSOLUTE != 0;
            let now = if absolute { time_of(which, call.wasi.started) } else { Duration::ZERO };
            (Wait::For(timeout.saturating_sub(now)), 0)
        }
        CLOCK => (Wait::For(Duration::ZERO), Errno::NOTSUP.0),
        READABLE | WRITABLE => (readiness(call.wasi.table().get(which)?, kind)?, 0),
        _ => return Err(call.fault::<()>("subscriptions", format_args!("{kind} is not a kind of event")).unwrap_err().into()),
    };
    Ok(Subscription { wait, user_data, error, kind })
}

/// What makes a descriptor ready. `BADF` for one that never is.
fn readiness(entry: &Entry, kind: u8) -> Result<Wait, Errno> {
    match entry {
        Entry::File(_) => Ok(Wait::For(Duration::ZERO)),
        Entry::Input(input) if kind == READABLE => {
            Ok(input.as_ref().map_or(Wait::For(Duration::ZERO), |input| Wait::Input(input.clone())))
        }
        Entry::Output(output) if kind == WRITABLE => Ok(Wait::Output(output.clone())),
        _ => Err(Errno::BADF),
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Waits for the first of several; returns which are over.
async fn first(subscriptions: &[Subscription]) -> Vec<bool> {
    let shortest = subscriptions.iter().filter_map(|subscription| match subscription.wait {
        Wait::For(duration) => Some(duration),
        _ => None,
    });
    let shortest = shortest.min();
    let mut streams: Vec<Option<Waiting>> = subscriptions
        .iter()
        .map(|subscription| match &subscription.wait {
            Wait::For(_) => None,
            Wait::Input(input) => Some(Box::pin(input.ready()) as Waiting),
            Wait::Output(output) => Some(Box::pin(output.room()) as Waiting),
        })
        .collect();
    let mut timer: Option<Waiting> = shortest.map(|duration| Box::pin(sleep(duration)) as Waiting);
    let mut over = alloc::vec![false; subscriptions.len()];
    let mut timed_out = false;
    poll_fn(|context| {
        for (stream, over) in streams.iter_mut().zip(&mut over) {
            if let Some(waiting) = stream {
                *over = waiting.as_mut().poll(context).is_ready();
                if *over {
                    *stream = None;
                }
            }
        }
        timed_out = timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready());
        if timed_out || over.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    for (subscription, over) in subscriptions.iter().zip(&mut over) {
        if let Wait::For(duration) = subscription.wait {
            *over = duration.is_zero() || (timed_out && Some(duration) == shortest);
        }
    }
    over
}
