//! From the entries of a slightfile to what stands behind them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::capabilities::keyvalue::backend::Backend;
use crate::capabilities::keyvalue::errors::ConfigError;
use crate::capabilities::keyvalue::grants::{Grant, Granted};
use crate::capabilities::keyvalue::memory::MemoryStores;
use crate::capabilities::keyvalue::redis::RedisBackend;

/// An entry of the slightfile, with all its values.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `keyvalue.redis`.
    pub resource: String,
    pub name: String,
    /// Where the slightfile has it; 0 where there is none.
    pub line: u64,
    pub configs: BTreeMap<String, String>,
}

/// What stands behind the entries of this family. Entries with the same configuration share one backend, and with it
/// one connection.
///
/// Fails with a line for each entry that can't be used: what, where, and what to do about it.
pub fn backends(
    slightfile: Option<String>,
    entries: Vec<Wanted>,
    memory: &MemoryStores,
) -> Result<Granted, Vec<String>> {
    let mut redis: BTreeMap<String, Arc<RedisBackend>> = BTreeMap::new();
    let mut grants = Vec::new();
    let mut problems = Vec::new();
    for entry in entries {
        match backend(&entry, memory, &mut redis) {
            Ok(backend) => {
                grants.push(Grant { name: entry.name, resource: entry.resource, line: entry.line, backend });
            }
            Err(problem) => problems.push(format!("{}{}: {problem}", place(&slightfile, entry.line), entry.resource)),
        }
    }
    if problems.is_empty() { Ok(Granted { slightfile, grants }) } else { Err(problems) }
}

fn place(slightfile: &Option<String>, line: u64) -> String {
    match slightfile {
        Some(path) if line > 0 => format!("{path}:{line}: "),
        _ => String::new(),
    }
}

fn backend(
    entry: &Wanted,
    memory: &MemoryStores,
    redis: &mut BTreeMap<String, Arc<RedisBackend>>,
) -> Result<Arc<dyn Backend>, String> {
    match entry.resource.as_str() {
        "keyvalue.memory" => Ok(Arc::new(memory.clone())),
        "keyvalue.redis" | "kv.redis" => {
            let address = entry.configs.get("REDIS_ADDRESS").map_or("", String::as_str);
            if let Some(backend) = redis.get(address) {
                return Ok(backend.clone());
            }
            let backend = RedisBackend::new(address).map_err(|ConfigError(text)| text)?;
            let backend = Arc::new(backend);
            redis.insert(address.to_string(), backend.clone());
            Ok(backend)
        }
        _ => Err("this flavour doesn't have it; build the image without --native".into()),
    }
}
