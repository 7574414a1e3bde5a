//! With the guests in tests/guests.

use std::string::ToString;
use std::time::Instant;

use alloc::sync::Arc;
use core::pin::pin;
use core::time::Duration;

use wasmtime::Engine;

use super::*;
use crate::bindings::canonical_abi as abi;
use crate::host::engine::{engine, start_clock};
use crate::host::guests_for_tests::module;
use crate::host::executor::{Elapsed, block_on, sleep, spawn, timeout};
use crate::host::output::Output;
use crate::host::platform;
use crate::host::wasi::Context;

/// A program with a clock that takes turns.
fn program(guest: &str, limits: Limits) -> Program {
    let engine: Engine = engine().unwrap();
    start_clock(&engine);
    let module = module(&engine, guest);
    let hosts = Arc::new(Hosts { stores: None, serves: false, servers: None });
    let output = Arc::new(Output::default());
    let args = ["app.wasm".to_string()];
    let context = Context::new(&args, &[], None, [output.clone(), output], alloc::vec::Vec::new());
    let linker = linker(&engine, &module, &hosts).unwrap();
    Program::new(&module, &linker, hosts, Arc::new(context), limits).unwrap()
}

async fn call(program: &Program, name: &str) -> Result<i32, Ended> {
    let mut running = program.instantiate().await?;
    let Running { store, instance, .. } = &mut running;
    let function = abi::export::<_, (), i32>(store, instance, name)?;
    Ok(abi::call(store, &function, ()).await?)
}

/// What a function of bodies.wat gives, with two pages of memory and 100 elements of tables.
fn outcome(name: &str) -> Result<i32, Ended> {
    block_on(call(&program("bodies", Limits { memory: 2 << 16, table_elements: 100, ..Limits::default() }), name))
}

fn trap(text: &str) -> Result<i32, Ended> {
    Err(Ended::Trap(text.into()))
}

#[test]
fn traps_are_told_in_the_engines_words() {
    let cases = [
        ("unreachable", "wasm trap: wasm `unreachable` instruction executed"),
        ("divide-by-zero", "wasm trap: integer divide by zero"),
        ("load-past-the-end", "wasm trap: out of bounds memory access"),
        ("recurse", "wasm trap: call stack exhausted"),
    ];
    for (name, text) in cases {
        assert_eq!(outcome(name), trap(text));
    }
}

#[test]
fn a_guest_ends_itself_with_a_code_up_to_125() {
    assert_eq!(outcome("exit-125"), Err(Ended::Exit(125)));
    assert_eq!(outcome("exit-126"), trap("exit with invalid exit status outside of [0..126)"));
}

#[test]
fn memory_and_tables_grow_to_their_limits() {
    assert_eq!(outcome("grow-by-1-page"), Ok(1));
    assert_eq!(outcome("grow-by-2-pages"), Ok(-1));
    assert_eq!(outcome("grow-by-99-elements"), Ok(1));
    assert_eq!(outcome("grow-by-100-elements"), Ok(-1));
}

#[test]
fn a_module_that_begins_past_the_limit_is_not_instantiated() {
    let ended = block_on(call(&program("large", Limits { memory: 2 << 16, ..Limits::default() }), "run"));
    assert_eq!(ended, Err(Ended::Invalid("memory minimum size of 3 pages exceeds memory limits".into())));
}

#[test]
fn there_are_so_many_instances_at_once_and_no_more() {
    let program = program("bodies", Limits { instances: 2, ..Limits::default() });
    block_on(async {
        let first = program.instantiate().await.unwrap();
        let _second = program.instantiate().await.unwrap();
        assert_eq!(program.instantiate().await.err(), Some(Ended::Trap("all 2 instances are in use".into())));
        drop(first);
        assert_eq!(call(&program, "five").await, Ok(5));
    });
}

#[test]
fn a_reactor_is_initialized_before_its_first_call() {
    assert_eq!(block_on(call(&program("reactor", Limits::default()), "run")), Ok(9));
}

#[test]
fn a_guest_that_computes_for_ever_is_ended_by_the_time_limit() {
    let program = program("endless", Limits::default());
    let began = Instant::now();
    assert_eq!(block_on(timeout(Duration::from_millis(50), call(&program, "run"))), Err(Elapsed));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn guests_that_compute_hold_up_nobody_for_longer_than_a_few_turns() {
    let program = Arc::new(program("endless", Limits::default()));
    block_on(async {
        let computing: alloc::vec::Vec<_> = (0..20)
            .map(|_| {
                let program = program.clone();
                spawn(async move { call(&program, "run").await })
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

#[test]
fn guests_that_wait_wait_at_the_same_time() {
    let program = Arc::new(program("waiting", Limits::default()));
    let began = Instant::now();
    block_on(async {
        let tasks: alloc::vec::Vec<_> = (0..50)
            .map(|_| {
                let program = program.clone();
                spawn(async move { call(&program, "for-100-milliseconds").await })
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
    let program = program("waiting", Limits { instances: 1, ..Limits::default() });
    for _ in 0..3 {
        assert_eq!(block_on(timeout(Duration::from_millis(10), call(&program, "for-an-hour"))), Err(Elapsed));
    }
}

const SHORTAGE: &str = "the machine has no memory left for the guest; give it more with --memory";

#[test]
fn memory_that_runs_short_ends_the_guest_whose_turn_it_is() {
    let ends = || async {
        platform::run_short();
        Ok(5)
    };
    let waits = || async {
        platform::run_short();
        core::future::pending().await
    };
    block_on(async {
        assert_eq!(or_shortage(pin!(ends())).await, trap(SHORTAGE));
        assert_eq!(or_shortage(pin!(waits())).await, trap(SHORTAGE));
    });
}

#[test]
fn memory_that_ran_short_before_its_turn_does_not_end_a_guest() {
    let program = program("bodies", Limits::default());
    platform::run_short();
    assert_eq!(block_on(or_shortage(pin!(call(&program, "five")))), Ok(5));
}

#[test]
fn a_guest_waits_until_there_is_memory_for_it() {
    platform::set_room(false);
    block_on(async {
        assert_eq!(timeout(Duration::from_millis(50), room()).await, Err(Elapsed));
        let waiting = spawn(room());
        sleep(Duration::from_millis(30)).await;
        platform::set_room(true);
        assert_eq!(timeout(Duration::from_secs(10), waiting).await, Ok(()));
    });
}

#[test]
fn a_guest_gets_no_answer_when_memory_has_run_short() {
    let program = program("waiting", Limits::default());
    let called = block_on(async {
        let mut running = program.instantiate().await?;
        let Running { store, instance, .. } = &mut running;
        let function = abi::export::<_, (), i32>(store, instance, "for-an-hour")?;
        platform::run_short();
        Ok(timeout(Duration::from_secs(10), abi::call(store, &function, ())).await.expect("it ends")?)
    });
    assert_eq!(called, trap(SHORTAGE));
}

#[test]
fn an_import_that_nothing_provides_is_named() {
    let engine = engine().unwrap();
    let module = module(&engine, "keyvalue");
    let hosts = Hosts { stores: None, serves: false, servers: None };
    let linker = linker(&engine, &module, &hosts).unwrap();
    let error = linker.instantiate_pre(&module).err().unwrap();
    let unknown = error.downcast_ref::<wasmtime::UnknownImportError>().unwrap();
    assert_eq!((unknown.module(), unknown.name()), ("keyvalue", "keyvalue::open"));
}
