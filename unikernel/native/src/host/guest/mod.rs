//! Guests: a program, its instances, what answers their imports, what each of them may take, and how they end.

mod data;
mod ended;
mod link;
mod program;
mod shortage;

pub use data::{Data, Limits};
pub use ended::{Ended, Exit, Mistake};
pub use link::{Hosts, linker};
pub use program::{Program, Running};
pub use shortage::{or_shortage, room};

#[cfg(all(test, feature = "guests"))]
mod tests;
