//! The settings of a server, and what it works with.

use alloc::string::String;
use core::time::Duration;

use crate::bindings::http_types::{HttpError, Request, Response};

use super::access::AccessRecord;
use super::cors::Cors;

/// The limits of one server. docs/http.md says what a client gets beyond each.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most bytes of a request's body.
    pub max_body: u64,
    /// How long a handler may take.
    pub request_timeout: Duration,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// The most requests at once, from the first byte of the body to the handler's end.
    pub max_concurrent: usize,
    /// How long requests under way get to end when the server stops.
    pub drain_timeout: Duration,
    pub cors: Cors,
    /// The most connections at once: further ones are closed.
    pub max_connections: usize,
    /// The most bytes that all requests together may hold: more is answered with 503.
    pub max_received: usize,
    /// The most bytes of responses that wait for their clients: then who holds the most is cut off.
    pub max_unsent: usize,
    /// How long a connection may take to send the head of its next request.
    pub idle_timeout: Duration,
    /// How long a connection that is silent is kept when the server stops: a request may be on its way.
    pub grace: Duration,
    /// How long what a client still sends is read after its last answer, so that it gets to read that: who is cut off
    /// while it sends may not.
    pub linger: Duration,
    /// How long a client may take nothing of a response that waits for it.
    pub send_stall: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_body: 10 * 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            max_concurrent: 1000,
            drain_timeout: Duration::from_secs(30),
            cors: Cors::default(),
            max_connections: 10_000,
            max_received: 256 * 1024 * 1024,
            max_unsent: 256 * 1024 * 1024,
            idle_timeout: Duration::from_secs(75),
            grace: Duration::from_secs(1),
            linger: Duration::from_secs(2),
            send_stall: Duration::from_secs(30),
        }
    }
}

/// Why a handler gave no response. Both are for the log, never for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The handler's own error.
    Error(HttpError),
    /// It trapped or broke the binary interface: what there is to say of it.
    Ended(String),
}

/// What answers requests: functions that a guest exports.
pub trait Handler: Send + Sync + 'static {
    /// Whether there is a handler of this name, in snake or in kebab case; the reason where a function of that name
    /// has another signature.
    fn resolve(&self, name: &str) -> Result<bool, String>;

    /// Runs the handler of that name in a fresh instance. Dropping the future ends the instance.
    fn handle(&self, name: &str, request: Request) -> impl Future<Output = Result<Response, Failed>> + Send;
}

/// What a server tells whoever runs it: lines without an end of line, and with nothing in them that isn't printable.
pub trait Log: Send + Sync + 'static {
    /// A request failed, and why.
    fn error(&self, line: &str);

    /// Something runs short.
    fn warning(&self, line: &str);

    /// Whether there is an access log.
    fn wants_access(&self) -> bool;

    /// A request is over.
    fn access(&self, record: &AccessRecord);
}
