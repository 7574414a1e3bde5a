//! WASI of the native machine behind a pipe, so that it is compared call by call with that of others:
//! tests/native_wasi.py speaks to it.
//!
//! `wasi_line MODULE [arg=TEXT]... [env=NAME=VALUE]... [dir=NAME=PATH]...`, where MODULE was compiled by
//! `python -m slight_py.ahead IN OUT host`, and exports what of WASI it imports.
//!
//! A request is a line: `call NAME NUMBER...`, `read ADDRESS SIZE`, `write ADDRESS BYTES` (hexadecimal). It is answered
//! with a line: `returned NUMBER`, `exited CODE` or `ended TEXT` for a call, and the bytes (hexadecimal) for the others.

mod folder;

use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;

use slight_machine::host::engine::{engine, start_clock};
use slight_machine::host::executor::{block_on, spawn};
use slight_machine::host::guest::{Ended, Hosts, Limits, Program, Running, linker};
use slight_machine::host::output::{Output, Sink};
use slight_machine::host::wasi::Context;
use slight_machine::host::wasi::volume::Granted;
use slight_machine::memory::modules;
use wasmtime::{Extern, Memory, Module, Val, ValType};

use folder::Folder;

/// Throws away what a guest prints.
struct Nowhere;

impl Sink for Nowhere {
    async fn write(&mut self, _: &[u8]) -> bool {
        true
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let module = arguments.next().expect("the first argument is a module");
    let (mut args, mut env, mut directories) = (Vec::new(), Vec::new(), Vec::new());
    for argument in arguments {
        match argument.split_once('=') {
            Some(("arg", text)) => args.push(text.to_string()),
            Some(("env", variable)) => {
                let (name, value) = variable.split_once('=').expect("a variable has a value");
                env.push((name.to_string(), value.to_string()));
            }
            Some(("dir", directory)) => {
                let (name, path) = directory.split_once('=').expect("a directory has a path");
                let root = Arc::new(Folder::new(PathBuf::from(path)).expect("there is no such directory"));
                directories.push(Granted { name: name.into(), root });
            }
            _ => panic!("{argument} is no argument"),
        }
    }
    let engine = engine().unwrap();
    start_clock(&engine);
    let compiled = std::fs::read(module).unwrap().leak();
    let module = modules::load(&engine, NonNull::from(compiled)).unwrap();
    block_on(async {
        let outputs = [Arc::new(Output::default()), Arc::new(Output::default())];
        let _pumps = outputs.clone().map(|output| spawn(output.pump(Nowhere)));
        let context = Arc::new(Context::new(&args, &env, None, outputs, directories));
        serve(instance(&module, context).await).await;
    });
}

async fn instance(module: &Module, context: Arc<Context>) -> Running {
    let hosts = Arc::new(Hosts { stores: None, serves: false, servers: None });
    let linker = linker(module.engine(), module, &hosts).unwrap();
    let program = Program::new(module, &linker, hosts, context, Limits::default()).unwrap();
    program.instantiate().await.unwrap()
}

async fn serve(mut running: Running) {
    let memory = running.instance.get_export(&mut running.store, "memory").and_then(Extern::into_memory).unwrap();
    for line in stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["call", name, ref numbers @ ..] => call(&mut running, name, numbers).await,
            ["read", at, size] => hexadecimal(bytes(&mut running, &memory, at, size.parse().unwrap())),
            ["write", at, content] => {
                let content = unhexadecimal(content);
                bytes(&mut running, &memory, at, content.len()).copy_from_slice(&content);
                String::new()
            }
            _ => panic!("{line} is no request"),
        };
        writeln!(stdout(), "{answer}").unwrap();
    }
}

async fn call(running: &mut Running, name: &str, numbers: &[&str]) -> String {
    let function = running.instance.get_func(&mut running.store, name).expect("there is no such function");
    let kinds = function.ty(&running.store);
    let given = kinds.params().zip(numbers).map(|(kind, number)| {
        let number: u64 = number.parse().unwrap();
        if matches!(kind, ValType::I64) { Val::I64(number as i64) } else { Val::I32(number as u32 as i32) }
    });
    let given: Vec<Val> = given.collect();
    let mut results = vec![Val::I32(0); kinds.results().len()];
    match function.call_async(&mut running.store, &given, &mut results).await.map_err(Ended::from) {
        Ok(()) => format!("returned {}", results.first().map_or(0, |result| result.unwrap_i32())),
        Err(Ended::Exit(code)) => format!("exited {code}"),
        Err(ended) => format!("ended {ended}"),
    }
}

fn bytes<'a>(running: &'a mut Running, memory: &Memory, at: &str, size: usize) -> &'a mut [u8] {
    let at: usize = at.parse().unwrap();
    &mut memory.data_mut(&mut running.store)[at..at + size]
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhexadecimal(digits: &str) -> Vec<u8> {
    digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
