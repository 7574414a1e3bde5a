//! What a module imports, and what answers: what the slightfile grants, WASI, and nothing else.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;

use wasmtime::{Engine, Linker, Module, Result};

use super::super::application::Servers;
use super::super::wasi;
use super::data::Data;
use crate::bindings::http_server::{self, HttpRouterError};
use crate::bindings::{canonical_abi as abi, keyvalue, kv};
use crate::capabilities::keyvalue::Stores;

/// What answers the instances of one program.
pub struct Hosts {
    /// Of the family keyvalue, where that is granted.
    pub stores: Option<Arc<Stores>>,
    /// Whether the family http is granted.
    pub serves: bool,
    /// Of the family http, for instances that may start servers.
    pub servers: Option<Arc<Servers>>,
}

/// Links what a module may import. Instances that answer requests start no servers of their own.
pub fn linker(engine: &Engine, module: &Module, hosts: &Hosts) -> Result<Linker<Data>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker, module)?;
    if hosts.stores.is_some() {
        // Linked only where there are stores, so that an import of what isn't granted is refused.
        keyvalue::add_to_linker(&mut linker, stores)?;
        kv::add_to_linker(&mut linker, stores)?;
    }
    if hosts.servers.is_some() {
        http_server::add_to_linker(&mut linker, servers)?;
    } else if hosts.serves {
        http_server::add_to_linker(&mut linker, |_| Arc::new(NoServers))?;
    }
    for name in own_resources(module) {
        // As long as the machine: there is one module, and a name is as long as it likes within that.
        abi::link_guest_resource(&mut linker, Box::leak(name.into_boxed_str()))?;
    }
    Ok(linker)
}

fn stores(data: &Data) -> Arc<Stores> {
    data.hosts.stores.clone().expect("stores are linked where there are some")
}

fn servers(data: &Data) -> Arc<Servers> {
    data.hosts.servers.clone().expect("servers are linked where there are some")
}

/// The resources that a module defines itself, by what it imports for them, and exports.
fn own_resources(module: &Module) -> BTreeSet<String> {
    const OF_OWN: [&str; 3] = ["resource_new_", "resource_get_", "resource_clone_"];
    let imports = module.imports().filter(|import| import.module() == "canonical_abi");
    let imported = imports.filter_map(|import| OF_OWN.iter().find_map(|prefix| import.name().strip_prefix(prefix)));
    let exported = module.exports().filter_map(|export| export.name().strip_prefix("canonical_abi_drop_"));
    imported.map(String::from).chain(exported.map(String::from)).collect()
}

/// Answers for the instances that handle requests: those start no servers of their own.
struct NoServers;

impl http_server::Host for NoServers {
    async fn router_new(&self) -> Result<core::result::Result<http_server::Router, HttpRouterError>> {
        let text = "a handler can't start a server; only the program's entry point can";
        Ok(Err(HttpRouterError::UnexpectedError(text.into())))
    }

    async fn router_new_with_base(&self, _: String) -> Result<core::result::Result<http_server::Router, HttpRouterError>> {
        self.router_new().await
    }

    async fn server_serve(
        &self,
        _: String,
        _: http_server::Router,
    ) -> Result<core::result::Result<http_server::Server, HttpRouterError>> {
        Err(abi::Fault("http-server: server::serve: a handler has no routers".into()).into())
    }
}
