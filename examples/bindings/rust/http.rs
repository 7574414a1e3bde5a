//! An HTTP server whose routes lead to functions that the guest exports: `wit/http-server.wit`, `wit/http-handler.wit`
//! and `wit/http-types.wit` for a guest in Rust.

use std::{error, fmt};

use crate::canonical_abi::{Expected, List, Unit};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
    Patch,
    Head,
    Options,
}

/// Headers, or the parameters of a route, as name and value.
pub type Fields = Vec<(String, String)>;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query.
    pub uri: String,
    pub headers: Fields,
    /// What the route's own parameters matched: `/person/:name` has `name`.
    pub params: Fields,
    pub body: Option<Vec<u8>>,
}

impl Request {
    /// The value of the route's parameter `name`.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(param, _)| param == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    pub headers: Option<Fields>,
    pub body: Option<Vec<u8>>,
}

/// What can go wrong with a request, a router or a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    InvalidUrl(String),
    TimeoutError(String),
    ProtocolError(String),
    StatusError(u16),
    UnexpectedError(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidUrl(text) => write!(f, "invalid URL: {text}"),
            Error::TimeoutError(text) => write!(f, "timeout error: {text}"),
            Error::ProtocolError(text) => write!(f, "protocol error: {text}"),
            Error::StatusError(status) => write!(f, "status error: {status}"),
            Error::UnexpectedError(text) => write!(f, "unexpected error: {text}"),
        }
    }
}

impl error::Error for Error {}

/// A table of routes.
///
/// A handler is the name of a function that the guest exports, in snake or in kebab case: see
/// [`register_handler!`](crate::register_handler).
#[derive(Debug)]
pub struct Router {
    handle: u32,
}

impl Router {
    /// A router without routes.
    pub fn new() -> Result<Self, Error> {
        Router::from_import(|result| unsafe { import_router_new(result) })
    }

    /// A router without routes whose later ones all begin with `base`.
    pub fn new_with_base(base: &str) -> Result<Self, Error> {
        Router::from_import(|result| unsafe { import_router_new_with_base(base.as_ptr(), base.len(), result) })
    }

    /// This router and one more route, for GET.
    pub fn get(&self, route: &str, handler: &str) -> Result<Self, Error> {
        self.add(import_router_get, route, handler)
    }

    /// This router and one more route, for PUT.
    pub fn put(&self, route: &str, handler: &str) -> Result<Self, Error> {
        self.add(import_router_put, route, handler)
    }

    /// This router and one more route, for POST.
    pub fn post(&self, route: &str, handler: &str) -> Result<Self, Error> {
        self.add(import_router_post, route, handler)
    }

    /// This router and one more route, for DELETE.
    pub fn delete(&self, route: &str, handler: &str) -> Result<Self, Error> {
        self.add(import_router_delete, route, handler)
    }

    fn add(&self, import: ImportAdd, route: &str, handler: &str) -> Result<Self, Error> {
        Router::from_import(|result| unsafe {
            import(self.handle, route.as_ptr(), route.len(), handler.as_ptr(), handler.len(), result)
        })
    }

    fn from_import(import: impl FnOnce(*mut Expected<u32, RawError>)) -> Result<Self, Error> {
        Ok(Router { handle: call(import)? })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        unsafe { import_router_drop(self.handle) }
    }
}

/// A server at work. It works on when this is dropped.
#[derive(Debug)]
pub struct Server {
    handle: u32,
}

impl Server {
    /// Serves `router` at `address`, `HOST:PORT`, and returns at once.
    pub fn serve(address: &str, router: &Router) -> Result<Self, Error> {
        let handle =
            call(|result| unsafe { import_server_serve(address.as_ptr(), address.len(), router.handle, result) })?;
        Ok(Server { handle })
    }

    /// Finishes the requests under way and ends.
    pub fn stop(&self) -> Result<(), Error> {
        call(|result| unsafe { import_server_stop(self.handle, result) }).map(|_| ())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        unsafe { import_server_drop(self.handle) }
    }
}

/// An `http-error` or `http-router-error` in memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawError {
    case: u8,
    payload: Payload,
}

#[repr(C)]
#[derive(Clone, Copy)]
union Payload {
    text: List<u8>,
    status: u16,
}

fn call<T: Copy>(import: impl FnOnce(*mut Expected<T, RawError>)) -> Result<T, Error> {
    Expected::of(import).map_err(|error| {
        // SAFETY: the result of an import is the guest's, and the case tells which payload is there.
        unsafe {
            match error.case {
                0 => Error::InvalidUrl(error.payload.text.take_string()),
                1 => Error::TimeoutError(error.payload.text.take_string()),
                2 => Error::ProtocolError(error.payload.text.take_string()),
                3 => Error::StatusError(error.payload.status),
                4 => Error::UnexpectedError(error.payload.text.take_string()),
                case => panic!("{case} is not a case of http-router-error"),
            }
        }
    })
}

type ImportAdd = unsafe extern "C" fn(u32, *const u8, usize, *const u8, usize, *mut Expected<u32, RawError>);

#[link(wasm_import_module = "http-server")]
extern "C" {
    #[link_name = "router::new"]
    fn import_router_new(result: *mut Expected<u32, RawError>);

    #[link_name = "router::new-with-base"]
    fn import_router_new_with_base(base: *const u8, base_len: usize, result: *mut Expected<u32, RawError>);

    #[link_name = "router::get"]
    fn import_router_get(
        router: u32,
        route: *const u8,
        route_len: usize,
        handler: *const u8,
        handler_len: usize,
        result: *mut Expected<u32, RawError>,
    );

    #[link_name = "router::put"]
    fn import_router_put(
        router: u32,
        route: *const u8,
        route_len: usize,
        handler: *const u8,
        handler_len: usize,
        result: *mut Expected<u32, RawError>,
    );

    #[link_name = "router::post"]
    fn import_router_post(
        router: u32,
        route: *const u8,
        route_len: usize,
        handler: *const u8,
        handler_len: usize,
        result: *mut Expected<u32, RawError>,
    );

    #[link_name = "router::delete"]
    fn import_router_delete(
        router: u32,
        route: *const u8,
        route_len: usize,
        handler: *const u8,
        handler_len: usize,
        result: *mut Expected<u32, RawError>,
    );

    #[link_name = "server::serve"]
    fn import_server_serve(address: *const u8, address_len: usize, router: u32, result: *mut Expected<u32, RawError>);

    #[link_name = "server::stop"]
    fn import_server_stop(server: u32, result: *mut Expected<Unit, RawError>);
}

#[link(wasm_import_module = "canonical_abi")]
extern "C" {
    #[link_name = "resource_drop_router"]
    fn import_router_drop(router: u32);

    #[link_name = "resource_drop_server"]
    fn import_server_drop(server: u32);
}

/// Exports a handler under a name in kebab case: `register_handler!("handle-hello", handle_hello)`, where
/// `handle_hello` is a `fn(Request) -> Result<Response, Error>`.
#[macro_export]
macro_rules! register_handler {
    ($name:literal, $handler:path) => {
        const _: () = {
            use $crate::http::export;

            #[export_name = $name]
            unsafe extern "C" fn handle(
                method: u32,
                uri: *mut u8,
                uri_len: usize,
                headers: *mut export::Field,
                headers_len: usize,
                params: *mut export::Field,
                params_len: usize,
                has_body: u32,
                body: *mut u8,
                body_len: usize,
            ) -> *const export::Outcome {
                let request = export::Arguments {
                    method,
                    uri: export::List::new(uri, uri_len),
                    headers: export::List::new(headers, headers_len),
                    params: export::List::new(params, params_len),
                    body: (has_body != 0).then(|| export::List::new(body, body_len)),
                };
                export::call($handler, request)
            }
        };
    };
}

/// What the expansion of [`register_handler!`](crate::register_handler) is made of.
#[doc(hidden)]
pub mod export {
    use std::mem::MaybeUninit;
    use std::ptr::addr_of_mut;

    pub use crate::canonical_abi::List;

    use super::{Error, Fields, Method, Payload, RawError, Request, Response};
    use crate::canonical_abi::{Expected, Opt};

    /// The parameters of a handler as they arrive.
    pub struct Arguments {
        pub method: u32,
        pub uri: List<u8>,
        pub headers: List<Field>,
        pub params: List<Field>,
        pub body: Option<List<u8>>,
    }

    /// A header or a parameter in memory.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct Field {
        name: List<u8>,
        value: List<u8>,
    }

    /// A `response` in memory.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub struct RawResponse {
        status: u16,
        headers: Opt<List<Field>>,
        body: Opt<List<u8>>,
    }

    pub type Outcome = Expected<RawResponse, RawError>;

    /// Calls a handler; the outcome is good until the next call.
    ///
    /// # Safety
    ///
    /// The host handed the request over, and nothing else takes it.
    pub unsafe fn call(handler: impl FnOnce(Request) -> Result<Response, Error>, request: Arguments) -> *const Outcome {
        static mut OUTCOME: MaybeUninit<Outcome> = MaybeUninit::uninit();

        let outcome = handler(take_request(request)).map(give_response).map_err(give_error);
        // A guest has one thread, and a handler has returned before the next call.
        let place = addr_of_mut!(OUTCOME).cast::<Outcome>();
        place.write(outcome.into());
        place
    }

    unsafe fn take_request(request: Arguments) -> Request {
        Request {
            method: match request.method {
                0 => Method::Get,
                1 => Method::Post,
                2 => Method::Put,
                3 => Method::Delete,
                4 => Method::Patch,
                5 => Method::Head,
                6 => Method::Options,
                case => panic!("{case} is not a case of method"),
            },
            uri: request.uri.take_string(),
            headers: take_fields(request.headers),
            params: take_fields(request.params),
            body: request.body.map(|body| body.take()),
        }
    }

    unsafe fn take_fields(fields: List<Field>) -> Fields {
        let fields = fields.take().into_iter();
        fields.map(|field| (field.name.take_string(), field.value.take_string())).collect()
    }

    fn give_response(response: Response) -> RawResponse {
        RawResponse {
            status: response.status,
            headers: response.headers.map(give_fields).into(),
            body: response.body.map(List::give).into(),
        }
    }

    fn give_fields(fields: Fields) -> List<Field> {
        let fields = fields.into_iter();
        List::give(fields.map(|(name, value)| Field { name: give_string(name), value: give_string(value) }).collect())
    }

    fn give_string(text: String) -> List<u8> {
        List::give(text.into_bytes())
    }

    fn give_error(error: Error) -> RawError {
        let with_text = |case, text| RawError { case, payload: Payload { text: give_string(text) } };
        match error {
            Error::InvalidUrl(text) => with_text(0, text),
            Error::TimeoutError(text) => with_text(1, text),
            Error::ProtocolError(text) => with_text(2, text),
            Error::StatusError(status) => RawError { case: 3, payload: Payload { status } },
            Error::UnexpectedError(text) => with_text(4, text),
        }
    }
}
