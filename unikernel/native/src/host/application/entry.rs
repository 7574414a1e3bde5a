//! Where a module begins.

use alloc::format;
use alloc::string::{String, ToString};

use wasmtime::{FuncType, Module, ValType};

use super::super::guest::{Ended, Running};
use crate::bindings::canonical_abi as abi;
use crate::bindings::http_server_export::OnServerInit;

/// The first of these that a module exports is where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    OnServerInit,
    Start,
    Main,
}

const NAMES: [(Entry, &str); 3] =
    [(Entry::OnServerInit, "on-server-init"), (Entry::Start, "_start"), (Entry::Main, "main")];

impl Entry {
    /// Fails with what is wrong where there is none.
    pub fn of(module: &Module) -> Result<Self, String> {
        for (entry, name) in NAMES {
            if let Some(function) = module.get_export(name).and_then(|export| export.func().cloned()) {
                return if entry.fits(&function) {
                    Ok(entry)
                } else {
                    Err(format!("the exported function {name} has another signature than an entry point"))
                };
            }
        }
        let names = NAMES.map(|(_, name)| name).join(", ");
        Err(format!("exports none of {names}; build it as a program, not as a library"))
    }

    fn fits(self, function: &FuncType) -> bool {
        let (params, results) = match self {
            Entry::OnServerInit => (0, 1),
            Entry::Start => (0, 0),
            Entry::Main => (2, 1),
        };
        has_numbers(function, params, results)
    }

    /// Runs it: the exit code, or what ended the guest. `failed` is told what an `on-server-init` reports.
    pub async fn enter(self, running: &mut Running, failed: impl FnOnce(&str)) -> Result<u8, Ended> {
        let Running { store, instance, .. } = running;
        match self {
            Entry::OnServerInit => {
                let function = OnServerInit::find(store, instance, OnServerInit::NAME)?;
                if let Err(text) = function.call(store).await? {
                    failed(&text.to_string());
                    return Ok(1);
                }
                Ok(0)
            }
            Entry::Start => {
                let function = abi::export::<_, (), ()>(store, instance, "_start")?;
                abi::call(store, &function, ()).await?;
                Ok(0)
            }
            Entry::Main => {
                // Without WASI there are no arguments: argc 0 and a null argv.
                let function = abi::export::<_, (u32, u32), u32>(store, instance, "main")?;
                Ok(abi::call(store, &function, (0, 0)).await? as u8)
            }
        }
    }
}

/// Whether a function takes and returns so many 32-bit integers, and nothing else.
pub fn has_numbers(function: &FuncType, params: usize, results: usize) -> bool {
    let is_number = |kind: ValType| matches!(kind, ValType::I32);
    function.params().len() == params
        && function.results().len() == results
        && function.params().all(is_number)
        && function.results().all(is_number)
}
