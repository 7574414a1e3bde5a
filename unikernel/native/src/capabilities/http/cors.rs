//! Cross-origin resource sharing (the Fetch standard): which pages of other origins may use the server.
//!
//! Spiderlightning allowed everything, with four headers on every response, and that is the default. The slightfile's
//! `http` capability narrows it. What is decided here replaces what a guest sets; with `CORS_ALLOW_ORIGIN = "none"` the
//! guest decides.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::head::is_token_byte;

pub const KEYS: [&str; 6] = [
    "CORS_ALLOW_ORIGIN",
    "CORS_ALLOW_METHODS",
    "CORS_ALLOW_HEADERS",
    "CORS_EXPOSE_HEADERS",
    "CORS_MAX_AGE",
    "CORS_ALLOW_CREDENTIALS",
];

/// A value of the configuration that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub key: String,
    /// What to write instead.
    pub text: String,
}

/// The answer to every origin, worked out once.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins and the header lines for each. None where CORS is off.
    by_origin: Vec<(String, String)>,
    /// The header lines for all other origins.
    others: String,
}

impl Default for Cors {
    /// Everything is allowed.
    fn default() -> Self {
        let origins = ["*".to_string()];
        Cors::new(
            &origins,
            &Allowed { methods: "*".into(), headers: "*".into(), expose: "*".into(), ..Allowed::default() },
        )
    }
}

/// What the headers say besides the origin; an empty text leaves its header away.
#[derive(Default)]
struct Allowed {
    methods: String,
    headers: String,
    expose: String,
    /// In seconds.
    max_age: String,
    credentials: bool,
}

impl Cors {
    fn new(origins: &[String], allowed: &Allowed) -> Cors {
        let mut lines = String::new();
        for (name, value) in [
            ("Methods", allowed.methods.as_str()),
            ("Headers", &allowed.headers),
            ("Expose-Headers", &allowed.expose),
            ("Max-Age", &allowed.max_age),
            ("Credentials", if allowed.credentials { "true" } else { "" }),
        ] {
            if !value.is_empty() {
                let allow = if matches!(name, "Expose-Headers" | "Max-Age") { "" } else { "Allow-" };
                lines += &format!("Access-Control-{allow}{name}: {value}\r\n");
            }
        }
        let any = origins == ["*"];
        let vary = if origins.is_empty() || any { "" } else { "Vary: Origin\r\n" };
        let with_lines =
            |origin: &String| (origin.clone(), format!("Access-Control-Allow-Origin: {origin}\r\n{lines}{vary}"));
        let by_origin: Vec<_> = origins.iter().map(with_lines).collect();
        let others = if any { by_origin[0].1.clone() } else { vary.to_string() };
        Cors { by_origin, others }
    }

    /// Whether the headers are the guest's own affair.
    pub fn is_off(&self) -> bool {
        self.by_origin.is_empty()
    }

    /// The header lines, each with its CR LF, of a response to a request from `origin`.
    pub fn lines(&self, origin: Option<&[u8]>) -> &str {
        let listed = self.by_origin.iter().find(|(name, _)| Some(name.as_bytes()) == origin && name != "*");
        listed.map_or(&self.others, |(_, lines)| lines)
    }

    /// What the configuration of the `http` capability says; keys without the prefix `CORS_` are left alone.
    pub fn from_configs<'a>(configs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Cors, ConfigError> {
        let mut values = [None; KEYS.len()];
        for (key, value) in configs {
            match KEYS.iter().position(|known| *known == key) {
                Some(at) => values[at] = Some(value),
                None if key.starts_with("CORS_") => {
                    return Err(error(key, &format!("no such key; there are {}", KEYS.join(", "))));
                }
                None => {}
            }
        }
        let [origin, methods, headers, expose, max_age, credentials] = values;
        let origins = origins(origin.unwrap_or("*"))?;
        if origins.is_empty() && values[1..].iter().any(Option::is_some) {
            let text = "'none' switches CORS off, which leaves the other CORS_ keys without a use";
            return Err(error(KEYS[0], text));
        }
        let credentials = switch(credentials.unwrap_or("false"))?;
        if credentials && origins == ["*"] {
            let text = "browsers take credentials only with a list of origins: name them in CORS_ALLOW_ORIGIN";
            return Err(error("CORS_ALLOW_CREDENTIALS", text));
        }
        let allowed = Allowed {
            methods: tokens("CORS_ALLOW_METHODS", methods, credentials, "GET, HEAD, PUT, POST, DELETE")?,
            headers: tokens("CORS_ALLOW_HEADERS", headers, credentials, "")?,
            expose: tokens("CORS_EXPOSE_HEADERS", expose, credentials, "")?,
            max_age: seconds(max_age)?,
            credentials,
        };
        Ok(Cors::new(&origins, &allowed))
    }
}

fn error(key: &str, text: &str) -> ConfigError {
    ConfigError { key: key.into(), text: text.into() }
}

fn origins(value: &str) -> Result<Vec<String>, ConfigError> {
    match value.trim() {
        "none" => Ok(Vec::new()),
        "*" => Ok([String::from("*")].into()),
        _ => value.split(',').map(|part| origin(part.trim())).collect(),
    }
}

/// An origin as browsers write it: `scheme://host`, with the port where it isn't the scheme's own.
fn origin(text: &str) -> Result<String, ConfigError> {
    parse_origin(text).ok_or_else(|| {
        let example = "https://app.example or http://localhost:3000";
        error(KEYS[0], &format!("each origin is scheme://host or scheme://host:port, as in {example}"))
    })
}

fn parse_origin(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://")?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"*@/?#\\".contains(&byte);
    let is_scheme = scheme.starts_with(|char: char| char.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme || !authority.bytes().all(is_plain) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let in_brackets = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    if host.is_empty() || (!in_brackets && host.contains(['[', ']', ':'])) {
        return None;
    }
    match port {
        None => Some(lower),
        Some(port) => {
            let number: u16 = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
            let is_own = matches!((scheme, number), ("http", 80) | ("https", 443));
            Some(if is_own { format!("{scheme}://{host}") } else { lower })
        }
    }
}

/// A list of names. `*` means any, but the Fetch standard takes it for a name when credentials are sent.
fn tokens(key: &str, value: Option<&str>, credentials: bool, with_credentials: &str) -> Result<String, ConfigError> {
    let Some(value) = value else { return Ok(if credentials { with_credentials } else { "*" }.into()) };
    if value.trim().is_empty() {
        return Ok(String::new());
    }
    let names: Vec<&str> = value.split(',').map(str::trim).collect();
    if !names.iter().all(|name| !name.is_empty() && name.bytes().all(is_token_byte)) {
        return Err(error(key, "it must be names separated by commas, or '*'"));
    }
    if credentials && names.contains(&"*") {
        return Err(error(key, "'*' means nothing to browsers with CORS_ALLOW_CREDENTIALS: list the names"));
    }
    Ok(names.join(", "))
}

fn seconds(value: Option<&str>) -> Result<String, ConfigError> {
    let Some(value) = value else { return Ok(String::new()) };
    match value.parse::<u32>() {
        Ok(number) if value.len() <= 9 && value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number.to_string()),
        _ => Err(error("CORS_MAX_AGE", "it must be a number of seconds, as in 3600")),
    }
}

fn switch(value: &str) -> Result<bool, ConfigError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(error("CORS_ALLOW_CREDENTIALS", "it must be true or false")),
    }
}
