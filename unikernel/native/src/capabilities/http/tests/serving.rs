//! A server with handlers that answer at once, and clients of it.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::pending;
use core::time::Duration;

use crate::bindings::http_types::{Request, Response};
use crate::capabilities::http::access::{AccessRecord, plain};
use crate::capabilities::http::routes::{RouteMethod, RouteTable};
use crate::capabilities::http::server::Server;
use crate::capabilities::http::settings::{Failed, Handler, Log, Settings};
use crate::host::executor;
use crate::host::sync::Mutex;
use crate::net::{TcpListener, TcpStream};

/// What a client waits for at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// `hello`, `echo`, and `wait`, which never ends; and notes of what happened.
#[derive(Default)]
pub struct Application {
    pub dropped: Mutex<usize>,
    pub lines: Mutex<Vec<String>>,
}

impl Handler for Application {
    fn resolve(&self, name: &str) -> Result<bool, String> {
        match name {
            "odd" => Err("odd takes 3 parameters, a handler takes 10".to_string()),
            _ => Ok(["hello", "echo", "wait", "handle_a", "handle-a"].contains(&name)),
        }
    }

    async fn handle(&self, name: &str, request: Request) -> Result<Response, Failed> {
        match name {
            "echo" => Ok(Response { status: 200, headers: None, body: request.body }),
            "wait" => {
                let _noted = Noted(&self.dropped);
                pending().await
            }
            _ => Ok(Response { status: 200, headers: None, body: Some(b"hello".into()) }),
        }
    }
}

struct Noted<'a>(&'a Mutex<usize>);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

impl Log for Application {
    fn error(&self, line: &str) {
        self.lines.lock().push(line.to_string());
    }

    fn warning(&self, line: &str) {
        self.lines.lock().push(line.to_string());
    }

    fn wants_access(&self) -> bool {
        true
    }

    fn access(&self, record: &AccessRecord) {
        let record = AccessRecord { time: Duration::ZERO, ..record.clone() };
        self.lines.lock().push(plain(&record));
    }
}

/// A server at work: `GET /` is hello, `POST /` echo, `GET /wait` wait.
pub struct Serving {
    pub application: Arc<Application>,
    pub server: Arc<Server<Application, Application>>,
}

impl Serving {
    pub fn new(settings: Settings) -> Serving {
        let application = Arc::new(Application::default());
        let mut table = RouteTable::default();
        for (method, route, handler) in
            [(RouteMethod::Get, "/", "hello"), (RouteMethod::Post, "/", "echo"), (RouteMethod::Get, "/wait", "wait")]
        {
            table = table.add(method, route, handler).unwrap();
        }
        let listener = TcpListener::bind(0).unwrap();
        let server = Server::start(listener, &table, application.clone(), application.clone(), settings).unwrap();
        Serving { application, server }
    }

    pub async fn connect(&self) -> TcpStream {
        let address = ([127, 0, 0, 1], self.server.port()).into();
        TcpStream::connect(address, PATIENCE).await.unwrap()
    }

    /// What comes back until the server closes the connection.
    pub async fn ask(&self, bytes: &[u8]) -> String {
        let stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_all(&stream).await
    }

    /// The lines of the logs so far, once there are so many.
    pub async fn lines(&self, count: usize) -> Vec<String> {
        until(|| self.application.lines.lock().len() >= count).await;
        self.application.lines.lock().clone()
    }
}

pub async fn read_all(stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..count]);
        }
    };
    executor::timeout(PATIENCE, reading).await.expect("the server closes the connection");
    String::from_utf8(bytes).unwrap()
}

pub async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        executor::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be");
}
