//! From JSON to what a launcher says: what unikernel/control.md asks of each member.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use super::super::json::{Json, Members, Wrong};
use super::base64;
use super::{AccessLog, Boot, Message, Network, Options, Resume, Volume};

const MAX_COUNT: u64 = (1 << 53) - 1;
const MAX_NANOSECONDS: u64 = (1 << 63) - 1;
const MAX_SECONDS: f64 = 1e10;
const MAX_SEED: usize = 1024;
const MAX_TAG: usize = 31;
const MAX_PATH: usize = 4096;

pub fn message(message: Json) -> Result<Message, Wrong> {
    let (kind, value) = message.object()?.only()?;
    Ok(match kind.as_str() {
        "boot" => Message::Boot(Box::new(boot(value.object()?)?)),
        "signal" => Message::Signal(signal(value)?),
        "ping" => Message::Ping(count(value)?),
        "resume" => Message::Resume(resume(value.object()?)?),
        _ => return Err(Wrong("there is no such message")),
    })
}

fn boot(mut members: Members) -> Result<Boot, Wrong> {
    let boot = Boot {
        env: members.take("env")?.table()?,
        args: members.take("args")?.texts()?,
        values: members.take("values")?.table()?.into_iter().collect(),
        volumes: members.take("volumes")?.list()?.into_iter().map(volume).collect::<Result<_, _>>()?,
        network: match members.take("network")? {
            Json::Null => None,
            value => Some(network(value.object()?)?),
        },
        time: nanoseconds(members.take("time")?)?,
        seed: seed(members.take("seed")?)?,
        options: options(members.take("options")?.object()?)?,
        channel: members.take("channel")?.flag()?,
    };
    members.end()?;
    Ok(boot)
}

fn volume(value: Json) -> Result<Volume, Wrong> {
    let mut members = value.object()?;
    let volume = Volume {
        tag: text(members.take("tag")?, MAX_TAG)?,
        path: text(members.take("path")?, MAX_PATH)?,
        writable: members.take("writable")?.flag()?,
    };
    members.end()?;
    Ok(volume)
}

fn network(mut members: Members) -> Result<Network, Wrong> {
    let network = Network {
        address: address(members.take("address")?)?,
        gateway: ipv4(members.take("gateway")?)?,
        nameserver: ipv4(members.take("nameserver")?)?,
        host: ipv4(members.take("host")?)?,
    };
    members.end()?;
    Ok(network)
}

pub fn options(mut members: Members) -> Result<Options, Wrong> {
    let options = Options {
        max_memory: members.optional("max_memory", count)?,
        max_body: members.optional("max_body", count)?,
        request_timeout: members.optional("request_timeout", time)?,
        max_concurrent: members.optional("max_concurrent", count)?,
        drain_timeout: members.optional("drain_timeout", time)?,
        max_module: members.optional("max_module", count)?,
        compile_timeout: members.optional("compile_timeout", time)?,
        compile_memory: members.optional("compile_memory", count)?,
        access_log: members.optional("access_log", access_log)?,
        verbose: members.optional("verbose", Json::flag)?,
    };
    members.end()?;
    Ok(options)
}

fn resume(mut members: Members) -> Result<Resume, Wrong> {
    let resume = Resume { time: nanoseconds(members.take("time")?)?, seed: seed(members.take("seed")?)? };
    members.end()?;
    Ok(resume)
}

fn count(value: Json) -> Result<u64, Wrong> {
    value.whole(MAX_COUNT)
}

fn time(value: Json) -> Result<Duration, Wrong> {
    let seconds = value.number()?;
    if (0.0..MAX_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(Wrong("a time in seconds is none"))
    }
}

fn nanoseconds(value: Json) -> Result<Duration, Wrong> {
    value.whole(MAX_NANOSECONDS).map(Duration::from_nanos)
}

fn signal(value: Json) -> Result<u8, Wrong> {
    match value.whole(u64::MAX)? {
        2 => Ok(2),
        15 => Ok(15),
        _ => Err(Wrong("no signal that is passed on")),
    }
}

fn access_log(value: Json) -> Result<AccessLog, Wrong> {
    match value.text()?.as_str() {
        "plain" => Ok(AccessLog::Plain),
        "json" => Ok(AccessLog::Json),
        _ => Err(Wrong("the access log has no such form")),
    }
}

/// A text of so many signs at most.
fn text(value: Json, most: usize) -> Result<String, Wrong> {
    let text = value.text()?;
    if text.chars().count() > most { Err(Wrong("a text is too long")) } else { Ok(text) }
}

fn seed(value: Json) -> Result<Vec<u8>, Wrong> {
    base64::decode(text(value, MAX_SEED)?.as_bytes()).ok_or(Wrong("the seed is not base64"))
}

/// As `core` reads it: four numbers without leading zeros.
fn ipv4(value: Json) -> Result<Ipv4Addr, Wrong> {
    value.text()?.parse().map_err(|_| Wrong("an IPv4 address is none"))
}

/// An address and the bits of its network.
fn address(value: Json) -> Result<String, Wrong> {
    let text = value.text()?;
    let is_address = text.split_once('/').is_some_and(|(address, bits)| {
        let is_number = bits == "0" || (bits.bytes().all(|byte| byte.is_ascii_digit()) && !bits.starts_with('0'));
        address.parse::<Ipv4Addr>().is_ok() && is_number && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    });
    if is_address { Ok(text) } else { Err(Wrong("an address with a network is none")) }
}
