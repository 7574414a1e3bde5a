//! With guests: small programs in WebAssembly's text form.

use std::string::ToString;
use std::time::Instant;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use wasmtime::{Engine, Module};

use super::*;
use crate::bindings::canonical_abi as abi;
use crate::host::engine::{engine, start_clock};
use crate::host::executor::{Elapsed, block_on, sleep, spawn, timeout};
use crate::host::output::Output;
use crate::host::wasi::Context;

/// A program with a clock that takes turns.
fn program(wat: &str, limits: Limits) -> Program {
    let engine: Engine = engine().unwrap();
    start_clock(&engine);
    let module = Module::new(&engine, wat).unwrap();
    let hosts = Arc::new(Hosts { stores: None, serves: false, servers: None });
    let output = Arc::new(Output::default());
    let args = ["app.wasm".to_string()];
    let context = Context::new(&args, &BTreeMap::new(), None, [output.clone(), output], alloc::vec::Vec::new());
    let linker = linker(&engine, &module, &hosts).unwrap();
    Program::new(&module, &linker, hosts, Arc::new(context), limits).unwrap()
}

async fn start(program: &Program) -> Result<i32, Ended> {
    let mut running = program.instantiate().await?;
    let Running { store, instance, .. } = &mut running;
    let function = abi::export::<_, (), i32>(store, instance, "run")?;
    Ok(abi::call(store, &function, ()).await?)
}

/// What a function with this body gives, with a memory of one page.
fn outcome(body: &str) -> Result<i32, Ended> {
    let wat = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (table 1 1000000 funcref)
            (func $deep (call $deep) (call $deep))
            (func (export "run") (result i32) {body}))"#
    );
    block_on(start(&program(&wat, Limits { memory: 2 << 16, table_elements: 100, ..Limits::default() })))
}

fn trap(text: &str) -> Result<i32, Ended> {
    Err(Ended::Trap(text.into()))
}

#[test]
fn traps_are_told_in_the_engines_words() {
    let cases = [
        ("unreachable", "wasm trap: wasm `unreachable` instruction executed"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "wasm trap: integer divide by zero"),
        ("(i32.load (i32.const 65536))", "wasm trap: out of bounds memory access"),
        ("(call $deep) (i32.const 0)", "wasm trap: call stack exhausted"),
    ];
    for (body, text) in cases {
        assert_eq!(outcome(body), trap(text));
    }
}

#[test]
fn a_guest_ends_itself_with_a_code_up_to_125() {
    assert_eq!(outcome("(call $exit (i32.const 125)) (i32.const 0)"), Err(Ended::Exit(125)));
    let refused = "exit with invalid exit status outside of [0..126)";
    assert_eq!(outcome("(call $exit (i32.const 126)) (i32.const 0)"), trap(refused));
}

#[test]
fn memory_and_tables_grow_to_their_limits() {
    assert_eq!(outcome("(memory.grow (i32.const 1))"), Ok(1));
    assert_eq!(outcome("(memory.grow (i32.const 2))"), Ok(-1));
    assert_eq!(outcome("(table.grow (ref.null func) (i32.const 99))"), Ok(1));
    assert_eq!(outcome("(table.grow (ref.null func) (i32.const 100))"), Ok(-1));
}

#[test]
fn a_module_that_begins_past_the_limit_is_not_instantiated() {
    let wat = r#"(module (memory (export "memory") 3) (func (export "run") (result i32) (i32.const 0)))"#;
    let ended = block_on(start(&program(wat, Limits { memory: 2 << 16, ..Limits::default() })));
    assert_eq!(ended, Err(Ended::Invalid("memory minimum size of 3 pages exceeds memory limits".into())));
}

#[test]
fn there_are_so_many_instances_at_once_and_no_more() {
    let wat = r#"(module (func (export "run") (result i32) (i32.const 5)))"#;
    let program = program(wat, Limits { instances: 2, ..Limits::default() });
    block_on(async {
        let first = program.instantiate().await.unwrap();
        let _second = program.instantiate().await.unwrap();
        assert_eq!(program.instantiate().await.err(), Some(Ended::Trap("all 2 instances are in use".into())));
        drop(first);
        assert_eq!(start(&program).await, Ok(5));
    });
}

#[test]
fn a_reactor_is_initialized_before_its_first_call() {
    let wat = r#"(module (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.const 9)))
        (func (export "run") (result i32) (global.get $ready)))"#;
    assert_eq!(block_on(start(&program(wat, Limits::default()))), Ok(9));
}

const ENDLESS: &str = r#"(module (func (export "run") (result i32) (loop $again (br $again)) (i32.const 0)))"#;

#[test]
fn a_guest_that_computes_for_ever_is_ended_by_the_time_limit() {
    let program = program(ENDLESS, Limits::default());
    let began = Instant::now();
    assert_eq!(block_on(timeout(Duration::from_millis(50), start(&program))), Err(Elapsed));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn guests_that_compute_hold_up_nobody_for_longer_than_a_few_turns() {
    let program = Arc::new(program(ENDLESS, Limits::default()));
    block_on(async {
        let computing: alloc::vec::Vec<_> = (0..20)
            .map(|_| {
                let program = program.clone();
                spawn(async move { start(&program).await })
            })
            .collect();
        sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        for _ in 0..5 {
            sleep(Duration::from_millis(1)).await;
        }
        // 5 waits, each of which 20 guests could hold up for a turn of 10 ms each: a second.
        assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
        drop(computing);
    });
}

/// Waits for so many nanoseconds with `poll_oneoff`.
fn waiting(nanoseconds: u64) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "run") (result i32)
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const {nanoseconds}))
                (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))"#
    )
}

#[test]
fn guests_that_wait_wait_at_the_same_time() {
    let program = Arc::new(program(&waiting(100_000_000), Limits::default()));
    let began = Instant::now();
    block_on(async {
        let tasks: alloc::vec::Vec<_> = (0..50)
            .map(|_| {
                let program = program.clone();
                spawn(async move { start(&program).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await, Ok(0));
        }
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_millis(2500), "{took:?}");
}

#[test]
fn a_guest_that_is_given_up_while_it_waits_leaves_nothing_behind() {
    let program = program(&waiting(3_600_000_000_000), Limits { instances: 1, ..Limits::default() });
    for _ in 0..3 {
        assert_eq!(block_on(timeout(Duration::from_millis(10), start(&program))), Err(Elapsed));
    }
}

#[test]
fn an_import_that_nothing_provides_is_named() {
    let engine = engine().unwrap();
    let module = Module::new(&engine, r#"(module (import "keyvalue" "keyvalue::open" (func (param i32 i32 i32))))"#);
    let module = module.unwrap();
    let hosts = Hosts { stores: None, serves: false, servers: None };
    let linker = linker(&engine, &module, &hosts).unwrap();
    let error = linker.instantiate_pre(&module).err().unwrap();
    let unknown = error.downcast_ref::<wasmtime::UnknownImportError>().unwrap();
    assert_eq!((unknown.module(), unknown.name()), ("keyvalue", "keyvalue::open"));
}
