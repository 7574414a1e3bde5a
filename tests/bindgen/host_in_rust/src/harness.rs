//! What the hosts of the tests share: an engine that loads what the wheel's wasmtime has compiled, an instance, and an
//! executor for futures that wait for nothing but a turn.

use crate::canonical_abi::{self as abi, Guest};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime::{Config, Engine, Instance, Linker, Module, Result, Store};

pub struct Data<H> {
    pub guest: Guest,
    pub host: Arc<H>,
}

impl<H: Send + Sync + 'static> abi::State for Data<H> {
    fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }
}

pub fn host<H>(data: &Data<H>) -> Arc<H> {
    data.host.clone()
}

/// As the tests' compiler is configured.
pub fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.memory_init_cow(false);
    Engine::new(&config)
}

pub fn load(engine: &Engine, path: &str) -> Result<Module> {
    // SAFETY: the test that names the file has made it.
    unsafe { Module::deserialize_file(engine, path) }
}

/// An instance of its own, and the store that it lives in.
pub async fn instance<H: Send + Sync + 'static>(
    linker: &Linker<Data<H>>,
    module: &Module,
    host: H,
) -> Result<(Store<Data<H>>, Instance)> {
    let data = Data { guest: Guest::default(), host: Arc::new(host) };
    let mut store = Store::new(module.engine(), data);
    let instance = linker.instantiate_async(&mut store, module).await?;
    if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
        initialize.call_async(&mut store, ()).await?;
    }
    Ok((store, instance))
}

/// How many blocks of memory the guest holds.
pub async fn live_blocks<H: Send + Sync + 'static>(store: &mut Store<Data<H>>, instance: &Instance) -> Result<u32> {
    instance.get_typed_func::<(), u32>(&mut *store, "live-blocks")?.call_async(store, ()).await
}

/// Gives others a turn.
pub async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await
}

/// Runs a future to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    polls(future).0
}

/// Runs a future to its end; says how often others could have had a turn meanwhile.
pub fn polls<T>(future: impl Future<Output = T>) -> (T, usize) {
    let mut future = pin!(future);
    let mut count = 0;
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (value, count);
        }
        count += 1;
    }
}

/// Runs two futures by turns; says how often both were waiting at once.
pub fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B, usize) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second, mut waiting) = (None, None, 0);
    loop {
        let context = &mut Context::from_waker(Waker::noop());
        if first.is_none() && let Poll::Ready(value) = one.as_mut().poll(context) {
            first = Some(value);
        }
        if second.is_none() && let Poll::Ready(value) = other.as_mut().poll(context) {
            second = Some(value);
        }
        match (first.is_some(), second.is_some()) {
            (true, true) => return (first.unwrap(), second.unwrap(), waiting),
            (false, false) => waiting += 1,
            _ => {}
        }
    }
}
