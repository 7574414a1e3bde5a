//! The guests of tests, tests/guests, as `tests/native_guests.py` has compiled them: by their names.

use std::format;
use std::path::PathBuf;
use std::string::String;

use wasmtime::{Engine, Module};

use crate::memory::modules;

/// Where they are, unless the environment says otherwise.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/guests");

pub fn module(engine: &Engine, name: &str) -> Module {
    let folder = std::env::var("SLIGHT_GUESTS").unwrap_or_else(|_| String::from(FOLDER));
    let path = PathBuf::from(folder).join(format!("{name}.cwasm"));
    let mut compiled = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; `python -m tests.native_guests` compiles it", path.display());
    });
    modules::load(engine, (&mut compiled[..]).into()).unwrap()
}
