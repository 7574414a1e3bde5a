//! The HTTP server of the native machine as an ordinary program, whose requests are answered by the one that started it.
//!
//! The tests of tests/capabilities run against it as against the server in Python. What is read and written are lines
//! of JSON; `"body": N` in one says that N bytes follow it. The first line that is read has the settings:
//!
//! `{"routes": [["GET", "/", "hello"]], "handlers": ["hello"], "access": true, "cors": {}, "settings": {"max_body": 10}}`
//!
//! Numbers of `settings` that are times are in seconds. Then come `{"id": 1, "status": 200, "headers": [["a", "b"]],
//! "body": 3}`, `{"id": 1, "error": "status-error", "value": 403}`, `{"id": 1, "ended": "why"}` and `{"stop": true}`.
//! Written are `{"port": 3000}`, `{"id": 1, "handler": "hello", "method": "GET", …, "body": 0}`, `{"cancelled": 1}`,
//! `{"error": "a line of the log"}`, `{"warning": …}`, `{"access": {…}}` and `{"stopped": true}`.

#[path = "line/messages.rs"]
mod messages;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_channel::oneshot;
use messages::{hear, pairs, say};
use serde_json::{Value, json};
use slight_machine::bindings::http_types::{HttpError, Request, Response};
use slight_machine::capabilities::http::access::{self, AccessRecord};
use slight_machine::capabilities::http::cors::Cors;
use slight_machine::capabilities::http::routes::{RouteMethod, RouteTable};
use slight_machine::capabilities::http::server::Server;
use slight_machine::capabilities::http::settings::{Failed, Handler, Log, Settings};
use slight_machine::host::executor;
use slight_machine::net::TcpListener;

type Answer = Result<Response, Failed>;

struct Bridge {
    handlers: Vec<String>,
    wants_access: bool,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>,
}

/// Tells the other side when a handler's work is given up.
struct Asked<'a> {
    bridge: &'a Bridge,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.bridge.waiting.lock().unwrap().remove(&self.id).is_some() {
            say(&json!({"cancelled": self.id}), b"");
        }
    }
}

impl Handler for Bridge {
    fn resolve(&self, name: &str) -> Result<bool, String> {
        Ok(self.handlers.contains(&name.replace('_', "-")))
    }

    async fn handle(&self, name: &str, request: Request) -> Answer {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, sender);
        let asked = Asked { bridge: self, id };
        let body = request.body.unwrap_or_default();
        say(
            &json!({
                "id": id,
                "handler": name,
                "method": format!("{:?}", request.method).to_uppercase(),
                "uri": request.uri,
                "headers": request.headers,
                "params": request.params,
                "body": body.len(),
            }),
            &body,
        );
        let answer = answer.await;
        drop(asked);
        answer.unwrap_or_else(|_| Err(Failed::Ended("nobody answers".into())))
    }
}

impl Log for Bridge {
    fn error(&self, line: &str) {
        say(&json!({"error": line}), b"");
    }

    fn warning(&self, line: &str) {
        say(&json!({"warning": line}), b"");
    }

    fn wants_access(&self) -> bool {
        self.wants_access
    }

    fn access(&self, record: &AccessRecord) {
        let record: Value = serde_json::from_str(&access::json(record)).expect("the log's own JSON");
        say(&json!({"access": record}), b"");
    }
}

fn answer_of(message: &Value, body: Vec<u8>) -> Answer {
    if let Some(reason) = message["ended"].as_str() {
        return Err(Failed::Ended(reason.into()));
    }
    let text = message["value"].as_str().unwrap_or_default().to_string();
    match message["error"].as_str() {
        None => Ok(Response {
            status: message["status"].as_u64().expect("a status") as u16,
            headers: pairs(&message["headers"]),
            body: message["body"].is_u64().then_some(body),
        }),
        Some("invalid-url") => Err(Failed::Error(HttpError::InvalidUrl(text))),
        Some("timeout-error") => Err(Failed::Error(HttpError::TimeoutError(text))),
        Some("protocol-error") => Err(Failed::Error(HttpError::ProtocolError(text))),
        Some("status-error") => {
            Err(Failed::Error(HttpError::StatusError(message["value"].as_u64().expect("a status") as u16)))
        }
        Some(_) => Err(Failed::Error(HttpError::UnexpectedError(text))),
    }
}

fn settings_of(start: &Value) -> Settings {
    let given = &start["settings"];
    let configs: BTreeMap<String, String> = serde_json::from_value(start["cors"].clone()).unwrap_or_default();
    let cors = Cors::from_configs(configs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let default = Settings::default();
    let time = |key: &str, default: Duration| given[key].as_f64().map_or(default, Duration::from_secs_f64);
    let number = |key: &str, default: usize| given[key].as_u64().map_or(default, |number| number as usize);
    Settings {
        max_body: given["max_body"].as_u64().unwrap_or(default.max_body),
        request_timeout: time("request_timeout", default.request_timeout),
        body_timeout: time("body_timeout", default.body_timeout),
        max_concurrent: number("max_concurrent", default.max_concurrent),
        drain_timeout: time("drain_timeout", default.drain_timeout),
        cors: cors.expect("CORS settings that make sense"),
        max_connections: number("max_connections", default.max_connections),
        max_received: number("max_received", default.max_received),
        max_unsent: number("max_unsent", default.max_unsent),
        idle_timeout: time("idle_timeout", default.idle_timeout),
        grace: time("grace", default.grace),
        linger: time("linger", default.linger),
        send_stall: time("send_stall", default.send_stall),
    }
}

fn table_of(start: &Value) -> RouteTable {
    let routes: Vec<(String, String, String)> = serde_json::from_value(start["routes"].clone()).expect("routes");
    routes.iter().fold(RouteTable::default(), |table, (name, pattern, handler)| {
        let method = RouteMethod::ALL.into_iter().find(|method| method.name() == name).expect("a method");
        table.add(method, pattern, handler).expect("a route")
    })
}

fn main() {
    let (start, _) = hear().expect("settings");
    let bridge = Arc::new(Bridge {
        handlers: serde_json::from_value(start["handlers"].clone()).expect("handlers"),
        wants_access: start["access"] == true,
        next: AtomicU64::new(1),
        waiting: Mutex::new(BTreeMap::new()),
    });
    let (stop, stopping) = oneshot::channel();
    let hearing = bridge.clone();
    std::thread::spawn(move || {
        let mut stop = Some(stop);
        while let Some((message, body)) = hear() {
            if message["stop"] == true
                && let Some(stop) = stop.take()
            {
                let _ = stop.send(());
            }
            let Some(id) = message["id"].as_u64() else { continue };
            // A request that was cancelled meanwhile isn't there any more.
            let asked = hearing.waiting.lock().unwrap().remove(&id);
            if let Some(sender) = asked {
                let _ = sender.send(answer_of(&message, body));
            }
        }
    });
    executor::block_on(async {
        let listener = TcpListener::bind(0).expect("a free port");
        let server = Server::start(listener, &table_of(&start), bridge.clone(), bridge, settings_of(&start));
        let server = server.expect("handlers for all routes");
        say(&json!({"port": server.port()}), b"");
        let _ = stopping.await;
        server.stop().await;
        say(&json!({"stopped": true}), b"");
    });
}
