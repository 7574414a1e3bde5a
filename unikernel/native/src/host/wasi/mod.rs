//! WASI preview 1: each of its functions, as a guest calls it.
//!
//! Numbers, layouts and rights are those of WASI's `wasi_snapshot_preview1` witx files, and whatever those leave open is as
//! with `slight-py run`: `slight_py/wasi/` answers the same calls there, and a guest can't tell the two apart. Files can be
//! read and not written; docs/image.md says which there are.

mod call;
mod descriptors;
mod environment;
pub mod errno;
mod files;
pub mod mapped;
mod import;
mod paths;
mod poll;
mod reading;
mod table;
#[cfg(target_os = "none")]
pub mod uhyve;
pub mod volume;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use wasmtime::{Linker, Module, Result};

use super::guest::Data;
use super::input::Input;
use super::output::Output;
use super::platform;
use environment::Texts;
pub use errno::Errno;
use import::Import;
use table::Table;
use volume::Granted;

/// What guests import it as.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// What guests are given of the machine. It is the same for all instances of a program.
pub struct Context {
    args: Texts,
    env: Texts,
    stdin: Option<Arc<Input>>,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    directories: Vec<Granted>,
}

impl Context {
    /// `args` begin with the name of the program. Without `stdin` standard input is at its end.
    pub fn new(
        args: &[String],
        env: &[(String, String)],
        stdin: Option<Arc<Input>>,
        [stdout, stderr]: [Arc<Output>; 2],
        directories: Vec<Granted>,
    ) -> Self {
        let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Context { args: Texts::new(args), env: Texts::new(&env), stdin, stdout, stderr, directories }
    }
}

/// What one instance has of it.
pub struct Wasi {
    context: Arc<Context>,
    /// When the guest's own clock began, since boot.
    started: Duration,
    /// What it has open. Most instances open nothing, and need no table.
    table: Option<Table>,
}

impl Wasi {
    pub fn new(context: &Arc<Context>) -> Self {
        Wasi { context: context.clone(), started: platform::now(), table: None }
    }

    fn table(&mut self) -> &mut Table {
        let context = &self.context;
        self.table.get_or_insert_with(|| Table::new(context))
    }
}

/// Links those functions that a module imports.
pub fn add_to_linker(linker: &mut Linker<Data>, module: &Module) -> Result<()> {
    let imports = module.imports().filter(|import| import.module() == MODULE);
    let imported: Vec<&str> = imports.map(|import| import.name()).collect();
    let folders: [&[Import]; 5] =
        [&environment::IMPORTS, &descriptors::IMPORTS, &reading::IMPORTS, &paths::IMPORTS, &poll::IMPORTS];
    let functions = folders.into_iter().flatten().filter(|function| imported.contains(&function.name));
    functions.map(|function| function.link(linker)).collect()
}
