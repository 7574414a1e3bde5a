//! What runs the application: tasks and timers, the control channel, wasmtime, WASI, instances.
