//! Fetches the page at URL, then posts bytes to it, and shows what comes back.

use std::env;
use std::error::Error;

use slight::http_client::{request, Request, Response};
use slight::http_types::{HttpError, Method};

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("URL").unwrap_or_else(|_| "https://example.com/".into());
    show("GET", &send(Method::Get, &url, None)?);
    // Any bytes are a body: these are no text.
    show("POST", &send(Method::Post, &url, Some(vec![0, 159, 146, 150]))?);

    // The slightfile does not grant this one: the metadata of many clouds, with the machine's credentials.
    match send(Method::Get, "http://169.254.169.254/", None) {
        Err(HttpError::UnexpectedError(reason)) => println!("refused: {reason}"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("the metadata of this machine can be read".into()),
    }
    Ok(())
}

fn send(method: Method, url: &str, body: Option<Vec<u8>>) -> Result<Response, HttpError> {
    let headers = vec![("Accept".into(), "text/html".into())];
    request(&Request { method, uri: url.into(), headers, params: vec![], body })
}

fn show(method: &str, response: &Response) {
    let headers = response.headers.as_deref().unwrap_or_default();
    let kind = headers.iter().find(|(name, _)| name == "content-type");
    println!(
        "{method}: {}, {} bytes of {}",
        response.status,
        response.body.as_deref().unwrap_or_default().len(),
        kind.map_or("an unknown type", |(_, value)| value),
    );
}
