//! Runs the functions that a guest exports to answer HTTP requests: a fresh instance for each request.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::pin::pin;

use super::super::control::Said;
use super::super::guest::{Ended, Program, Running, or_shortage, room};
use super::super::launcher::Launcher;
use super::entry::has_numbers;
use crate::bindings::http_handler::HandleHttp;
use crate::bindings::http_types::{HttpError, Request, Response};
use crate::capabilities::http::settings::{Failed, Handler};

/// Parameters of a handler, by the binary interface: see `HandleHttp`.
const PARAMS: usize = 10;

pub struct Handlers {
    program: Program,
    launcher: Arc<Launcher>,
}

impl Handlers {
    pub fn new(program: Program, launcher: Arc<Launcher>) -> Self {
        Handlers { program, launcher }
    }

    /// A server listens.
    pub fn serving(&self, address: &str, port: u16) {
        self.launcher.say(&Said::Serving { address, port });
    }

    /// The function that a route names, in snake or in kebab case.
    fn exported(&self, handler: &str) -> Option<String> {
        let kebab = handler.replace('_', "-");
        let is_function = |name: &str| self.program.module().get_export(name).is_some_and(|export| export.func().is_some());
        if is_function(&kebab) { Some(kebab) } else { is_function(handler).then(|| handler.to_string()) }
    }

    async fn answer(&self, handler: &str, request: &Request) -> Result<Result<Response, HttpError>, Ended> {
        room().await;
        let mut running = self.program.instantiate().await?;
        let Running { store, instance, .. } = &mut running;
        let function = HandleHttp::find(store, instance, handler)?;
        Ok(function.call(store, request).await?)
    }
}

impl Handler for Handlers {
    fn resolve(&self, name: &str) -> Result<bool, String> {
        let Some(name) = self.exported(name) else { return Ok(false) };
        let export = self.program.module().get_export(&name);
        if export.is_some_and(|export| export.func().is_some_and(|function| has_numbers(function, PARAMS, 1))) {
            Ok(true)
        } else {
            Err(format!("the exported function {name} has another signature than handle-http"))
        }
    }

    async fn handle(&self, name: &str, request: Request) -> Result<Response, Failed> {
        let name = self.exported(name).unwrap_or_else(|| name.to_string());
        match or_shortage(pin!(self.answer(&name, &request))).await {
            Ok(answer) => answer.map_err(Failed::Error),
            Err(ended) => Err(Failed::Ended(ended.to_string())),
        }
    }
}
