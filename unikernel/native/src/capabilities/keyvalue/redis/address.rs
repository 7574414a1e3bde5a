//! `REDIS_ADDRESS`: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`, as docs/keyvalue.md has it.
//!
//! It is taken apart as `urllib.parse.urlsplit` and `capabilities.keyvalue.redis.parse_address` do it:
//! unikernel/redis_vectors.json has addresses that both are held to.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use crate::capabilities::keyvalue::errors::ConfigError;

const PORT: u16 = 6379;

/// The greatest number that Redis takes for one of a database, which it need not have.
const LAST_DATABASE: u32 = 0x7fff_ffff;

/// Where a Redis is. It holds a password: nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    pub password: Option<String>,
    pub database: u32,
}

impl Address {
    /// Where it is, without the credentials.
    pub fn place(&self) -> String {
        let Address { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The error shows nothing of the address: where its parts end is what isn't known then.
    pub fn parse(address: &str) -> Result<Address, ConfigError> {
        if address.is_empty() {
            return Err(ConfigError("REDIS_ADDRESS is missing: give the address of a Redis".into()));
        }
        let address: String =
            address.trim_start_matches(|sign| sign <= ' ').chars().filter(|sign| !"\t\r\n".contains(*sign)).collect();
        let (address, fragment) = address.split_once('#').unwrap_or((&address, ""));
        let (address, query) = address.split_once('?').unwrap_or((address, ""));
        let (scheme, rest) = address.split_once("://").ok_or_else(unknown_scheme)?;
        check_scheme(scheme)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (credentials, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        if credentials.contains(['[', ']']) {
            return Err(not_a_url());
        }
        let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (host, port) = host_and_port(place)?;
        let option = database_option(query)?;
        if !fragment.is_empty() {
            return Err(bad("it has a '#' (in a password, it is written %23)"));
        }
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        Ok(Address {
            host: host.to_lowercase(),
            port: if port == 0 { PORT } else { port },
            username: decoded(username),
            password: decoded(password),
            database: database(option.as_deref().unwrap_or_else(|| path.trim_matches('/')))?,
        })
    }
}

fn bad(reason: &str) -> ConfigError {
    ConfigError(format!("REDIS_ADDRESS is not the address of a Redis: {reason}"))
}

fn not_a_url() -> ConfigError {
    bad("it is not a URL (in a password, '/', '?' and '#' are written %2F, %3F and %23)")
}

fn unknown_scheme() -> ConfigError {
    bad("it starts with none of redis://, rediss:// and unix://")
}

fn check_scheme(scheme: &str) -> Result<(), ConfigError> {
    match scheme.to_ascii_lowercase().as_str() {
        "redis" => Ok(()),
        "rediss" => Err(ConfigError(
            "REDIS_ADDRESS asks for TLS (rediss://), which the native machine doesn't have; give a redis:// address, \
             or build the image without --native"
                .into(),
        )),
        "unix" => Err(ConfigError(
            "REDIS_ADDRESS is a Unix socket (unix://), and a machine can reach none of its host; give a redis:// \
             address"
                .into(),
        )),
        _ => Err(unknown_scheme()),
    }
}

/// The host without its brackets, and its port, or 0.
fn host_and_port(place: &str) -> Result<(&str, u16), ConfigError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or_else(not_a_url)?;
            host.parse::<Ipv6Addr>().map_err(|_| not_a_url())?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port),
                None if rest.is_empty() => (host, ""),
                None => return Err(not_a_url()),
            }
        }
        None if place.contains(['[', ']']) => return Err(not_a_url()),
        None => place.split_once(':').unwrap_or((place, "")),
    };
    if port.is_empty() {
        return Ok((host, 0));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_url());
    }
    Ok((host, port.parse().map_err(|_| not_a_url())?))
}

/// The value of the option `db`, which is the only one there is without TLS.
fn database_option(query: &str) -> Result<Option<String>, ConfigError> {
    let mut found = None;
    if query.is_empty() {
        return Ok(found);
    }
    let query = query.replace('+', " ");
    let pairs: Vec<(&str, &str)> =
        query.split('&').map(|pair| pair.split_once('=').ok_or_else(not_a_url)).collect::<Result<_, _>>()?;
    for (name, value) in pairs {
        if decoded(name).as_deref() != Some("db") {
            return Err(bad("the options after its '?' may be db"));
        }
        found = decoded(value);
    }
    Ok(found)
}

fn database(text: &str) -> Result<u32, ConfigError> {
    if text.is_empty() {
        return Ok(0);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad("its database is not a number"));
    }
    // Greater numbers are none to Redis, whose error would not name the database then.
    Ok(text.parse().unwrap_or(u32::MAX).min(LAST_DATABASE))
}

/// A part of the credentials, of which the empty one is none.
fn decoded(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hexadecimal);
        plain.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    Some(String::from_utf8_lossy(&plain).to_string())
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(digits[0])? * 16 + digit(digits[1])?)
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
