//! The server: it listens, accepts connections, and stops.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;

use crate::bindings::http_types::HttpRouterError;
use crate::host::executor::{self, Task};
use crate::host::platform;
use crate::host::sync::{Mutex, Notify};
use crate::net::{TcpListener, TcpStream};

use super::budget::Budget;
use super::connection::Connection;
use super::connections::Connections;
use super::date::http_date;
use super::host::resolve;
use super::matcher::Matcher;
use super::routes::RouteTable;
use super::settings::{Handler, Log, Settings};

/// How long connections that are being made when the server stops may take to be there.
const CONNECTING: Duration = Duration::from_millis(10);

/// How long a client may take to receive the end of its last answer once the drain timeout is over, and how long tasks
/// that were ended may take.
const CLOSING: Duration = Duration::from_secs(2);

/// How long to wait after a connection couldn't be accepted, so that nothing spins.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// From one warning that there are too many connections to the next.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What all connections of a server have in common.
pub struct Shared<H, L> {
    pub handler: Arc<H>,
    pub log: Arc<L>,
    pub settings: Settings,
    pub matcher: Matcher,
    pub connections: Connections,
    /// How many requests are under way, from the first byte of the body to the handler's end.
    pub running: AtomicUsize,
    pub received: Arc<Budget>,
    date: Mutex<(u64, Arc<str>)>,
    warned: Mutex<Option<Duration>>,
}

impl<H: Handler, L: Log> Shared<H, L> {
    /// The value of the header Date, worked out once a second.
    pub fn date(&self) -> Arc<str> {
        let now = platform::wall();
        let mut date = self.date.lock();
        if date.0 != now.as_secs() || date.1.is_empty() {
            *date = (now.as_secs(), http_date(now).into());
        }
        date.1.clone()
    }

    fn serve(self: &Arc<Self>, stream: TcpStream) {
        if self.connections.count() >= self.settings.max_connections {
            let now = platform::now();
            let mut warned = self.warned.lock();
            if warned.is_none_or(|before| now - before >= WARN_EVERY) {
                *warned = Some(now);
                drop(warned);
                let text = alloc::format!("{} connections are open: others are closed", self.settings.max_connections);
                self.log.warning(&text);
            }
            return;
        }
        let client = stream.peer().ip().to_string().into();
        self.connections.add(client, |slot| executor::spawn(Connection::new(self.clone(), slot, stream).run()));
    }
}

/// A server at work. It works on until it is stopped, whoever holds it.
pub struct Server<H, L> {
    shared: Arc<Shared<H, L>>,
    port: u16,
    accepting: Mutex<Option<Task<()>>>,
    stopped: AtomicBool,
    has_stopped: Notify,
}

impl<H: Handler, L: Log> Server<H, L> {
    /// Serves a table of routes. `UnexpectedError` where a handler of the table is missing.
    pub fn start(
        listener: TcpListener,
        table: &RouteTable,
        handler: Arc<H>,
        log: Arc<L>,
        settings: Settings,
    ) -> Result<Arc<Server<H, L>>, HttpRouterError> {
        for route in table.routes() {
            resolve(&*handler, &route.handler)?;
        }
        let shared = Arc::new(Shared {
            handler,
            log,
            matcher: Matcher::new(table),
            connections: Connections::default(),
            running: AtomicUsize::new(0),
            received: Arc::new(Budget::new(settings.max_received)),
            settings,
            date: Mutex::new((0, "".into())),
            warned: Mutex::new(None),
        });
        let port = listener.port();
        let accepting = executor::spawn(accept(shared.clone(), listener));
        Ok(Arc::new(Server {
            shared,
            port,
            accepting: Mutex::new(Some(accepting)),
            stopped: AtomicBool::new(false),
            has_stopped: Notify::new(),
        }))
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Accepts no more, and answers what has begun to arrive. Connections that are silent close after a second.
    ///
    /// What still runs after the drain timeout is ended, and the connections cut. It may be called again.
    pub async fn stop(self: &Arc<Self>) {
        let accepting = self.accepting.lock().take();
        if let Some(accepting) = accepting {
            // A task of its own, as whoever called this may be ended before.
            executor::spawn(self.clone().stop_now(accepting)).detach();
        }
        loop {
            let notified = self.has_stopped.notified();
            if self.stopped.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }

    async fn stop_now(self: Arc<Self>, accepting: Task<()>) {
        executor::sleep(CONNECTING).await;
        accepting.cancel().await;
        let connections = &self.shared.connections;
        connections.drain();
        if executor::timeout(self.shared.settings.drain_timeout, connections.all_closed()).await.is_err() {
            connections.close();
            if executor::timeout(CLOSING, connections.all_closed()).await.is_err() {
                connections.cut();
                let _ = executor::timeout(CLOSING, connections.all_closed()).await; // nothing more can be done
            }
        }
        self.stopped.store(true, Ordering::Release);
        self.has_stopped.notify();
    }
}

async fn accept<H: Handler, L: Log>(shared: Arc<Shared<H, L>>, listener: TcpListener) {
    let mut said = String::new();
    loop {
        match listener.accept().await {
            Ok(stream) => shared.serve(stream),
            Err(error) => {
                let text = alloc::format!("a connection can't be accepted: {error}");
                if said != text {
                    shared.log.warning(&text);
                    said = text;
                }
                executor::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}
