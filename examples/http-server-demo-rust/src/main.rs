//! A server with a handler for every kind of route. Each request is answered by an instance of its own: what should
//! outlive it goes into a store.

use std::env;
use std::error::Error;

use slight::http_handler::{export_handle_http, HttpError, Request, Response};
use slight::http_server::{Router, Server};
use slight::keyvalue::{Keyvalue, KeyvalueError};

fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::new()?
        .get("/hello", "handle_hello")?
        .get("/person/:name", "handle_person")?
        .get("/get", "handle_get")?
        .put("/set", "handle_set")?
        .post("/upload", "handle_upload")?
        .delete("/delete-file", "handle_delete_file")?;

    let address = env::var("ADDRESS").unwrap_or_else(|_| "0.0.0.0:3000".to_string());
    println!("guest starting server");
    Server::serve(&address, &router)?;
    println!("guest moving on");
    Ok(())
}

export_handle_http!("handle-hello", handle_hello);
export_handle_http!("handle-person", handle_person);
export_handle_http!("handle-get", handle_get);
export_handle_http!("handle-set", handle_set);
export_handle_http!("handle-upload", handle_upload);
export_handle_http!("handle-delete-file", handle_delete_file);

fn handle_hello(request: Request) -> Result<Response, HttpError> {
    Ok(respond(request, 200, Some(b"hello".to_vec())))
}

fn handle_person(request: Request) -> Result<Response, HttpError> {
    let greeting = format!("hello {}", param(&request, "name").unwrap_or_default());
    Ok(respond(request, 200, Some(greeting.into_bytes())))
}

fn handle_get(request: Request) -> Result<Response, HttpError> {
    match open_store()?.get("key") {
        Ok(value) => Ok(respond(request, 200, Some(value))),
        Err(KeyvalueError::KeyNotFound(_)) => Ok(respond(request, 404, Some(b"Key not found".to_vec()))),
        Err(error) => Err(store_failed(error)),
    }
}

fn handle_set(request: Request) -> Result<Response, HttpError> {
    if let Some(body) = &request.body {
        open_store()?.set("key", body).map_err(store_failed)?;
    }
    Ok(respond(request, 204, None))
}

fn handle_upload(mut request: Request) -> Result<Response, HttpError> {
    let body = request.body.take();
    Ok(respond(request, 200, body))
}

fn handle_delete_file(mut request: Request) -> Result<Response, HttpError> {
    let body = request.body.take();
    Ok(respond(request, 200, body))
}

/// Every answer carries the headers of its request.
fn respond(request: Request, status: u16, body: Option<Vec<u8>>) -> Response {
    Response { status, headers: Some(request.headers), body }
}

/// What the route's parameter `name` matched.
fn param<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.params.iter().find(|(param, _)| param == name).map(|(_, value)| value.as_str())
}

fn open_store() -> Result<Keyvalue, HttpError> {
    Keyvalue::open("my-container").map_err(store_failed)
}

fn store_failed(error: KeyvalueError) -> HttpError {
    HttpError::UnexpectedError(error.to_string())
}
