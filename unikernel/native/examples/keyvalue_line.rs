//! The stores of the native machine behind a pipe, so that the suite of tests which all stores pass is run against
//! these as well: tests/native_keyvalue.py speaks to it.
//!
//! `keyvalue_line memory` or `keyvalue_line redis ADDRESS`.
//!
//! A request is a line `NUMBER OPERATION NAME KEY VALUE`, where the last three are the lengths in bytes of what follows
//! the line: a store's name, a key, a value. An answer is a line `NUMBER CASE LENGTH` and so many bytes: the value, the
//! keys (each with its length before it, 4 bytes, little endian), or an error's text, a NUL and its notice. Answers come
//! in any order. The operation `cancel` gives up the request of its number, which gets no answer then.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::process::exit;
use std::sync::Arc;

use futures_channel::mpsc::{UnboundedSender, unbounded};
use futures_util::StreamExt;

use slight_machine::capabilities::keyvalue::backend::Backend;
use slight_machine::capabilities::keyvalue::errors::{ConfigError, Kind, StoreError};
use slight_machine::capabilities::keyvalue::memory::{LIMIT, MemoryStores};
use slight_machine::capabilities::keyvalue::redis::RedisBackend;
use slight_machine::host::executor::{Task, block_on, spawn};

struct Request {
    number: u64,
    operation: String,
    name: String,
    key: String,
    value: Vec<u8>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let backend: Arc<dyn Backend> = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["memory"] => Arc::new(MemoryStores::new(LIMIT)),
        ["redis", address] => match RedisBackend::new(address) {
            Ok(backend) => Arc::new(backend),
            Err(ConfigError(text)) => complain(&text),
        },
        _ => complain("say `memory` or `redis ADDRESS`"),
    };
    let (sender, mut requests) = unbounded();
    std::thread::spawn(move || receive(&sender));
    block_on(async {
        let mut tasks: HashMap<u64, Task<()>> = HashMap::new();
        while let Some(request) = requests.next().await {
            tasks.retain(|_, task| !task.is_finished());
            if request.operation == "cancel" {
                // Dropping the task ends it.
                tasks.remove(&request.number);
            } else {
                tasks.insert(request.number, spawn(answer(backend.clone(), request)));
            }
        }
    });
}

fn complain(text: &str) -> ! {
    eprintln!("keyvalue_line: {text}");
    exit(2);
}

fn receive(requests: &UnboundedSender<Request>) {
    let mut input = BufReader::new(stdin().lock());
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).unwrap() == 0 {
            return;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [number, operation, name, key, value] = words[..] else { complain("a request has five words") };
        let mut part = |length: &str| {
            let mut bytes = vec![0; length.parse().unwrap()];
            input.read_exact(&mut bytes).unwrap();
            bytes
        };
        let request = Request {
            number: number.parse().unwrap(),
            operation: operation.into(),
            name: String::from_utf8(part(name)).unwrap(),
            key: String::from_utf8(part(key)).unwrap(),
            value: part(value),
        };
        if requests.unbounded_send(request).is_err() {
            return;
        }
    }
}

async fn answer(backend: Arc<dyn Backend>, request: Request) {
    let number = request.number;
    let (case, bytes) = match perform(&*backend, request).await {
        Ok(bytes) => ("ok", bytes),
        Err(error) => (case(error.kind), [error.text, error.notice.unwrap_or_default()].join("\0").into_bytes()),
    };
    let mut output = stdout().lock();
    writeln!(output, "{number} {case} {}", bytes.len()).unwrap();
    output.write_all(&bytes).unwrap();
    output.flush().unwrap();
}

async fn perform(backend: &dyn Backend, request: Request) -> Result<Vec<u8>, StoreError> {
    let Request { operation, name, key, value, .. } = request;
    let store = backend.open(&name)?;
    match operation.as_str() {
        "open" => Ok(Vec::new()),
        "get" => store.get(key).await,
        "set" => store.set(key, value).await.map(|()| Vec::new()),
        "delete" => store.delete(key).await.map(|()| Vec::new()),
        "keys" => Ok(packed(&store.keys().await?)),
        _ => complain("there is no such operation"),
    }
}

fn packed(keys: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for key in keys {
        bytes.extend_from_slice(&u32::try_from(key.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
    }
    bytes
}

fn case(kind: Kind) -> &'static str {
    match kind {
        Kind::KeyNotFound => "key-not-found",
        Kind::InvalidKey => "invalid-key",
        Kind::InvalidValue => "invalid-value",
        Kind::Connection => "connection-error",
        Kind::Authentication => "authentication-error",
        Kind::Timeout => "timeout-error",
        Kind::Unexpected => "unexpected-error",
    }
}
