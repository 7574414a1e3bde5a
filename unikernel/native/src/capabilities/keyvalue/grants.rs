//! The stores that a guest may open: by the names that the slightfile grants, and by any name where it grants `*`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::capabilities::keyvalue::backend::Backend;
use crate::capabilities::keyvalue::errors::{Kind, StoreError};
use crate::capabilities::text::{QUOTED, quote, toml};

/// How many of the granted names whoever runs the machine is told.
const NAMES: usize = 10;

/// One entry of the slightfile, and what stands behind it.
pub struct Grant {
    pub name: String,
    /// `keyvalue.redis`.
    pub resource: String,
    /// Where the slightfile has it; 0 where there is none.
    pub line: u64,
    pub backend: Arc<dyn Backend>,
}

/// What the slightfile grants of this family, in its order.
pub struct Granted {
    /// The slightfile's path, as messages name it.
    pub slightfile: Option<String>,
    pub grants: Vec<Grant>,
}

impl Granted {
    /// What keeps the store of a name. A name of its own goes before `*`, which is no pattern within a name.
    pub fn backend(&self, name: &str) -> Result<&dyn Backend, StoreError> {
        let named = |wanted: &str| self.grants.iter().find(|grant| grant.name == wanted);
        let grant = named(name).or_else(|| named("*")).ok_or_else(|| self.refusal(name))?;
        Ok(&*grant.backend)
    }

    fn refusal(&self, name: &str) -> StoreError {
        let names: Vec<String> = self.grants.iter().map(|grant| quote(&grant.name)).collect();
        let granted = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        let wanted = quote(name);
        let place = self.slightfile.as_ref().map_or_else(String::new, |path| format!("{path}: "));
        let notice = format!(
            "{place}keyvalue: the module asked for the store {wanted}, which the slightfile does not grant (it grants \
             {}); add [[capability]]{}",
            self.names_with_lines(),
            self.keys_to_add(name),
        );
        let text = format!("no store {wanted} is granted; granted: {granted}");
        StoreError::with_notice(Kind::Unexpected, text, notice)
    }

    // For whoever runs the machine: a guest is not told where the slightfile is.

    fn names_with_lines(&self) -> String {
        let name = |grant: &Grant| match grant.line {
            0 => quote(&grant.name),
            line => format!("{} in line {line}", quote(&grant.name)),
        };
        let mut names: Vec<String> = self.grants.iter().take(NAMES).map(name).collect();
        if self.grants.len() > NAMES {
            names.push(format!("and {} more", self.grants.len() - NAMES));
        }
        if names.is_empty() { "none".to_string() } else { names.join(", ") }
    }

    /// What is to be written below a `[[capability]]` that grants the name.
    fn keys_to_add(&self, name: &str) -> String {
        let Some(first) = self.grants.first() else { return String::new() };
        let mut keys = alloc::vec![format!("resource = \"{}\"", first.resource)];
        if name.chars().count() <= QUOTED {
            keys.push(format!("name = {}", toml(name, usize::MAX)));
        }
        if first.resource.ends_with(".redis") {
            keys.push(format!("[capability.configs] as in line {}", first.line));
        }
        format!(" with {}", keys.join(" and "))
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
