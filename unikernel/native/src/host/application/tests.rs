//! With the guests in tests/guests, and nobody but the test as the launcher.

use super::*;
use crate::host::engine::{engine, start_clock};
use crate::host::guests_for_tests::module;
use crate::host::executor::{block_on, sleep, spawn, timeout};
use crate::host::output::Sink;
use crate::host::signals::Signals;
use crate::host::sync::Mutex;
use core::time::Duration;

const MANIFEST: &str = r#"{
    "flavour": "native", "slight_py": "1.0", "python": null, "wasmtime": "50.0.1", "cpu": "portable",
    "app": {"name": "app.wasm", "sha256": "00", "size": 8, "entry": "_start", "serves": false},
    "slightfile": "slightfile.toml", "specversion": "0.2", "grants": [GRANTS], "packages": {}, "needs_network": false
}"#;

const MEMORY: u64 = 64 << 20;

fn application(guest: &str, grants: &str) -> Result<Application, Mistakes> {
    let engine = engine().unwrap();
    start_clock(&engine);
    let boot = Boot { args: ["one".into()].into(), ..Boot::default() };
    let streams = Streams { stdin: None, stdout: Arc::default(), stderr: Arc::default() };
    Application::new(Parts {
        manifest: Manifest::read(MANIFEST.replace("GRANTS", grants).as_bytes()).unwrap(),
        boot,
        module: module(&engine, guest),
        streams,
        directories: Vec::new(),
        launcher: Launcher::new(None),
        memory: MEMORY,
    })
}

fn outcome(guest: &str) -> Result<u8, Mistakes> {
    let application = application(guest, "")?;
    let signals = Signals::default();
    block_on(async { timeout(Duration::from_secs(10), run(&application, &signals)).await.expect("it ends") })
}

fn mistake(text: &str) -> Result<u8, Mistakes> {
    Err(vec![text.into()])
}

#[test]
fn the_exit_code_is_the_guests() {
    assert_eq!(outcome("start"), Ok(0));
    assert_eq!(outcome("exit"), Ok(7));
    assert_eq!(outcome("main"), Ok(44));
}

#[test]
fn a_trap_ends_with_1() {
    assert_eq!(outcome("trap"), Ok(1));
}

#[test]
fn what_can_not_begin_is_a_mistake_that_is_named() {
    let signature = "app.wasm: the exported function main has another signature than an entry point";
    assert_eq!(outcome("other-main"), mistake(signature));
    let none = "app.wasm: exports none of on-server-init, _start, main; build it as a program, not as a library";
    assert_eq!(outcome("library"), mistake(none));
}

const KEYVALUE: &str = r#"{"resource": "keyvalue.memory", "family": "keyvalue", "name": "a", "line": 1, "configs": {}}"#;

#[test]
fn what_is_not_granted_can_not_be_imported() {
    let line = "app.wasm: imports keyvalue (keyvalue::open), which nothing provides; build the image again";
    assert_eq!(application("keyvalue", "").err(), Some(vec![line.into()]));
    assert!(application("keyvalue", KEYVALUE).is_ok());
}

#[test]
fn servers_are_for_those_that_http_is_granted_to() {
    let line = "app.wasm: imports http-server (router::new), which nothing provides; build the image again";
    assert_eq!(application("server", KEYVALUE).err(), Some(vec![line.into()]));
    let http = KEYVALUE.replace("keyvalue.memory", "http").replace(r#""keyvalue""#, r#""http""#);
    assert!(application("server", &http).is_ok());
}

#[test]
fn a_signal_ends_a_guest_that_computes_for_ever() {
    let application = application("endless", "").unwrap();
    let signals = Arc::new(Signals::default());
    block_on(async {
        let raised = signals.clone();
        let _task = spawn(async move {
            sleep(Duration::from_millis(20)).await;
            raised.raise(15);
        });
        assert_eq!(timeout(Duration::from_secs(10), run(&application, &signals)).await, Ok(Ok(128 + 15)));
    });
}

/// Keeps what is printed, once it may.
struct Held(Arc<Mutex<(bool, Vec<u8>)>>);

impl Sink for Held {
    async fn write(&mut self, bytes: &[u8]) -> bool {
        while !self.0.lock().0 {
            sleep(Duration::from_millis(1)).await;
        }
        self.0.lock().1.extend_from_slice(bytes);
        true
    }
}

#[test]
fn a_program_has_ended_when_what_it_printed_is_out() {
    let application = application("arguments", "").unwrap();
    let held = Arc::new(Mutex::new((false, Vec::new())));
    let signals = Signals::default();
    block_on(async {
        let _pump = spawn(application.streams.stdout.clone().pump(Held(held.clone())));
        assert!(timeout(Duration::from_millis(20), run(&application, &signals)).await.is_err());
        held.lock().0 = true;
        timeout(Duration::from_secs(10), application.streams.stdout.out()).await.unwrap();
        assert_eq!(held.lock().1, b"app.wasm\0one\0");
    });
}
