//! Counts the visits of /hello/NAME. Each request is answered by an instance of its own: what should outlive it goes into
//! a store.

use exports::wasi::http::incoming_handler::Guest;
use wasi::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasi::keyvalue::{atomics, store};

wit_bindgen::generate!({ path: "wit", world: "guest", generate_all });

struct Visits;

export!(Visits);

impl Guest for Visits {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (status, text) = match path.strip_prefix("/hello/") {
            Some(name) => match count(name) {
                Ok(visits) => (200, format!("hello, this is visit {visits}\n")),
                Err(error) => (500, format!("{error:?}\n")),
            },
            None => (404, String::from("there is /hello/NAME\n")),
        };
        answer(out, status, &text);
    }
}

/// Counts one more visit; returns how many there were.
fn count(name: &str) -> Result<i64, store::Error> {
    let bucket = store::open("visits")?;
    atomics::increment(&bucket, name, 1)
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a status that there is");
    let body = response.body().expect("a body that nobody has taken");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a stream that nobody has taken");
    // Whoever asked may be gone: there is nothing to do about that.
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
