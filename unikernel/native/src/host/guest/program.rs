//! A module linked with its hosts, from which instances are made.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store, UpdateDeadline};

use super::super::executor;
use super::super::wasi::{self, Wasi};
use super::data::{Data, Limits};
use super::ended::Ended;
use super::link::Hosts;
use crate::bindings::canonical_abi as abi;

/// A module linked with its hosts.
pub struct Program {
    pre: InstancePre<Data>,
    hosts: Arc<Hosts>,
    /// What WASI gives its instances.
    context: Arc<wasi::Context>,
    limits: Limits,
    /// How many instances there are now.
    running: Arc<AtomicUsize>,
    /// Whether it has a function that comes before any other, as a reactor's.
    initializes: bool,
}

impl Program {
    /// Fails where the module imports what the linker hasn't.
    pub fn new(
        module: &Module,
        linker: &Linker<Data>,
        hosts: Arc<Hosts>,
        context: Arc<wasi::Context>,
        limits: Limits,
    ) -> wasmtime::Result<Self> {
        let initializes = module.get_export("_initialize").is_some_and(|export| {
            export.func().is_some_and(|function| function.params().len() + function.results().len() == 0)
        });
        let pre = linker.instantiate_pre(module)?;
        Ok(Program { pre, hosts, context, limits, running: Arc::default(), initializes })
    }

    pub fn module(&self) -> &Module {
        self.pre.module()
    }

    fn engine(&self) -> &Engine {
        self.module().engine()
    }

    /// A fresh instance whose `_initialize` has run, if it has one.
    pub async fn instantiate(&self) -> Result<Running, Ended> {
        let slot = Slot::take(&self.running, self.limits.instances)?;
        let mut store = Store::new(self.engine(), Data::new(self.hosts.clone(), Wasi::new(&self.context), self.limits));
        store.limiter(|data| &mut data.limiter);
        // A guest that has computed for a tick of the clock lets others have theirs.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::YieldCustom(1, Box::pin(executor::give_way()))));
        let instance = self.pre.instantiate_async(&mut store).await.map_err(Ended::at_start)?;
        if self.initializes {
            let function = abi::export::<_, (), ()>(&mut store, &instance, "_initialize")?;
            abi::call(&mut store, &function, ()).await?;
        }
        Ok(Running { store, instance, _slot: slot })
    }
}

/// An instance at work. Dropping it ends it, and so does dropping a call of it.
pub struct Running {
    pub store: Store<Data>,
    pub instance: Instance,
    _slot: Slot,
}

/// One of the instances that there may be at once.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(running: &Arc<AtomicUsize>, most: usize) -> Result<Self, Ended> {
        if running.fetch_add(1, Ordering::Relaxed) >= most {
            running.fetch_sub(1, Ordering::Relaxed);
            return Err(Ended::Trap(format!("all {most} instances are in use")));
        }
        Ok(Slot(running.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
