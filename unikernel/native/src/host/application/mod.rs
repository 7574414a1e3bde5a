//! The application at work: its module, linked with what it is granted, from its entry point to its end.

mod entry;
mod handlers;
mod logger;
mod run;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use wasmtime::{Engine, Module, UnknownImportError};

use super::control::{Boot, Options};
use super::guest::{Hosts, Limits, Program, linker};
use super::input::Input;
use super::launcher::Launcher;
use super::manifest::Manifest;
use super::output::Output;
use super::wasi;
use super::wasi::volume::Granted;
use crate::capabilities::http::cors::Cors;
use crate::capabilities::http::host::HttpHost;
use crate::capabilities::http::settings::Settings;
use crate::capabilities::keyvalue::memory::MemoryStores;
use crate::capabilities::keyvalue::{self, Stores, Wanted};
use entry::Entry;
pub use handlers::Handlers;
pub use logger::Logger;
pub use run::run;

/// What answers a module that may start servers.
pub type Servers = HttpHost<Handlers, Logger>;

/// Mistakes that the user can put right, a line each.
pub type Mistakes = Vec<String>;

/// Standard input, output and error.
#[derive(Clone)]
pub struct Streams {
    pub stdin: Option<Arc<Input>>,
    pub stdout: Arc<Output>,
    pub stderr: Arc<Output>,
}

/// All that an application is made of.
pub struct Parts {
    pub manifest: Manifest,
    pub boot: Boot,
    pub module: Module,
    pub streams: Streams,
    pub directories: Vec<Granted>,
    pub launcher: Arc<Launcher>,
    /// Bytes of RAM.
    pub memory: u64,
}

/// An application that is ready to run.
pub struct Application {
    /// The name of the module's file, for messages.
    name: String,
    program: Program,
    entry: Entry,
    /// Where http is granted.
    servers: Option<Arc<Servers>>,
    streams: Streams,
    launcher: Arc<Launcher>,
    /// Whether it imports an interface, WASI aside.
    asks: bool,
}

/// The limits of instances where the launcher says nothing, those of `slight-py run`.
const CONCURRENT: u64 = 1000;

/// Instances besides those that answer requests.
const FURTHER_INSTANCES: usize = 16;

impl Application {
    /// Links the module with what it is granted.
    pub fn new(parts: Parts) -> Result<Self, Mistakes> {
        let Parts { manifest, boot, module, streams, directories, launcher, memory } = parts;
        let name = manifest.app.name.clone();
        let configs = manifest.configs(&boot.values)?;
        let settings = settings(&manifest, &configs, &boot.options, memory)?;
        let stores = stores(&manifest, configs, memory)?;
        let entry = Entry::of(&module).map_err(|text| vec![format!("{name}: {text}")])?;

        let asks = module.imports().any(|import| ["http-server", "keyvalue", "kv"].contains(&import.module()));

        let mut args = vec![name.clone()];
        args.extend(boot.args);
        let outputs = || [streams.stdout.clone(), streams.stderr.clone()];
        let context = |stdin, directories| Arc::new(wasi::Context::new(&args, &boot.env, stdin, outputs(), directories));
        let limits = limits(&boot.options);
        let serves = settings.is_some();
        let link = |servers: Option<Arc<Servers>>, context| {
            let hosts = Arc::new(Hosts { stores: stores.clone(), serves, servers });
            program(&name, &module, hosts, context, limits)
        };
        let servers = match settings {
            None => None,
            Some(settings) => {
                let handlers = link(None, context(None, directories.clone()))?;
                let handlers = Arc::new(Handlers::new(handlers, launcher.clone()));
                let logger = Arc::new(Logger::new(boot.options.access_log));
                Some(Arc::new(Servers::new(handlers, logger, settings, Handlers::serving)))
            }
        };
        let program = link(servers.clone(), context(streams.stdin.clone(), directories))?;
        Ok(Application { name, program, entry, servers, streams, launcher, asks })
    }
}

fn limits(options: &Options) -> Limits {
    let usual = Limits::default();
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Limits {
        memory: options.max_memory.map_or(usual.memory, size),
        instances: size(options.max_concurrent.unwrap_or(CONCURRENT)).saturating_add(FURTHER_INSTANCES),
        ..usual
    }
}

/// What connections take at most of the machine's memory, as a share of it: requests, and responses.
const SHARE: u64 = 8;

/// Bytes that a connection takes, about.
const CONNECTION: u64 = 16 << 10;

/// Those of servers, where http is granted.
fn settings(
    manifest: &Manifest,
    configs: &[BTreeMap<String, String>],
    options: &Options,
    memory: u64,
) -> Result<Option<Settings>, Mistakes> {
    let http = manifest.grants.iter().zip(configs).find(|(grant, _)| grant.family == "http");
    let Some((grant, configs)) = http else { return Ok(None) };
    let usual = Settings::default();
    let pairs = configs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let cors = Cors::from_configs(pairs)
        .map_err(|error| vec![format!("{}http: {}: {}", manifest.place(grant), error.key, error.text)])?;
    let share = usize::try_from(memory / SHARE).unwrap_or(usize::MAX);
    let connections = usize::try_from(memory / SHARE / CONNECTION).unwrap_or(usize::MAX);
    Ok(Some(Settings {
        max_body: options.max_body.unwrap_or(usual.max_body),
        request_timeout: options.request_timeout.unwrap_or(usual.request_timeout),
        max_concurrent: options.max_concurrent.map_or(usual.max_concurrent, |count| count as usize),
        drain_timeout: options.drain_timeout.unwrap_or(usual.drain_timeout),
        max_connections: usual.max_connections.min(connections),
        max_received: usual.max_received.min(share),
        max_unsent: usual.max_unsent.min(share),
        cors,
        ..usual
    }))
}

/// What stands behind the family keyvalue, where that is granted.
fn stores(
    manifest: &Manifest,
    configs: Vec<BTreeMap<String, String>>,
    memory: u64,
) -> Result<Option<Arc<Stores>>, Mistakes> {
    let entries: Vec<Wanted> = manifest
        .grants
        .iter()
        .zip(configs)
        .filter(|(grant, _)| grant.family == "keyvalue")
        .map(|(grant, configs)| Wanted {
            resource: grant.resource.clone(),
            name: grant.name.clone(),
            line: grant.line,
            configs,
        })
        .collect();
    if entries.is_empty() {
        return Ok(None);
    }
    let memory = MemoryStores::new(keyvalue::memory::limit_in(memory));
    Ok(Some(Stores::new(keyvalue::backends(manifest.slightfile.clone(), entries, &memory)?)))
}

fn program(
    name: &str,
    module: &Module,
    hosts: Arc<Hosts>,
    context: Arc<wasi::Context>,
    limits: Limits,
) -> Result<Program, Mistakes> {
    let refused = |error: wasmtime::Error| {
        vec![match error.downcast_ref::<UnknownImportError>() {
            Some(import) => format!(
                "{name}: imports {} ({}), which nothing provides; build the image again",
                import.module(),
                import.name()
            ),
            None => format!("{name}: it can't be run: {error}"),
        }]
    };
    let linker = linker(module.engine(), module, &hosts).map_err(refused)?;
    Program::new(module, &linker, hosts, context, limits).map_err(refused)
}

/// Whether a module can serve, or reach what it is granted over the network: not where it imports none of that.
pub fn needs_network(module: &Module, manifest: &Manifest) -> bool {
    let imports = |interfaces: &[&str]| module.imports().any(|import| interfaces.contains(&import.module()));
    imports(&["http-server"]) || (manifest.needs_network && imports(&["keyvalue", "kv"]))
}

/// Takes a module as it was compiled. Fails with a line that says what to do.
pub fn load(engine: &Engine, name: &str, compiled: core::ptr::NonNull<[u8]>) -> Result<Module, String> {
    crate::memory::modules::load(engine, compiled).map_err(|error| {
        let error = error.to_string();
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{name}: this machine doesn't run it as it was compiled: {error}; build the image again")
    })
}

#[cfg(all(test, feature = "guests"))]
mod tests;
