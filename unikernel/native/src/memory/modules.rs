//! Modules that were compiled ahead of time: what wasmtime has to be told about the processor, and how one is loaded.

use core::ptr::NonNull;

use wasmtime::{Config, Engine, Module, Result};

/// Says what the processor has, and how the machine gives memory.
pub fn prepare(config: &mut Config) {
    #[cfg(target_os = "none")]
    {
        use alloc::sync::Arc;

        use super::{code, guests, stacks};

        config.with_host_stack(Arc::new(stacks::Creator));
        config.with_host_memory(Arc::new(guests::Creator));
        config.with_custom_code_memory(Some(Arc::new(code::Publisher)));
        // SAFETY: `has` asks the processor.
        unsafe { config.detect_host_feature(has) };
        // SAFETY: modules are compiled for a processor with SSE4.1 and without FMA (slight_py/ahead.py), which leaves no
        // operation on floats that the code would call this kernel for: it is compiled for other registers of floats.
        unsafe { config.x86_float_abi_ok(true) };
    }
    #[cfg(not(target_os = "none"))]
    let _ = config; // wasmtime's library has it for an operating system
}

/// Whether the processor has a feature, by the name that Rust has for it. Those that need an operating system's help,
/// such as AVX, are not used.
#[cfg(target_os = "none")]
fn has(feature: &str) -> Option<bool> {
    use crate::cpu::features;

    let known = match feature {
        "sse3" => features::SSE3,
        "ssse3" => features::SSSE3,
        "sse4.1" => features::SSE4_1,
        "sse4.2" => features::SSE4_2,
        "popcnt" => features::POPCNT,
        "cmpxchg16b" => features::CMPXCHG16B,
        _ => return Some(false),
    };
    Some(known.is_there())
}

/// Loads a module that `slight-py image build` compiled.
///
/// Fails where it was compiled by another version of wasmtime or with other settings, or for a processor with more
/// features than this one. It must have been compiled by wasmtime: it is machine code.
pub fn load(engine: &Engine, compiled: NonNull<[u8]>) -> Result<Module> {
    // SAFETY: the image builder put there what wasmtime has compiled, at the beginning of a page, and nothing else refers
    // to it; RAM stays where it is. An image is trusted as a kernel is.
    #[cfg(target_os = "none")]
    return unsafe { Module::deserialize_raw(engine, compiled) };
    // An operating system makes memory of its own executable.
    // SAFETY: the same, and the bytes are copied.
    #[cfg(not(target_os = "none"))]
    return unsafe { Module::deserialize(engine, compiled.as_ref()) };
}
