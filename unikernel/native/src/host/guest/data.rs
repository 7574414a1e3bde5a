//! What belongs to one instance.

use alloc::sync::Arc;

use wasmtime::{ResourceLimiter, Result};

use super::super::wasi::Wasi;
use super::link::Hosts;
use super::shortage;
use crate::bindings::canonical_abi::{Guest, State};

/// What one instance may use, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory of an instance.
    pub memory: usize,
    /// Instances at once.
    pub instances: usize,
    /// Elements of an instance's table.
    pub table_elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory: 256 << 20, instances: 1016, table_elements: 100_000 }
    }
}

/// The data of a store, in which one instance is.
pub struct Data {
    pub(super) guest: Guest,
    pub(super) hosts: Arc<Hosts>,
    pub(super) limiter: Limiter,
    /// What WASI keeps for it.
    pub wasi: Wasi,
}

impl Data {
    pub(super) fn new(hosts: Arc<Hosts>, wasi: Wasi, limits: Limits) -> Self {
        // An instance answers one request, or runs one program: what it has allocated goes with it.
        let mut guest = Guest::default();
        guest.reused = false;
        Data { guest, hosts, limiter: Limiter(limits), wasi }
    }
}

impl State for Data {
    fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }

    fn check(&mut self) -> Result<()> {
        shortage::check()
    }
}

pub(super) struct Limiter(Limits);

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= self.0.memory)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(desired <= self.0.table_elements)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        1
    }
}
