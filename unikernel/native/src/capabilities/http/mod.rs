//! The HTTP/1.1 server (RFC 9110, RFC 9112): it listens, understands requests, finds their handlers, and keeps the limits.
//! docs/http.md says what it does.
//!
//! In reading order: `routes` and `matcher`; `head`, `meaning`, `target` and `body` for what comes; `response`, `status`,
//! `date` and `cors` for what goes; `request`, `exchange` and `connection` for the order in which that happens; `connections` and
//! `server` for all of them together; `host` for what a guest imports.

pub mod access;
mod body;
mod budget;
mod buffer;
mod connection;
mod connections;
pub mod cors;
mod date;
mod exchange;
mod head;
pub mod host;
mod matcher;
mod meaning;
mod request;
mod response;
pub mod routes;
pub mod server;
pub mod settings;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod wait;
