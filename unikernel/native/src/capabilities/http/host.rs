//! Answers a guest's `http-server` imports.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use futures_util::future::join_all;

use crate::bindings::canonical_abi;
use crate::bindings::http_server::{self, HostRouter, HostServer, HttpRouterError};
use crate::capabilities::text::repr;
use crate::host::guest::Mistake;
use crate::host::sync::Mutex;
use crate::host::trace::{Call, Shown};
use crate::net::TcpListener;

use super::routes::{RouteMethod, RouteTable};
use super::server::Server;
use super::settings::{Handler, Log, Settings};

/// The resources, by their names in the interface.
const ROUTER: &str = "router";
const SERVER: &str = "server";

/// What routers and servers need.
pub struct HttpHost<H, L> {
    handler: Arc<H>,
    log: Arc<L>,
    settings: Settings,
    /// Told about every server that has begun to listen.
    serving: fn(&H, address: &str, port: u16),
    servers: Servers<H, L>,
}

/// Those that have begun and not stopped.
type Servers<H, L> = Arc<Mutex<Vec<Arc<Server<H, L>>>>>;

impl<H: Handler, L: Log> HttpHost<H, L> {
    /// `serving` is called with the address that a guest gave, and the port that is listened on.
    pub fn new(handler: Arc<H>, log: Arc<L>, settings: Settings, serving: fn(&H, &str, u16)) -> Self {
        HttpHost { handler, log, settings, serving, servers: Arc::default() }
    }

    /// Whether there is a server that hasn't been stopped.
    pub fn is_serving(&self) -> bool {
        !self.servers.lock().is_empty()
    }

    /// Stops all servers: they finish the requests under way, within the drain timeout.
    pub async fn stop_all(&self) {
        let servers = core::mem::take(&mut *self.servers.lock());
        join_all(servers.iter().map(Server::stop)).await;
    }

    fn router(&self, table: RouteTable) -> http_server::Router {
        http_server::Router::new(Router { handler: self.handler.clone(), table })
    }
}

/// `UnexpectedError` where there is no handler of that name.
pub fn resolve(handler: &impl Handler, name: &str) -> Result<(), HttpRouterError> {
    match handler.resolve(name) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let exported = name.replace('_', "-");
            Err(HttpRouterError::UnexpectedError(format!("no exported function {}", repr(&exported))))
        }
        Err(reason) => Err(HttpRouterError::UnexpectedError(reason)),
    }
}

type Answer<T> = canonical_abi::Result<Result<T, HttpRouterError>>;

/// A call's answer, which is shown with `--verbose` as this word, or as the error that it is.
fn shown<T>(call: Call, word: &str, answer: Result<T, HttpRouterError>) -> Answer<T> {
    call.end(&match &answer {
        Ok(_) => Shown::Word(word),
        Err(HttpRouterError::InvalidUrl(text)) => Shown::Error("invalid-url", text),
        Err(HttpRouterError::UnexpectedError(text)) => Shown::Error("unexpected-error", text),
        Err(_) => Shown::Word("error"),
    });
    Ok(answer)
}

impl<H: Handler, L: Log> http_server::Host for HttpHost<H, L> {
    async fn router_new(&self) -> Answer<http_server::Router> {
        shown(Call::begin(ROUTER, "new", &[]), ROUTER, Ok(self.router(RouteTable::default())))
    }

    async fn router_new_with_base(&self, base: String) -> Answer<http_server::Router> {
        let call = Call::begin(ROUTER, "new-with-base", &[Shown::Name(&base)]);
        shown(call, ROUTER, RouteTable::with_base(&base).map(|table| self.router(table)))
    }

    async fn server_serve(&self, address: String, router: http_server::Router) -> Answer<http_server::Server> {
        let Some(router) = router.downcast::<Router<H>>() else {
            return Err(canonical_abi::Fault("http-server: server::serve: the router is of another host".into()).into());
        };
        let call = Call::begin(SERVER, "serve", &[Shown::Name(&address), Shown::Word(ROUTER)]);
        let port = match port_of(&address) {
            Ok(port) => port,
            Err(error) => return shown(call, SERVER, Err(error)),
        };
        // To go on without the server that it asked for is of no use to a guest.
        let listener = match TcpListener::bind(port) {
            Ok(listener) => listener,
            Err(error) => {
                call.end(&Shown::Word("failed with UsageError"));
                return Err(Mistake(format!("can't listen on {address}: {error}")).into());
            }
        };
        let port = listener.port();
        let (handler, log) = (self.handler.clone(), self.log.clone());
        let server = Server::start(listener, &router.table, handler, log, self.settings.clone());
        let server = server.map(|server| {
            self.servers.lock().push(server.clone());
            (self.serving)(&self.handler, &address, port);
            http_server::Server::new(Running { server, servers: self.servers.clone() })
        });
        shown(call, SERVER, server)
    }
}

/// The resource `router`.
pub(super) struct Router<H> {
    handler: Arc<H>,
    table: RouteTable,
}

impl<H: Handler> Router<H> {
    fn add(&self, method: RouteMethod, name: &str, route: &str, handler: &str) -> Answer<http_server::Router> {
        let call = Call::begin(ROUTER, name, &[Shown::Name(route), Shown::Name(handler)]);
        let table = self.table.add(method, route, handler);
        let table = table.and_then(|table| resolve(&*self.handler, handler).map(|()| table));
        let router = table.map(|table| http_server::Router::new(Router { handler: self.handler.clone(), table }));
        shown(call, ROUTER, router)
    }
}

impl<H: Handler> HostRouter for Router<H> {
    async fn get(&self, route: String, handler: String) -> Answer<http_server::Router> {
        self.add(RouteMethod::Get, "get", &route, &handler)
    }

    async fn put(&self, route: String, handler: String) -> Answer<http_server::Router> {
        self.add(RouteMethod::Put, "put", &route, &handler)
    }

    async fn post(&self, route: String, handler: String) -> Answer<http_server::Router> {
        self.add(RouteMethod::Post, "post", &route, &handler)
    }

    async fn delete(&self, route: String, handler: String) -> Answer<http_server::Router> {
        self.add(RouteMethod::Delete, "delete", &route, &handler)
    }
}

/// The resource `server`.
pub(super) struct Running<H, L> {
    server: Arc<Server<H, L>>,
    servers: Servers<H, L>,
}

impl<H: Handler, L: Log> HostServer for Running<H, L> {
    async fn stop(&self) -> Answer<()> {
        let call = Call::begin(SERVER, "stop", &[]);
        self.server.stop().await;
        self.servers.lock().retain(|server| !Arc::ptr_eq(server, &self.server));
        shown(call, "ok", Ok(()))
    }
}

/// The port of an address, `HOST:PORT`. The machine listens on all its addresses, whatever the host: from where it can
/// be reached is up to whoever runs it.
///
/// `InvalidUrl` for what is no such address.
fn port_of(address: &str) -> Result<u16, HttpRouterError> {
    parse_port(address).ok_or_else(|| {
        let end = address.char_indices().nth(300).map_or(address.len(), |(at, _)| at);
        let shown = repr(&address[..end]);
        HttpRouterError::InvalidUrl(format!("{shown} is not HOST:PORT, as in 127.0.0.1:3000 or [::1]:3000"))
    })
}

fn parse_port(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_printable = address.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let host = inside.unwrap_or(host);
    if host.is_empty() || !is_printable || !is_number || host.contains(':') != inside.is_some() {
        return None;
    }
    port.parse().ok()
}
