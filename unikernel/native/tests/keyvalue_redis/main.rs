//! `keyvalue.redis` against a real Redis, and against servers that misbehave. The same as
//! tests/capabilities/test_keyvalue_redis.py holds the Linux flavour to.
#![cfg(feature = "std")]

mod connections;
mod data;
mod errors;
mod hostile;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use slight_machine::capabilities::keyvalue::backend::{Backend, Store};
use slight_machine::capabilities::keyvalue::errors::{Kind, StoreError};
use slight_machine::capabilities::keyvalue::redis::{RedisBackend, Times};
use slight_machine::host::executor::{Task, block_on, spawn};

/// Short time limits, for servers that hang.
const SHORT: Times = Times { connect: Duration::from_millis(200), command: Duration::from_millis(400) };

fn backend(address: &str) -> RedisBackend {
    RedisBackend::new(address).unwrap()
}

/// The store of a name, which keeps the connection.
fn store(backend: &RedisBackend, name: &str) -> Arc<dyn Store> {
    backend.open(name).unwrap()
}

fn kind<T>(result: Result<T, StoreError>) -> Kind {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.kind,
    }
}

/// Calls of the same moment.
fn gets(
    store: &Arc<dyn Store>,
    number: usize,
    key: impl Fn(usize) -> String,
) -> Vec<Task<Result<Vec<u8>, StoreError>>> {
    let get = |number| {
        let (store, key) = (store.clone(), key(number));
        spawn(async move { store.get(key).await })
    };
    (0..number).map(get).collect()
}

async fn all<T>(tasks: Vec<Task<T>>) -> Vec<T> {
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await);
    }
    results
}
