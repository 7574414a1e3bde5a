//! What goes wrong with a Redis, and how guests and whoever runs the machine are told: in the words of
//! `capabilities.keyvalue.redis`. What the guest is told has no part of the address, or of what Redis says about it.

use alloc::format;
use alloc::string::{String, ToString};

use crate::capabilities::keyvalue::errors::{Kind, StoreError, out_of_memory, too_many_keys};
use crate::net::NetError;

/// Why a connection can't be had, or is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It can't be made, or broke; by what, where that is known.
    Broken(Option<NetError>),
    /// No answer in time.
    Silent,
    /// What answers doesn't speak Redis's protocol.
    NotRedis,
    /// An answer is longer than any that is asked for.
    TooLong,
    /// There is no memory for so many bytes of an answer.
    NoMemory(usize),
    /// Redis refuses the first commands of a connection, with this error.
    Refused(String),
}

impl Fault {
    /// What guests are told, and whoever runs the machine, to whom the Redis is the one at `place`.
    pub fn describe(&self, place: &str) -> StoreError {
        let notice = format!("redis {place}: ");
        match self {
            Fault::Broken(cause) => {
                let reason = reason(cause.as_ref());
                let notice = format!(
                    "{notice}{}; start it, or correct REDIS_ADDRESS in the slightfile",
                    beginning_small(&reason)
                );
                StoreError::with_notice(Kind::Connection, format!("Redis can't be reached: {reason}"), notice)
            }
            Fault::Silent => StoreError::with_notice(
                Kind::Timeout,
                "Redis did not answer in time",
                format!(
                    "{notice}no answer in time; look whether it runs and isn't overloaded, or correct REDIS_ADDRESS"
                ),
            ),
            Fault::NotRedis => StoreError::with_notice(
                Kind::Unexpected,
                "what answers at REDIS_ADDRESS is not a Redis",
                format!("{notice}what answers is not a Redis; correct REDIS_ADDRESS in the slightfile"),
            ),
            Fault::TooLong => too_many_keys(),
            Fault::NoMemory(bytes) => out_of_memory(*bytes),
            Fault::Refused(error) => describe_answer(error, place),
        }
    }
}

/// Why there is no connection, in the words of the Linux flavour's C library (`strerror`).
fn reason(cause: Option<&NetError>) -> String {
    match cause {
        Some(NetError::Refused) => "Connection refused".into(),
        Some(NetError::Reset) => "Connection reset by peer".into(),
        Some(NetError::TimedOut) => "Connection timed out".into(),
        Some(NetError::Unreachable) => "No route to host".into(),
        Some(NetError::NoNetwork | NetError::NoAddress(_)) => "Network is unreachable".into(),
        Some(NetError::NoSuchName(_)) => "Name or service not known".into(),
        Some(NetError::NoNameServer(_)) => "Temporary failure in name resolution".into(),
        Some(NetError::System(said)) => said.clone(),
        _ => "the connection broke".into(),
    }
}

fn beginning_small(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().to_string() + characters.as_str())
}

/// For an error that Redis answered with: its first word says which one, the rest may quote the command.
pub fn describe_answer(error: &str, place: &str) -> StoreError {
    let notice = format!("redis {place}: ");
    let (code, rest) = error.split_once(' ').unwrap_or((error, ""));
    if code == "NOPERM" {
        let notice =
            format!("{notice}the user may not run this command or use this key; change its ACL, or REDIS_ADDRESS");
        return refused_credentials(notice);
    }
    if matches!(code, "WRONGPASS" | "NOAUTH") || (code == "ERR" && is_about_credentials(rest)) {
        return refused_credentials(format!("{notice}it refuses the user and password; correct REDIS_ADDRESS"));
    }
    if code == "LOADING" {
        let text = "Redis can't be used yet: it is loading its data";
        return StoreError::with_notice(Kind::Connection, text, format!("{notice}it is loading its data"));
    }
    if code == "WRONGTYPE" {
        let notice = format!(
            "{notice}a key of a store holds something other than a string; remove it, or have the module use another key"
        );
        return StoreError::with_notice(
            Kind::InvalidValue,
            "Redis holds something other than a value under this key",
            notice,
        );
    }
    if error.contains("DB index") {
        let notice = format!("{notice}there is no such database; correct REDIS_ADDRESS in the slightfile");
        return StoreError::with_notice(
            Kind::Unexpected,
            "REDIS_ADDRESS names a database that Redis doesn't have",
            notice,
        );
    }
    let is_code = (2..=20).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase());
    let code = if is_code { code } else { "ERR" };
    let notice = format!("{notice}it answers with the error {code}{}", what_to_do(code));
    StoreError::with_notice(Kind::Unexpected, format!("Redis answered with an error: {code}"), notice)
}

fn refused_credentials(notice: String) -> StoreError {
    StoreError::with_notice(Kind::Authentication, "Redis refuses the user and password of REDIS_ADDRESS", notice)
}

/// What an `ERR` says where the password is wrong, or where none is asked for; before Redis 6, and since.
fn is_about_credentials(text: &str) -> bool {
    matches!(
        text,
        "invalid password"
            | "Client sent AUTH, but no password is set"
            | "AUTH <password> called without any password configured for the default user. Are you sure your \
               configuration is correct?"
    )
}

/// Whether Redis has too many clients: it says so to a new one, and hangs up.
pub fn is_too_many_clients(error: &str) -> bool {
    error == "ERR max number of clients reached"
}

/// Whether a Redis of before version 6 was given a user beside the password.
pub fn is_without_users(error: &str) -> bool {
    error.eq_ignore_ascii_case("ERR wrong number of arguments for 'auth' command")
}

fn what_to_do(code: &str) -> &'static str {
    match code {
        "OOM" => ": it has no memory left; raise its maxmemory, or remove keys",
        "MISCONF" => ": it can't write to its disk; see its log",
        "READONLY" => ": it is a replica; give the address of its master in REDIS_ADDRESS",
        "MOVED" | "CROSSSLOT" => ": it is a Redis Cluster, which is not supported",
        _ => "; see its log",
    }
}
