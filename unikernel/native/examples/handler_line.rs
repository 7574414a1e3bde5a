//! The native machine's handlers of HTTP requests behind a pipe, so that guests which mean harm are tried with them as
//! with those of `slight-py run`: tests/native_handlers.py speaks to it.
//!
//! Messages are lines of JSON, and `"body": N` in one says that N bytes follow it. Read are:
//!
//! - `{"module": "app.cwasm", "memory": 65536, "instances": 32}`: a module that `slight_py/ahead.py` compiled for this
//!   system, the bytes that an instance of it may have, and how many instances there may be. Modules are numbered from 0.
//!   `{"loaded": 0}` answers. It is granted all stores, which are its own and in memory, and may serve.
//! - `{"module": 0, "store": "a", "key": "b", "body": 3}`: a value for a module's stores.
//! - `{"module": 0, "resolve": "handle-hello"}`: `{"resolved": true}` says that the module has a handler of that name.
//! - `{"module": 0, "ask": 5, "handler": "handle-hello", "method": "GET", "uri": "/", "headers": [], "params": [],
//!   "body": 0}`: a request, which has the number 5. Its answer is `{"ask": 5, "status": 200, "headers": [["a", "b"]],
//!   "body": 3}`, without headers or body where the handler gave none, or `{"ask": 5, "error": "status-error", "value":
//!   403}`, or `{"ask": 5, "ended": "why"}`.
//! - `{"cancel": 5}`: the request is given up. It gets no answer then.
//! - `{"module": 0, "routes": [["GET", "/", "handle-hello"]], "request_timeout": 0.5}`: a server for a module, with the
//!   seconds that a handler may take. `{"port": 3000}` answers, and `{"log": "a line"}` is what the server has to say.
//! - `{"stop": 3000}`: stops the server at a port. `{"stopped": 3000}` answers.

#[path = "line/messages.rs"]
mod messages;

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::mpsc::unbounded;
use futures_util::StreamExt;
use messages::{hear, pairs, say};
use serde_json::{Value, json};
use slight_machine::bindings::http_types::{HttpError, Method, Request, Response};
use slight_machine::capabilities::http::access::AccessRecord;
use slight_machine::capabilities::http::routes::{RouteMethod, RouteTable};
use slight_machine::capabilities::http::server::Server;
use slight_machine::capabilities::http::settings::{Failed, Handler, Log, Settings};
use slight_machine::capabilities::keyvalue::backend::Backend;
use slight_machine::capabilities::keyvalue::memory::{LIMIT, MemoryStores};
use slight_machine::capabilities::keyvalue::{Stores, Wanted, backends};
use slight_machine::host::application::Handlers;
use slight_machine::host::engine::{engine, start_clock};
use slight_machine::host::executor::{Task, block_on, spawn};
use slight_machine::host::guest::{Hosts, Limits, Program, linker};
use slight_machine::host::launcher::Launcher;
use slight_machine::host::wasi::Context;
use slight_machine::memory::modules;
use slight_machine::net::TcpListener;
use wasmtime::Engine;

/// Hands on what a server has to say.
struct Said;

impl Log for Said {
    fn error(&self, line: &str) {
        say(&json!({"log": line}), b"");
    }

    fn warning(&self, line: &str) {
        say(&json!({"log": line}), b"");
    }

    fn wants_access(&self) -> bool {
        false
    }

    fn access(&self, _: &AccessRecord) {}
}

/// A module that is ready to answer requests.
struct Loaded {
    handlers: Arc<Handlers>,
    stores: MemoryStores,
}

impl Loaded {
    fn new(engine: &Engine, message: &Value) -> Self {
        let path = message["module"].as_str().expect("a path");
        let number = |key: &str| message[key].as_u64().expect("a number") as usize;
        let compiled = std::fs::read(path).expect("a compiled module").leak();
        let module = modules::load(engine, NonNull::from(compiled)).expect("a module of this version of wasmtime");

        let stores = MemoryStores::new(LIMIT);
        let all = Wanted { resource: "keyvalue.memory".into(), name: "*".into(), ..Wanted::default() };
        let granted = backends(None, vec![all], &stores).expect("stores in memory");
        // What `host/application` links for those instances that answer requests.
        let hosts = Arc::new(Hosts { stores: Some(Stores::new(granted)), serves: true, servers: None });
        let linker = linker(engine, &module, &hosts).expect("imports can be linked");
        let context = Context::new(&["app.wasm".into()], &[], None, [Arc::default(), Arc::default()], Vec::new());
        let limits = Limits { memory: number("memory"), instances: number("instances"), ..Limits::default() };
        let program = Program::new(&module, &linker, hosts, Arc::new(context), limits).expect("imports are there");
        Loaded { handlers: Arc::new(Handlers::new(program, Launcher::new(None))), stores }
    }

    async fn keep(&self, message: &Value, value: Vec<u8>) {
        let text = |key: &str| message[key].as_str().expect("a text").to_string();
        let store = self.stores.open(&text("store")).expect("a name of a store");
        store.set(text("key"), value).await.expect("a key and a value within the limits");
    }

    fn serve(&self, message: &Value) -> Arc<Server<Handlers, Said>> {
        let routes: Vec<(String, String, String)> = serde_json::from_value(message["routes"].clone()).expect("routes");
        let table = routes.iter().fold(RouteTable::default(), |table, (name, pattern, handler)| {
            let method = RouteMethod::ALL.into_iter().find(|method| method.name() == name).expect("a method");
            table.add(method, pattern, handler).expect("a route")
        });
        let request_timeout = Duration::from_secs_f64(message["request_timeout"].as_f64().expect("seconds"));
        let settings = Settings { request_timeout, ..Settings::default() };
        let listener = TcpListener::bind(0).expect("a free port");
        Server::start(listener, &table, self.handlers.clone(), Arc::new(Said), settings)
            .expect("handlers of all routes")
    }
}

fn request_of(message: &Value, body: Vec<u8>) -> Request {
    let methods =
        [Method::Get, Method::Post, Method::Put, Method::Delete, Method::Patch, Method::Head, Method::Options];
    let name = message["method"].as_str().expect("a method");
    let method = methods.into_iter().find(|method| format!("{method:?}").to_uppercase() == name);
    Request {
        method: method.expect("a method that there is"),
        uri: message["uri"].as_str().expect("a path").into(),
        headers: pairs(&message["headers"]).expect("headers"),
        params: pairs(&message["params"]).expect("parameters"),
        body: Some(body),
    }
}

async fn answer(handlers: Arc<Handlers>, number: u64, handler: String, request: Request) {
    let failed = |case: &str, value: Value| say(&json!({"ask": number, "error": case, "value": value}), b"");
    match handlers.handle(&handler, request).await {
        Ok(Response { status, headers, body }) => {
            let mut message = json!({"ask": number, "status": status});
            if let Some(headers) = headers {
                message["headers"] = json!(headers);
            }
            if let Some(body) = &body {
                message["body"] = json!(body.len());
            }
            say(&message, &body.unwrap_or_default());
        }
        Err(Failed::Ended(why)) => say(&json!({"ask": number, "ended": why}), b""),
        Err(Failed::Error(HttpError::InvalidUrl(text))) => failed("invalid-url", text.into()),
        Err(Failed::Error(HttpError::TimeoutError(text))) => failed("timeout-error", text.into()),
        Err(Failed::Error(HttpError::ProtocolError(text))) => failed("protocol-error", text.into()),
        Err(Failed::Error(HttpError::StatusError(status))) => failed("status-error", status.into()),
        Err(Failed::Error(HttpError::UnexpectedError(text))) => failed("unexpected-error", text.into()),
    }
}

fn main() {
    let engine = engine().expect("an engine");
    start_clock(&engine);
    let (sender, mut messages) = unbounded();
    std::thread::spawn(move || {
        while let Some(message) = hear() {
            // Nobody listens any more where the program is at its end.
            let _ = sender.unbounded_send(message);
        }
    });
    block_on(async {
        let mut modules = Vec::new();
        let mut requests: HashMap<u64, Task<()>> = HashMap::new();
        let mut servers = HashMap::new();
        while let Some((message, body)) = messages.next().await {
            requests.retain(|_, task| !task.is_finished());
            if message["module"].is_string() {
                modules.push(Loaded::new(&engine, &message));
                say(&json!({"loaded": modules.len() - 1}), b"");
            } else if let Some(number) = message["cancel"].as_u64() {
                // Dropping the task ends it.
                requests.remove(&number);
            } else if let Some(port) = message["stop"].as_u64() {
                let server: Arc<Server<Handlers, Said>> = servers.remove(&port).expect("a port of a server");
                spawn(async move {
                    server.stop().await;
                    say(&json!({"stopped": port}), b"");
                })
                .detach();
            } else {
                let loaded: &Loaded = &modules[message["module"].as_u64().expect("a number of a module") as usize];
                if let Some(number) = message["ask"].as_u64() {
                    let handler = message["handler"].as_str().expect("a name").to_string();
                    let request = request_of(&message, body);
                    requests.insert(number, spawn(answer(loaded.handlers.clone(), number, handler, request)));
                } else if let Some(name) = message["resolve"].as_str() {
                    let resolved = loaded.handlers.resolve(name).expect("a handler's signature");
                    say(&json!({"resolved": resolved}), b"");
                } else if message["store"].is_string() {
                    loaded.keep(&message, body).await;
                } else {
                    let server = loaded.serve(&message);
                    say(&json!({"port": server.port()}), b"");
                    servers.insert(u64::from(server.port()), server);
                }
            }
        }
    });
}
