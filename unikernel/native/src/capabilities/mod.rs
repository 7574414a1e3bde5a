//! What applications ask for: keyvalue, HTTP.

pub mod notices;
pub mod text;
