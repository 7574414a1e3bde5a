//! From the first instruction to a machine that Rust can run on: entries, what the loader tells, the payload.
