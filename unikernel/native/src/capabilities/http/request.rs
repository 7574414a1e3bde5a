//! What a request asks for: its route, and the request as a guest sees it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bindings::http_types::{Method, Request, Response};

use super::head::Head;
use super::matcher::{Found, Match, Unmatched};
use super::meaning::{Expects, Framing};
use super::response::{busy, plain};
use super::routes::RouteMethod;
use super::server::Shared;
use super::settings::{Handler, Log};
use super::target::{authority, path_and_query};

/// The route of a request, or the answer to a request that has none.
pub fn route<H: Handler, L: Log>(shared: &Shared<H, L>, head: &Head) -> Result<Match, Response> {
    let Some(method) = method_of(head) else { return Err(plain(501, &[])) };
    if !head.meaning.host_is_valid {
        return Err(plain(400, &[]));
    }
    if head.framing() == Framing::Encoded {
        return Err(plain(501, &[]));
    }
    if head.meaning.expects == Expects::SomethingElse {
        return Err(plain(417, &[]));
    }
    let Some(uri) = path_and_query(head.target()) else { return Err(plain(400, &[])) };
    if uri == "*" {
        return Err(plain(204, &[("Allow", "GET, HEAD, PUT, POST, DELETE, OPTIONS")]));
    }
    let path = uri.split('?').next().unwrap_or_default();
    let routed = match method {
        Method::Get | Method::Head => Some(RouteMethod::Get),
        Method::Put => Some(RouteMethod::Put),
        Method::Post => Some(RouteMethod::Post),
        Method::Delete => Some(RouteMethod::Delete),
        Method::Patch | Method::Options => None,
    };
    match shared.matcher.find(routed, path) {
        Ok(Found::Match(found)) => Ok(found),
        Ok(Found::NotFound) => Err(plain(404, &[])),
        Ok(Found::MethodNotAllowed(allowed)) => {
            let status = if method == Method::Options { 204 } else { 405 };
            Err(plain(status, &[("Allow", &allowed)]))
        }
        Err(Unmatched::NotUtf8) => Err(plain(400, &[])),
        Err(Unmatched::NoRoom) => Err(busy()),
    }
}

fn method_of(head: &Head) -> Option<Method> {
    Some(match head.method() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "HEAD" => Method::Head,
        "OPTIONS" => Method::Options,
        _ => return None,
    })
}

/// The request as a guest sees it.
pub fn as_request(head: &Head, params: Vec<(String, String)>, body: Vec<u8>) -> Option<Request> {
    let method = method_of(head)?;
    let uri = path_and_query(head.target())?.into_owned();
    let mut headers = Vec::with_capacity(head.fields().len() + 1);
    let host = authority(head.target());
    if let Some(host) = host {
        headers.push(("host".to_string(), host.to_string()));
    }
    for (name, value) in head.fields() {
        if host.is_none() || !name.eq_ignore_ascii_case("host") {
            headers.push((name.to_ascii_lowercase(), text(value)));
        }
    }
    Some(Request { method, uri, headers, params, body: Some(body) })
}

/// The value of a header: one that isn't UTF-8 is read as ISO 8859-1, which takes any bytes.
fn text(value: &[u8]) -> String {
    match core::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => value.iter().map(|&byte| char::from(byte)).collect(),
    }
}
