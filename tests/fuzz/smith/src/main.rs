//! Modules for tests/fuzz: `smith SEED` writes a new one to standard output, `smith SEED MODULE` a mutation of the file
//! MODULE. The same seed gives the same bytes. Exit code 1 where there is no such mutation.

use std::io::Write;
use std::process::ExitCode;

use wasm_mutate::WasmMutate;
use wasm_smith::{Config, Module};

/// Bytes of a deterministic generator (SplitMix64), for wasm-smith to make its decisions from.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes
}

fn generated(seed: u64) -> Option<Vec<u8>> {
    let bytes = noise(seed, 2048 + (seed % 8) as usize * 1024);
    let mut unstructured = arbitrary::Unstructured::new(&bytes);
    let mut config = Config {
        max_funcs: 40,
        max_instructions: 400,
        max_imports: if seed % 2 == 0 { 0 } else { 10 },
        max_memories: 1,
        ..Config::default()
    };
    // Every third one has the features that the engine may refuse; the others should get as far as running.
    let all = seed % 3 == 0;
    config.gc_enabled = all;
    config.exceptions_enabled = all;
    config.simd_enabled = seed % 3 != 1;
    config.relaxed_simd_enabled = all;
    config.memory64_enabled = all;
    config.threads_enabled = all;
    config.reference_types_enabled = all;
    config.tail_call_enabled = true;
    config.export_everything = seed % 4 == 0;
    Some(Module::new(config, &mut unstructured).ok()?.to_bytes())
}

fn mutated(seed: u64, path: &str) -> Option<Vec<u8>> {
    let wasm = std::fs::read(path).ok()?;
    let mut mutate = WasmMutate::default();
    mutate.seed(seed).preserve_semantics(false).fuel(1000);
    let found = mutate.run(&wasm).ok()?.next()?.ok();
    found
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let Some(seed) = words.get(1).and_then(|word| word.parse().ok()) else {
        eprintln!("usage: smith SEED [MODULE]");
        return ExitCode::from(2);
    };
    let found = match words.get(2) {
        None => generated(seed),
        Some(path) => mutated(seed, path),
    };
    match found {
        Some(wasm) if std::io::stdout().write_all(&wasm).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}
