//! Counts the visits of /hello/NAME. Each request is answered by an instance of its own: what should outlive it goes
//! into a store.

use std::env;
use std::error::Error;

use slight::http_handler::{export_handle_http, HttpError, Request, Response};
use slight::http_server::{Router, Server};
use slight::keyvalue::{Keyvalue, KeyvalueError};

fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::new()?.get("/hello/:name", "handle-hello")?;
    let address = env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:3000".to_string());
    Server::serve(&address, &router)?;
    Ok(())
}

export_handle_http!("handle-hello", handle_hello);

fn handle_hello(request: Request) -> Result<Response, HttpError> {
    let name = request.params.iter().find(|(param, _)| param == "name").map_or("", |(_, value)| value);
    let visits = count(name).map_err(|error| HttpError::UnexpectedError(error.to_string()))?;
    let body = format!("hello, this is visit {visits}\n");
    Ok(Response { status: 200, headers: None, body: Some(body.into_bytes()) })
}

/// Counts one more visit; returns how many there were. Two visits at the same moment may count as one.
fn count(name: &str) -> Result<u64, KeyvalueError> {
    let store = Keyvalue::open("visits")?;
    let before = match store.get(name) {
        Ok(value) => String::from_utf8_lossy(&value).parse().unwrap_or(0),
        Err(KeyvalueError::KeyNotFound(_)) => 0,
        Err(error) => return Err(error),
    };
    store.set(name, (before + 1).to_string().as_bytes())?;
    Ok(before + 1)
}
